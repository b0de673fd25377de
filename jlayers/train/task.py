"""A task: how parameters are made, and how a batch becomes a loss.

Everything else in training, gradients, updates, metrics, the loop, is the same for each task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec, describe
from jlayers.core.spelling import nearest
from jlayers.core.state import AUX_METRICS, is_aux_loss, is_aux_metric
from jlayers.core.tree import flatten, map_with_path, match
from jlayers.core.wiring import as_layer, child_key, routed
from jlayers.data.batches import Batch
from jlayers.transform.freeze import trainable_mask

__all__ = ["Loss", "LossValue", "Part", "Task"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Part:
    """A mean as what it is made of, so that means of several batches can be joined.

    Attributes:
        total: the sum of the values.
        count: how many values, or the sum of their weights.
        factor: the share with which the mean enters the loss in the logs.
    """

    total: Any
    count: Any
    factor: float = dataclasses.field(default=0.0, metadata={"static": True})

    @classmethod
    def of(cls, mean: Any, count: Any, factor: float = 0.0) -> Part:
        """The part whose mean this is."""
        mean = jnp.asarray(mean)
        return cls(mean * jnp.asarray(count, mean.dtype), count, factor)


class LossValue(NamedTuple):
    """The loss of one batch: what a task's function returns.

    `jl.losses.Loss` is something else: a loss as a function of targets and predictions.

    Attributes:
        total: the scalar that is minimized, a mean over the batch.
        parts: by their names in the logs: scalars that are means over the batch, or a `Part`.
        outputs: outputs of the model, for metrics; None if there are none.
        count: how many values `total` is a mean of; the rows of the batch if it is not given.
        targets: what metrics compare the outputs with; those of the batch if not given.
    """

    total: Any
    parts: Mapping[str, Any] = {}
    outputs: Any = None
    count: Any = None
    targets: Any = None


Loss = LossValue  # the shorter name, as `jl.Loss`


class Task:
    """Models and a function from a batch to a loss; `fit` trains it like any model.

    Args:
        models: layers by name. Parameters and states are dicts by these names.
        loss: `loss(call, batch, key)`, which returns a `LossValue` or a scalar. `call(name, *inputs)` runs a
            model; `key` is for what the function draws itself, and None where no key was given. Which model
            runs on what is learned from a trace of the function, so no shapes need to be declared.
        trains: patterns of the paths that are trained, such as "generator" or "encoder/**"; all if not
            given. Frozen layers are never trained.

    Penalties, `aux_loss`, `aux_metrics`, constraints and frozen layers of the models count as in a supervised
    training. Your own class may override `init` and `loss`.

    >>> import jax, numpy as np, jlayers as jl
    >>> def reconstruction(call, batch, key):
    ...     code = call("encoder", batch.x)
    ...     return jax.numpy.square(call("decoder", code) - batch.x).mean()
    >>> task = jl.Task({"encoder": jl.Dense(2), "decoder": jl.Dense(4)}, reconstruction)
    >>> state, history = jl.fit(jl.compile(task, "adam"), np.ones((8, 4), np.float32))
    >>> sorted(state.params), list(history)
    (['decoder', 'encoder'], ['loss'])
    """

    def __init__(
        self,
        models: Mapping[str, Layer] | None = None,
        loss: Callable[..., Any] | None = None,
        trains: str | Sequence[str] = (),
    ):
        if loss is not None and not callable(loss):
            raise refused(
                TypeError, "expected a function loss(call, batch, key)", raised_by="Task", loss=loss
            )
        if models is not None and not isinstance(models, Mapping):
            raise refused(
                TypeError,
                "expected the models by name",
                raised_by="Task",
                instead="write jl.Task({'model': model}, loss), and call('model', x) in the loss",
                models=models,
            )
        self.models = {name: as_layer(model, f"Task: {name}") for name, model in (models or {}).items()}
        self.function = loss
        self.trains = (trains,) if isinstance(trains, str) else tuple(trains)
        paths = [path for path, _ in self._walk()]
        for pattern in self.trains:
            if not match(pattern, paths):
                raise ValueError(
                    f"Task: the pattern {pattern!r} in trains matches no layer: {nearest(pattern, paths)}"
                )

    # ------------------------------------------------------------------------------- what a task says

    def init(self, key: Any, batch: Batch) -> tuple[Any, Any]:
        """Parameters and state, for batches like this one (arrays or specs)."""
        init, _ = self._pair(jax.random.key(0), train=False)
        return init(key, batch.x, batch.y, batch.weight)

    def loss(self, params: Any, state: Any, batch: Batch, key: Any, train: bool) -> tuple[LossValue, Any]:
        """The loss of a batch, and the state after it; pure."""
        _, apply = self._pair(child_key(key, "loss"), train)
        loss, moved = apply(params, *batch[:3], state=state, key=key, train=train)
        return self.with_extras(
            loss if isinstance(loss, LossValue) else LossValue(loss), params, moved, batch
        ), moved

    def check(self, batch: Batch, loss: LossValue) -> None:
        """Look over the values of a batch on the host before it is trained on; raise on what cannot be meant.

        Args:
            batch: NumPy arrays.
            loss: what `loss` gives, as specs.
        """

    def check_endings(self, loss: LossValue, endings: Sequence[Any]) -> None:
        """Refuse outputs that end in an activation that the loss cannot use; see `jlayers.train.endings`."""

    def check_predictions(self, params: Any, state: Any, batch: Batch, endings: Sequence[Any]) -> None:
        """Refuse predictions for a first batch that the loss cannot use."""

    @property
    def output_names(self) -> list[str] | None:
        """The names of a list of outputs; None to number them."""
        return None

    def metric(self, outputs: Any, i: int, metric: Any) -> Any:
        """A metric made fit for output number `i`."""
        return metric

    def _pair(self, key: Any, train: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """`init` and `apply` of a container of the models, around this call's key."""
        function = self.function
        if function is None:
            raise NotImplementedError(f"{type(self).__name__}: expected the methods init and loss")

        def route(call: Callable[..., Any], *parts: Any) -> Any:
            return function(call, Batch(*parts), key)

        wiring = routed(self.models, route)
        pair = wiring.wire(wiring.children)
        return lambda key, *parts: pair.init(key, *map(as_spec, parts)), pair.apply

    # --------------------------------------------------------------------- what follows from the models

    @property
    def draws(self) -> bool:
        """True if `loss` needs a key in training."""
        return True

    @property
    def always_draws(self) -> bool:
        """True if it needs one in evaluation, too: the same one each time, if none is given."""
        return self.draws

    def _walk(self) -> Iterator[tuple[str, Layer]]:
        for name, model in self.models.items():
            yield from model.walk(name)

    def mask(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Python bools in the structure of `params`: True for what this task trains."""
        mask: dict[str, Any] = map_with_path(lambda path, leaf: True, params)
        for name, model in self.models.items():
            if name in params or not name:
                own = trainable_mask(model, params[name] if name else params)
                mask = {**mask, name: own} if name else own
        if self.trains:
            roots = {path for pattern in self.trains for path in match(pattern, [p for p, _ in self._walk()])}
            within = _within(roots)
            mask = map_with_path(lambda path, trained: trained and within(path), mask)
        return mask

    def constrain(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the models' constraints imposed."""
        new = dict(params)
        for name, model in self.models.items():
            if not name:
                return model.constrain(params)
            if name in params:
                new[name] = model.constrain(params[name])
        return new

    def with_extras(self, loss: LossValue, params: Any, state: Any, batch: Batch) -> LossValue:
        """The loss with what layers add to it: penalties, `aux_loss`, and `aux_metrics` for the logs."""
        rows = row_count(batch)
        total = jnp.asarray(loss.total)
        if total.ndim:
            raise ValueError(
                f"expected a scalar loss from the task, received {describe(total)}; take a mean over the rows"
            )
        count = rows if loss.count is None else loss.count
        parts = dict(loss.parts)
        if not any(isinstance(part, Part) and part.factor for part in parts.values()):
            parts = {"loss": Part.of(total, count, 1.0), **parts}
        extra = self._extra(params, state)
        if extra is not None:
            total = total + extra.astype(total.dtype)
            parts["_extra"] = Part.of(extra, rows, 1.0)
        for name, value in _named_values(state).items():
            parts.setdefault(name, value)
        return loss._replace(total=total, parts=parts, count=count)

    def _extra(self, params: Any, state: Any) -> jax.Array | None:
        """Penalties, and the `aux_loss` arrays that layers left in their state; None if there are none."""
        total = None
        for name, model in self.models.items():
            own, left = (params, state) if not name else (params.get(name, {}), state.get(name, {}))
            found = list(filter(is_aux_loss, flatten(left)))
            if not found and not _penalized(model):
                continue
            value = model.penalty(own)
            trained = flatten(trainable_mask(model, left)) if found else {}
            for path in found:
                if trained[path]:
                    value = value + jnp.sum(flatten(left)[path]).astype(value.dtype)
            total = value if total is None else total + value.astype(total.dtype)
        return total


def row_count(batch: Batch) -> jax.Array:
    """The number of real rows of the batch; float32."""
    if batch.mask is not None:
        return batch.mask.sum().astype(jnp.float32)
    return jnp.float32(jax.tree.leaves((batch.x, batch.y))[0].shape[0])


def _penalized(model: Layer) -> bool:
    """True if a layer has an argument that names a regularizer."""
    specs = (spec for _, layer in model.walk() for spec in layer.specs)
    return any(
        value is not None and argument.endswith("_regularizer")
        for spec in specs
        for argument, value in spec.arguments.items()
    )


def _named_values(state: Any) -> dict[str, Any]:
    """The arrays under `aux_metrics`, by their own names, or by their paths where two have one name."""
    found = {path: leaf for path, leaf in flatten(state).items() if is_aux_metric(path)}
    names = [path.rpartition("/")[2] for path in found]
    return {
        name if names.count(name) == 1 else path.replace(f"/{AUX_METRICS}", "").replace("/", "_"): jnp.mean(
            leaf
        )
        for name, (path, leaf) in zip(names, found.items(), strict=True)
    }


def _within(roots: set[str]) -> Callable[[str], bool]:
    return lambda path: any(root in ("", path) or path.startswith(f"{root}/") for root in roots)
