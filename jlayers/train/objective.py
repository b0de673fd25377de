"""The supervised task: losses applied to a model's outputs.

A model has one output, a list of them, or a dict. Losses, loss weights, metrics, targets and sample weights
are given in the same structure, or by output name, as in Keras.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers import losses
from jlayers.core.errors import about, concerning, refused
from jlayers.core.layer import Layer
from jlayers.core.masks import Masked, mask_of, values_of
from jlayers.core.shapes import as_spec, describe
from jlayers.data.batches import Batch
from jlayers.losses.base import Loss as Record
from jlayers.losses.base import as_loss, match_axis, wide
from jlayers.metrics.base import beside, product, ratio, spread
from jlayers.train.endings import TracedCall, check_ending, check_shares, observed_calls
from jlayers.train.measures import (
    by_output,
    output_names,
    resolved,
    seen,
    values,
    weights_by_output,
)
from jlayers.train.state import inputs_of
from jlayers.train.task import Loss, Part, Task, row_count

__all__ = ["Supervised"]


class Supervised(Task):
    """A model trained toward targets: the task of `jl.compile(model, loss=...)`.

    Args:
        model: any layer. Its parameters and state are those of the task.
        loss: by name or object; for several outputs a list or a dict by output name.
        loss_weights: factors of the outputs' losses.
        named: further names of outputs, as metrics use them. The path of a layer inside the model makes its
            output one more.
    """

    def __init__(self, model: Layer, loss: Any, loss_weights: Any = None, named: Iterable[str] = ()):
        super().__init__({"": model})
        self.model = model
        with concerning(loss=loss):
            self.losses = resolved(loss, losses.registry, losses.registry.get)
        self.loss_weights = loss_weights
        names = [*(loss if isinstance(loss, Mapping) else ()), *named]
        paths = {path for path, _ in model.walk() if path}
        self.inner = [
            path for path in dict.fromkeys(names) if path in paths and path not in self._own_names()
        ]
        self._looked = False
        self._predicted = jax.jit(lambda params, state, x: model.keyed(params, state, *inputs_of(x))[0])

    def init(self, key: Any, batch: Batch) -> tuple[Any, Any]:
        return self.model.init(key, *map(as_spec, inputs_of(batch.x)))

    @property
    def draws(self) -> bool:
        return self.model.draws

    @property
    def always_draws(self) -> bool:
        return False

    def loss(self, params: Any, state: Any, batch: Batch, key: Any, train: bool) -> tuple[Loss, Any]:
        with observed_calls() if self.inner else contextlib.nullcontext([]) as calls:
            y_pred, moved = self.model.apply(
                params, state, *inputs_of(batch.x), key=key if self.draws else None, train=train
            )
        if self.inner:
            y_pred = self._with_inner(y_pred, calls)
        return self.with_extras(self.judge(y_pred, batch), params, moved, batch), moved

    def _own_names(self) -> Sequence[str]:
        """The names of the model's outputs, as far as they are known before it runs."""
        return self.output_names or ()

    def _with_inner(self, y_pred: Any, calls: Sequence[TracedCall]) -> dict[str, Any]:
        """The outputs by name, those of the inner layers among them."""
        names = output_names(y_pred, self.output_names)
        by_name = {name or "output": value for name, value in zip(names, values(y_pred), strict=True)}
        for inner in self.inner:
            outputs = [output for path, _, _, output in calls if path == inner]
            if inner not in by_name and len(outputs) != 1:
                error = ValueError(
                    f"expected a layer that runs once for the loss or metric of {inner!r}, received one that "
                    f"runs {len(outputs)} times"
                )
                raise about(error, inner, loss=self.losses)
            by_name.setdefault(inner, *outputs[:1])
        return by_name

    def judge(self, y_pred: Any, batch: Batch) -> Loss:
        """The losses of predictions, without what layers add."""
        names, judges, factors = self.judges(y_pred)
        outputs, targets = seen(y_pred), self.targets(y_pred, batch.y)
        weights = weights_by_output(names, batch.weight)
        rows = row_count(batch)
        total, parts = None, {}
        for i, (loss, factor) in enumerate(zip(judges, factors, strict=True)):
            if loss is None:
                continue
            if targets[i] is None:
                error = ValueError(
                    f"expected targets for the output {names[i]!r}, received None"
                    if names[i]
                    else "expected targets y for the model's loss, received y=None"
                )
                raise about(error, y=batch.y)
            with concerning(*self._place(names, i), loss=self.losses):
                mean, count = mean_of(loss, targets[i], outputs[i], weights[i], batch.mask, rows)
            parts["loss" if len(names) == 1 else f"{names[i]}_loss"] = Part.of(mean, count, factor)
            share = mean if factor == 1.0 else factor * mean
            total = share if total is None else total.astype(_wider(total, share)) + share
        counts = [part.count for part in parts.values()]
        named = dict(zip(names, targets, strict=True)) if isinstance(y_pred, Mapping) else targets
        return Loss(total, parts, y_pred, counts[0] if len(counts) == 1 else rows, named)

    def _place(self, names: Sequence[str | None], i: int) -> tuple[str | int, ...]:
        """The key of an output's loss in what was given as `loss`."""
        if isinstance(self.losses, Mapping):
            return (names[i] or "output",)
        return (i,) if isinstance(self.losses, (list, tuple)) else ()

    def targets(self, y_pred: Any, y: Any) -> list[Any]:
        """The targets as a list over the outputs; those without a loss may be left out."""
        names, judges, _ = self.judges(y_pred)
        arrays = None if isinstance(y, Mapping) else values(y)
        judged = [i for i, loss in enumerate(judges) if loss is not None]
        if arrays is not None and len(arrays) != len(names) and len(arrays) == len(judged):
            y = dict(zip([names[i] for i in judged], arrays, strict=True))
            targets = [y.get(name) for name in names]
        else:
            targets = by_output(names, y, "y")
        return [match_axis(t, values_of(p)) for t, p in zip(targets, values(y_pred), strict=True)]

    def judged(self, y_pred: Any, y: Any) -> list[tuple[str, Record | None, Any, Any]]:
        """By output: its name, or nothing for a single one, its loss, its targets and its predictions."""
        names, judges, _ = self.judges(y_pred)
        parts = zip(names, judges, self.targets(y_pred, y), seen(y_pred), strict=True)
        return [(name or "", judge, target, output) for name, judge, target, output in parts]

    def check(self, batch: Batch, loss: Loss) -> None:
        y_pred = loss.outputs
        _, judges, _ = self.judges(y_pred)
        for judge, target, output in zip(judges, self.targets(y_pred, batch.y), seen(y_pred), strict=True):
            if isinstance(target, np.ndarray) and judge is not None and judge.check is not None:
                judge.check(target, values_of(output))

    def check_endings(self, loss: Loss, endings: Sequence[Any]) -> None:
        _, judges, _ = self.judges(loss.outputs)
        for judge, ending, output in zip(judges, endings, values(loss.outputs), strict=True):
            if judge is not None:
                check_ending(judge, ending, values_of(output))

    def check_predictions(self, params: Any, state: Any, batch: Batch, endings: Sequence[Any]) -> None:
        """Look once at predictions that should be probabilities, where the ending does not tell."""
        if self._looked or self.inner or None not in endings:
            return
        _, judges, _ = self.judges(jax.eval_shape(self._predicted, params, state, batch.x))
        has_ending = [ending is not None or judge is None or judge.from_logits is not False
                for judge, ending in zip(judges, endings, strict=True)]  # fmt: skip
        if not all(has_ending):
            outputs = values(self._predicted(params, state, batch.x))
            for judge, output, settled in zip(judges, outputs, has_ending, strict=True):
                if judge is not None and not settled:
                    check_shares(judge, output)
        self._looked = True

    def metric(self, outputs: Any, i: int, metric: Any) -> Any:
        return beside(self.judges(outputs)[1][i], metric)

    @property
    def output_names(self) -> list[str] | None:
        """The names of a list of outputs: those of a graph's nodes, as in Keras."""
        names = self.model.output_names
        return None if names is None else list(names)

    def judges(self, y_pred: Any) -> tuple[Sequence[str | None], list[Record | None], list[float]]:
        """By output: its name, its loss or None, and the factor of the loss."""
        names = output_names(y_pred, self.output_names)
        single = self.losses is None or callable(self.losses)
        chosen = [self.losses] * len(names) if single else by_output(names, self.losses, "loss")
        if not any(chosen):
            raise refused(ValueError, "expected a loss for at least one output", loss=self.losses)
        weights = self.loss_weights
        if weights is not None and np.ndim(weights) == 0 and not isinstance(weights, Mapping):
            weights = [weights]
        factors = [1.0] * len(names) if weights is None else by_output(names, weights, "loss_weights")
        with concerning(loss=self.losses):
            judges = [None if loss is None else as_loss(loss) for loss in chosen]
        return names, judges, [1.0 if factor is None else float(factor) for factor in factors]


