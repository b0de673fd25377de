"""Losses as metrics: their means over all samples of an epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jlayers import losses
from jlayers.metrics.base import Metric, mean_of, registry

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "RootMeanSquaredError",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
]


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
    make.__doc__ = f"The mean over all samples of the loss `{loss.__name__}`, which see for the arguments."
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
