"""Means and sums over all samples of an epoch: of plain values, of a user's function, and of each loss."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp

from jlayers import losses
from jlayers.metrics.base import Metric, mean_of, registry, spread
from jlayers.metrics.totals import add_sum, value_of, zero

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "RootMeanSquaredError",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Sum",
]


@registry.factory()
def Mean(name: str | None = None) -> Metric:
    """The mean of plain values: `update(acc, values, weight=weight)`, as in Keras.

    Among the metrics of a model it is the mean of the output itself, whatever the targets are, such as of an
    output that holds a penalty.

    Args:
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> mean = jl.metrics.Mean()
    >>> acc = mean.update(mean.init(), jnp.array([1.0, 3.0]))
    >>> acc = mean.update(acc, jnp.array([9.0, 5.0]), weight=jnp.array([0.0, 1.0]))
    >>> float(mean.result(acc))
    3.0
    """
    return _of_values(mean_of(losses.Loss(lambda _, values: values), direction="min"))


@registry.factory()
def Sum(name: str | None = None) -> Metric:
    """The sum of plain values: `update(acc, values, weight=weight)`, as in Keras.

    Among the metrics of a model it is the sum of the output itself, whatever the targets are.

    Args:
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Sum()(jnp.array([1.0, 3.0])))
    4.0
    """

    def update(acc: Any, _: Any, values: Any, weight: Any = None) -> Any:
        values = jnp.asarray(values, jnp.float32)
        return add_sum(acc, jnp.where(spread(weight, values) != 0, values * spread(weight, values), 0.0))

    return _of_values(Metric(zero, update, value_of, "min"))


def _of_values(metric: Metric) -> Metric:
    """The metric of predictions, which also takes plain values in place of targets and predictions."""

    def update(acc: Any, y_true: Any, y_pred: Any = None, weight: Any = None) -> Any:
        return metric.update(acc, None, jnp.asarray(y_true if y_pred is None else y_pred), weight)

    return dataclasses.replace(metric, update=update)


@registry.factory()
def MeanMetricWrapper(
    fn: losses.LossLike, name: str | None = None, direction: Literal["min", "max"] = "min"
) -> Metric:
    """The mean of `fn(y_true, y_pred)`, one value per sample, over all samples, as in Keras.

    A function given as a metric means the same. The wrapper gives it a name and a direction.

    Args:
        fn: a function, or a loss by name.
        name: in the history.
        direction: "max" if more is better.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> bias = jl.metrics.MeanMetricWrapper(lambda y_true, y_pred: (y_pred - y_true).mean(-1), name="bias")
    >>> float(bias(jnp.zeros((4, 1)), jnp.ones((4, 1))))
    1.0
    """
    return mean_of(losses.get(fn), direction=direction)


@registry.factory("rmse")
def RootMeanSquaredError(name: str | None = None) -> Metric:
    """The root of the mean square over all samples (not the mean of batch roots). `(batch, ..., d)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.RootMeanSquaredError()(jnp.zeros((2, 1)), jnp.array([[3.0], [3.0]])))
    3.0
    """
    return mean_of(losses.MeanSquaredError(), jnp.sqrt, "min")


def _from_loss(loss: Callable[..., Any], name: str | None = None, sign: float = 1.0) -> Callable[..., Any]:
    """The constructor of the metric that averages a loss over all samples, with the loss's own arguments."""
    base = inspect.signature(loss)

    def make(name: str | None = None, **arguments: Any) -> Metric:
        function = loss(**arguments)
        if sign == 1.0:
            return mean_of(function, direction="min")
        return mean_of(losses.Loss(lambda y_true, y_pred: sign * function(y_true, y_pred)))

    make.__name__ = make.__qualname__ = name or loss.__name__
    make.__doc__ = f"The mean over all samples of the loss `{loss.__name__}`, with the same arguments."
    own = inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | None")
    vars(make)["__signature__"] = base.replace(
        parameters=[*base.parameters.values(), own], return_annotation=Metric
    )
    make.__annotations__ = {**loss.__annotations__, "name": "str | None", "return": Metric}
    return make


MeanSquaredError = registry.factory("mse")(_from_loss(losses.MeanSquaredError))
MeanAbsoluteError = registry.factory("mae")(_from_loss(losses.MeanAbsoluteError))
MeanAbsolutePercentageError = registry.factory("mape")(_from_loss(losses.MeanAbsolutePercentageError))
MeanSquaredLogarithmicError = registry.factory("msle")(_from_loss(losses.MeanSquaredLogarithmicError))
BinaryCrossentropy = registry.factory("bce")(_from_loss(losses.BinaryCrossentropy))
CategoricalCrossentropy = registry.factory()(_from_loss(losses.CategoricalCrossentropy))
SparseCategoricalCrossentropy = registry.factory()(_from_loss(losses.SparseCategoricalCrossentropy))
KLDivergence = registry.factory("kld")(_from_loss(losses.KLDivergence))
Poisson = registry.factory()(_from_loss(losses.Poisson))
Huber = registry.factory()(_from_loss(losses.Huber))
Hinge = registry.factory()(_from_loss(losses.Hinge))
SquaredHinge = registry.factory()(_from_loss(losses.SquaredHinge))
CategoricalHinge = registry.factory()(_from_loss(losses.CategoricalHinge))
LogCoshError = registry.factory("logcosh")(_from_loss(losses.LogCosh, "LogCoshError"))
CosineSimilarity = registry.factory()(_from_loss(losses.CosineSimilarity, sign=-1.0))