def _wider(a: jax.Array, b: jax.Array) -> Any:
    return jnp.promote_types(a.dtype, b.dtype)


def mean_of(
    loss: Record, y_true: Any, y_pred: Any, weight: Any, mask: Any, rows: Any
) -> tuple[jax.Array, jax.Array]:
    """Keras's mean and what it is a mean of: the weighted sum over the number of real values.

    Sample weights are not in the denominator. Of a `Masked` prediction only the real positions count.
    """
    y_pred, real = values_of(y_pred), mask_of(y_pred)
    losses = loss(y_true, y_pred, mask)
    if losses.ndim == 0 and (weight is not None or mask is not None or real is not None):
        error = ValueError(
            f"expected a loss with a value per sample, for weights and masks, received a scalar from "
            f"{loss.name}"
        )
        raise about(error, loss=loss)
    if real is not None and (loss.across_rows or real.ndim > losses.ndim):
        error = ValueError(
            f"expected a loss with a value per position of the masked predictions "
            f"{describe(Masked(y_pred, real))}, received {describe(losses)} from {loss.name}; put "
            f"jl.DropMask() at the model's end to do without the mask"
        )
        raise about(error, loss=loss)
    losses = losses.astype(wide(losses.dtype))
    counts = loss.counted(y_true, y_pred, mask)
    counted = product(mask, real)
    counted = None if counted is None else spread(counted, losses)
    if counts is not None:
        counted = product(counted, counts.astype(jnp.float32))
    if weight is not None:
        losses = losses * spread(weight, losses).astype(losses.dtype)
    if counted is None:
        return losses.mean(), jnp.float32(losses.size) if losses.ndim else rows
    counted = counted.astype(losses.dtype)
    if real is not None:  # padding may hold anything
        losses = jnp.where(counted != 0, losses, 0)
    return ratio((losses * counted).sum(), counted.sum()), counted.sum()
