"""The record of a metric, three pure functions; the registry; and the mean over all samples."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jlayers.core.registry import Kind, Registry
from jlayers.core.shapes import describe
from jlayers.core.spec import Spec
from jlayers.losses.base import Loss, as_loss, unchanged
from jlayers.metrics.totals import add_sum, value_of, zero

__all__ = [
    "Link",
    "Metric",
    "MetricLike",
    "beside",
    "get",
    "mean_of",
    "name_of",
    "of_probabilities",
    "product",
    "ratio",
    "register",
    "registry",
    "spread",
    "start",
]

Link = Callable[[Any], Any]
MetricLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("metric")]


@dataclasses.dataclass(frozen=True)
class Metric:
    """Three pure functions; calling the metric runs them over whole arrays.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Accuracy()(jnp.array([0, 1]), jnp.array([[0.9, 0.1], [0.6, 0.4]])))
    0.5

    Attributes:
        init: `init() -> acc`, any pytree of arrays; `init(y_pred) -> acc` if its shapes follow from those
            of the predictions, which are given as arrays or `jax.ShapeDtypeStruct`s.
        update: `update(acc, y_true, y_pred, weight=None) -> acc`; weight is `(batch,)` or the shape of the
            values per sample.
        result: `result(acc) -> scalar`; in training it must be one, elsewhere it may be an array.
        direction: "max" if more is better, "min" if less is. `EarlyStopping` reads it.
        from_logits: True if predictions are logits, False if they are probabilities, None if either will do.
        of_logits: `of_logits(link) -> Metric`: the same metric for a model whose predictions are logits, of
            which `link` makes probabilities. Training calls it beside a loss with `from_logits=True`.
        of_binary: the metric that this one means where each number of a prediction answers a yes-or-no
            question of its own. Training takes it beside a binary cross-entropy.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]
    result: Callable[[Any], jax.Array]
    direction: str = "max"
    from_logits: bool | None = None
    of_logits: Callable[[Link], Metric] | None = None
    of_binary: Metric | None = None

    def __call__(self, y_true: Any, y_pred: Any = None, weight: Any = None) -> jax.Array:
        return self.result(self.update(start(self, y_pred), y_true, y_pred, weight))


def start(metric: Any, y_pred: Any) -> Any:
    """The accumulator at zero, for predictions like these (arrays or specs)."""
    needed = [p for p in inspect.signature(metric.init).parameters.values() if p.default is p.empty]
    acc = metric.init(y_pred) if needed else metric.init()
    return jax.tree.map(jnp.copy, acc)  # a step donates each array, so that none may occur twice


class _Metrics(Registry):
    def get(self, value: Any) -> Any:
        """A metric from its name, from `{name: arguments}`, from itself, or from a function like a loss."""
        spec = getattr(value, "spec", None)
        if isinstance(spec, Spec) and spec.kind == "loss":
            return mean_of(value, direction="min")
        found = super().get(value)
        if found is None or hasattr(found, "update"):
            return found
        return mean_of(found, direction="min")


registry = _Metrics("metric")
get = registry.get
register = registry.factory()


def name_of(metric: Any, value: Any = None) -> str:
    """The name in the history: the string that was given, the `name` argument, or Keras's name."""
    if isinstance(value, str):
        return value
    for source in (metric, value):
        if isinstance(spec := getattr(source, "spec", None), Spec):
            return spec.arguments.get("name") or spec.stem
    return getattr(value, "__name__", "metric")


def beside(loss: Loss | None, metric: Any) -> Any:
    """The metric as it is meant beside this loss.

    A metric of probabilities is given them where the loss takes logits; accuracy is binary beside a binary
    cross-entropy; and what the loss leaves out, such as targets of its `ignore_class`, counts in no metric.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> from jlayers.losses.base import as_loss
    >>> loss = as_loss(jl.losses.BinaryCrossentropy(from_logits=True))
    >>> float(beside(loss, jl.metrics.Recall())(jnp.array([[1.0]]), jnp.array([[0.2]])))
    1.0

    Raises:
        ValueError: a metric with `from_logits=True` beside a loss of probabilities.
    """
    if loss is None:
        return metric
    if loss.binary:
        metric = getattr(metric, "of_binary", None) or metric
    if loss.from_logits:
        of_logits = getattr(metric, "of_logits", None)
        metric = of_logits(loss.link) if of_logits else metric
    elif loss.from_logits is False and getattr(metric, "from_logits", None):
        raise ValueError(
            f"expected a metric of probabilities, which are what {loss.name} takes, received {metric!r}; "
            f"write from_logits=True in both or in neither"
        )
    # The counts of a loss across rows say which rows have partners, not which are to be left out.
    return metric if loss.counts is None or loss.across_rows else _where_counted(loss, metric)


