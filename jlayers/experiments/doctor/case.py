"""The record that every check is given: an experiment, and what several checks need to know of it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.masks import values_of
from jlayers.core.tree import flatten
from jlayers.data.batches import ArrayBatches, Batch, as_data, map_arrays, rows_of
from jlayers.data.gate import convert, leaves
from jlayers.data.lazy import is_lazy, take_rows
from jlayers.inspect.flops import flops
from jlayers.losses.base import Loss
from jlayers.train.measures import seen
from jlayers.train.objective import Supervised
from jlayers.train.state import TrainState, inputs_of
from jlayers.train.tasks import Review
from jlayers.train.trainer import Trainer

__all__ = ["Case", "Cut", "Target", "as_held"]

SAMPLE, LEAST = 512, 16  # rows that pass through the model at once
ELEMENTS = 2**22  # numbers in them, at most
WORK = 2**35  # floating-point operations of a pass, at most: about a second of a few cores


def as_held(tree: Any) -> Any:
    """NumPy arrays in the dtypes of JAX, with NaN and all else that `fit` refuses; lazy ones stay."""

    def read(array: Any) -> Any:
        if is_lazy(array):
            return array
        array = np.asarray(array)
        known = array.dtype.kind in "iufc"
        return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False) if known else array

    return map_arrays(read, as_data(tree))


@dataclasses.dataclass(frozen=True)
class Target:
    """The targets of one output, and its loss.

    Attributes:
        where: "y", or "y['name']".
        loss: the record of the loss.
        y: NumPy, samples first.
        output: shape and dtype of the output, as specs.
        place: place of the output among all.
    """

    where: str
    loss: Loss
    y: np.ndarray
    output: Any
    place: int = 0

    @property
    def classes(self) -> int | None:
        """The number of classes that the output tells apart; None if it does something else."""
        if self.loss.from_logits is None or self.loss.binary or self.output.shape[-1] < 2:
            return None
        return self.output.shape[-1]

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """One class number for each sample, `(samples,)`; None if the targets are something else."""
        y = self.y[:, 0] if self.y.ndim == 2 and self.y.shape[1] == 1 else self.y
        if self.loss.binary and y.ndim == 1 and np.isin(y, (0, 1)).all():
            return y.astype(np.int64)
        if self.classes is None:
            return None
        if y.ndim == 1 and y.dtype.kind in "iu":
            return y.astype(np.int64)
        hot = y.ndim == 2 and y.shape[1] == self.classes and np.isin(y, (0, 1)).all()
        return y.argmax(1) if hot and (y.sum(1) == 1).all() else None


@dataclasses.dataclass(frozen=True)
class Cut:
    """The whole training behind a case of features.

    Attributes:
        steps: steps of it.
        rows: samples that have features in the case; perhaps not all of them.
        seconds: that the features of all samples take, once.
    """

    steps: int
    rows: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An experiment to look at. Nothing in it is changed by a check.

    Attributes:
        trainer: model, task or tasks, losses and optimizer.
        x: what is trained on: NumPy arrays or `LazyArray`s, samples first, in a tuple or dict if several.
        y: targets, or None.
        held_out: other samples `(x, y)` by the name of their part.
        batch_size: batch size of the training.
        epochs: that the training would take.
        shuffle: whether its order is drawn anew in each epoch.
        seed: seed of the weights and the order.
        weighed: True if samples or classes have weights.
        class_names: what labels stand for, or None.
        given: weights to start from, or None for fresh ones.
        cache_features: whether the training computes only once what frozen layers give.
        cut: the whole training, for a case whose samples are the features of frozen layers.
        seconds: how long the checks that train may take, each.
    """

    trainer: Trainer
    x: Any
    y: Any = None
    held_out: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    batch_size: int = 32
    epochs: int = 10
    shuffle: bool = True
    seed: int = 0
    weighed: bool = False
    class_names: Sequence[str] | None = None
    given: TrainState | None = None
    cache_features: bool = False
    cut: Cut | None = None
    seconds: float = 10.0

    # ------------------------------------------------------------------------------------- the data

    @functools.cached_property
    def rows(self) -> int:
        return rows_of(x=self.x, y=self.y)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.cut.steps if self.cut else self.epochs * math.ceil(self.rows / self.batch_size)

    @functools.cached_property
    def parts(self) -> dict[str, tuple[Any, Any]]:
        """All samples by the name of their part: "training", and what is held out."""
        return {"training": (self.x, self.y), **self.held_out}

    def arrays_by_name(self, tree: Any, name: str) -> dict[str, Any]:
        """The arrays of a tree by their names in messages, such as `x['image']`."""
        return dict(leaves(tree, name))

    def without(self, bad: Mapping[str, np.ndarray]) -> Case:
        """The case without the samples that are marked, by the names of the parts."""

        def without_marked(name: str, part: tuple[Any, Any]) -> tuple[Any, Any]:
            if name not in bad or not bad[name].any():
                return part
            good = np.flatnonzero(~bad[name])
            return map_arrays(lambda a: take_rows(a, good), part[0]), map_arrays(
                lambda a: take_rows(a, good), part[1]
            )

        x, y = without_marked("training", (self.x, self.y))
        held_out = {name: without_marked(name, part) for name, part in self.held_out.items()}
        return dataclasses.replace(self, x=x, y=y, held_out=held_out)

    def sample(self, rows: int, part: str = "training") -> Batch:
        """So many samples, drawn by the seed, in memory; all if there are no more."""
        x, y = self.parts[part]
        count = rows_of(x=x, y=y)
        which = np.arange(count)
        if count > rows:
            which = np.sort(np.random.default_rng([self.seed, 7]).permutation(count)[:rows])

        def read(array: Any) -> Any:
            return convert("x", array.take(which) if is_lazy(array) else np.asarray(array)[which])

        return Batch(map_arrays(read, x), map_arrays(read, y))

    @functools.cached_property
    def some(self) -> Batch:
        """Samples to send through the model, as many as say something and cost little."""
        if any(layer.pair.carries for model in self.models for _, layer in model.walk()):
            return self.first
        each = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(self.x))
        rows = int(np.clip(ELEMENTS // max(each, 1), min(self.batch_size, 64), SAMPLE))
        return self.sample(min(rows, max(LEAST, int(WORK // self.work))))

    @functools.cached_property
    def work(self) -> float:
        """The floating-point operations that a forward pass takes for each sample; at least 1."""
        tasks = self.trainer.tasks

        def forward(params: Any, state: Any, batch: Batch, key: Any) -> Any:
            made = [u.task.loss(params, state, batch, tasks.key_of(u, key), True)[0] for u in tasks.updates]
            return [loss.total for loss in made]

        key = self.state.key if tasks.draws else None
        total = flops(forward, self.state.params, self.state.state, self.first, key)
        return max(1.0, total / rows_of(x=self.first.x))

    @functools.cached_property
    def batches(self) -> ArrayBatches:
        """The training's batches, in its order."""
        return ArrayBatches(self.x, self.y, batch_size=self.batch_size, shuffle=self.shuffle, seed=self.seed)

    @functools.cached_property
    def first(self) -> Batch:
        """The first batch, as every form is learned from it."""
        return self.batches.first()

    # ------------------------------------------------------------------------------------ the model

    @property
    def models(self) -> list[Any]:
        return self.trainer.tasks.models

    @functools.cached_property
    def fresh(self) -> TrainState:
        """The state with fresh weights."""
        return self.trainer.init(jax.random.key(self.seed), self.first)

    @functools.cached_property
    def state(self) -> TrainState:
        """The state that the training begins with."""
        return self.fresh if self.given is None else self.given

    @functools.cached_property
    def _loaded_arrays(self) -> list[str]:
        """The arrays that start with other numbers than fresh ones."""
        if self.given is None:
            return []
        fresh, given = flatten(self.fresh.params), flatten(self.state.params)
        return [name for name in given if not np.array_equal(fresh[name], given[name])]

    def is_given(self, path: str) -> bool:
        """True if a layer starts with other weights than fresh ones."""
        below = f"{path.partition('@')[0]}/" if path else ""
        return any(name.startswith(below) for name in self._loaded_arrays)

    @functools.cached_property
    def review(self) -> Review:
        """Facts about a batch from a trace with the model; errors of shapes arise here."""
        return self.trainer.tasks.review(self.state.params, self.state.state, self.first)

    @functools.cached_property
    def _forward(self) -> Any:
        model = self.task.model

        def forward(params: Any, state: Any, x: Any, factor: Any) -> Any:
            def scaled(a: Any) -> Any:
                return a * factor.astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

            made = model.keyed(params, state, *inputs_of(jax.tree.map(scaled, x)))[0]
            return jax.tree.leaves([values_of(output) for output in seen(made)])

        return jax.jit(forward)

    def outputs(self, factor: float = 1.0) -> list[np.ndarray]:
        """The outputs of a supervised training's model for `some`, with its inputs times a factor."""
        state = self.state
        return jax.device_get(self._forward(state.params, state.state, self.some.x, np.float32(factor)))

    @property
    def task(self) -> Any:
        """The only task, or None if there are several."""
        updates = self.trainer.updates
        return updates[0].task if len(updates) == 1 else None

    @functools.cached_property
    def targets(self) -> list[Target]:
        """The targets of a supervised training, for each output that has a loss."""
        return self.targets_of(self.y)

    def targets_of(self, y: Any) -> list[Target]:
        """The same for other samples."""
        task = self.task
        if not isinstance(task, Supervised) or y is None:
            return []
        outputs = self.review.losses[""].outputs
        names, losses, _ = task.judges(outputs)
        made = zip(names, losses, task.targets(outputs, y), seen(outputs), strict=True)
        return [
            Target(
                "y" if name is None else f"y[{name!r}]", loss, np.asarray(target), values_of(output), place
            )
            for place, (name, loss, target, output) in enumerate(made)
            if loss is not None and target is not None
        ]