def _where_counted(loss: Loss, metric: Any) -> Metric:
    """The metric without what the loss leaves out; one with a value per row takes the rows that have some."""

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        counted = loss.counted(y_true, y_pred)
        try:
            return metric.update(acc, y_true, y_pred, product(weight, counted))
        except ValueError:
            if counted.ndim == 1:
                raise
        return metric.update(acc, y_true, y_pred, product(weight, _rows(counted.astype(jnp.float32))))

    return Metric(metric.init, update, metric.result, getattr(metric, "direction", "max"))


# ---------------------------------------------------------------------------------------------- means


def spread(weight: Any, values: Any) -> Any:
    """A weight per sample in the shape of the values, float32."""
    if weight is None:
        return jnp.ones(values.shape, jnp.float32)
    if weight.shape != values.shape[: weight.ndim]:
        raise ValueError(
            f"expected a weight per sample for values {describe(values)}, received {describe(weight)}"
        )
    weight = weight.astype(jnp.float32).reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
    return jnp.broadcast_to(weight, values.shape)


def product(a: Any, b: Any) -> Any:
    """The product of two weights, each per sample or per position; either may be missing."""
    if a is None or b is None:
        one = b if a is None else a
        return None if one is None else one.astype(jnp.float32)
    short, long = sorted((a, b), key=lambda weight: weight.ndim)
    return spread(short, long) * long.astype(jnp.float32)


def mean_of(
    function: Callable[[Any, Any], Any],
    finish: Callable[[Any], Any] = lambda mean: mean,
    direction: str = "max",
) -> Metric:
    """The metric that averages `function(y_true, y_pred)`, one value per sample, over all samples.

    Args:
        function: function of targets and predictions; its values have the batch first.
        finish: applied to the mean at the end, such as a square root.
        direction: "max" if more is better, else "min".

    >>> import jax.numpy as jnp, jlayers as jl
    >>> bias = jl.metrics.mean_of(lambda y_true, y_pred: (y_pred - y_true).mean(-1))
    >>> float(bias(jnp.zeros((4, 1)), jnp.ones((4, 1))))
    1.0
    """
    loss = as_loss(function)

    def of_logits(link: Link) -> Metric:
        return mean_of(_of_logits(function, loss, link), finish, direction)

    def init() -> dict[str, jax.Array]:
        return {"total": zero(), "count": zero()}

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        rows = None if weight is None else _rows(weight)
        values = loss(y_true, y_pred, rows).astype(jnp.float32)
        weight = spread(weight, values)
        counted = loss.counted(y_true, y_pred, rows)
        if counted is not None:
            weight = weight * counted.astype(jnp.float32)
        values = jnp.where(weight != 0, values * weight, 0.0)
        return {"total": add_sum(acc["total"], values), "count": add_sum(acc["count"], weight)}

    def result(acc: Any) -> jax.Array:
        return finish(ratio(value_of(acc["total"]), value_of(acc["count"])))

    takes = of_logits if loss.from_logits is False else None
    return Metric(init, update, result, direction, loss.from_logits, takes)


def _of_logits(function: Any, loss: Loss, link: Link) -> Any:
    """The loss of probabilities as one of logits: with `from_logits=True` if it has that argument."""
    spec = getattr(function, "spec", None)
    if isinstance(spec, Spec) and "from_logits" in spec.arguments:
        return Registry.of(spec.kind).build(spec.name, {**spec.arguments, "from_logits": True})

    def through_link(called: Callable[..., Any] | None) -> Callable[..., Any] | None:
        return called and (lambda y_true, y_pred, *mask: called(y_true, link(y_pred), *mask))

    values: Any = through_link(loss.values)
    return dataclasses.replace(loss, values=values, counts=through_link(loss.counts), from_logits=True)


def of_probabilities(make: Callable[[Link], Metric], from_logits: bool) -> Metric:
    """The metric that `make(link)` gives, where `link` makes probabilities of the predictions."""
    metric = make(jax.nn.sigmoid if from_logits else unchanged)
    return dataclasses.replace(metric, from_logits=from_logits, of_logits=make)


def _rows(weight: Any) -> Any:
    """1 for rows of any weight."""
    return (weight.reshape(weight.shape[0], -1) != 0).any(1).astype(jnp.float32)


def ratio(total: Any, count: Any) -> Any:
    """`total / count`, and 0 where nothing was counted, as in Keras."""
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)
