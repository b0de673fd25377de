"""Losses of numbers: the mean of an elementwise error over the last axis."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jlayers.core.errors import refused
from jlayers.losses.base import EPSILON, Loss, along_last, elementwise, registry

__all__ = [
    "CosineSimilarity",
    "Huber",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
]


@registry.factory("mse")
def MeanSquaredError() -> Loss:
    """The mean of `(y_true - y_pred)**2` over the last axis. `y_true`, `y_pred`: `(batch, ..., d)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.MeanSquaredError()(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 4.0]])).tolist()
    [2.0]
    """
    return elementwise(lambda t, p: optax.losses.squared_error(p, t))


@registry.factory("mae")
def MeanAbsoluteError() -> Loss:
    """The mean of `|y_true - y_pred|` over the last axis. `y_true`, `y_pred`: `(batch, ..., d)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.MeanAbsoluteError()(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 4.0]])).tolist()
    [1.0]
    """
    return elementwise(lambda t, p: jnp.abs(t - p))


@registry.factory("mape")
def MeanAbsolutePercentageError() -> Loss:
    """100 times the mean of `|y_true - y_pred| / max(|y_true|, 1e-7)`, in percent, as in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.MeanAbsolutePercentageError()(jnp.array([[2.0, 4.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [25.0]
    """
    return elementwise(lambda t, p: 100.0 * jnp.abs((t - p) / jnp.maximum(jnp.abs(t), EPSILON)))


@registry.factory("msle")
def MeanSquaredLogarithmicError() -> Loss:
    """The mean of `(log(1 + y_true) - log(1 + y_pred))**2`, values below 1e-7 counted as 1e-7, as in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.MeanSquaredLogarithmicError()(jnp.array([[1.0]]), jnp.array([[1.0]])).tolist()
    [0.0]
    """

    def log(x: Any) -> Any:
        return jnp.log(jnp.maximum(x, EPSILON) + 1.0)

    return elementwise(lambda t, p: jnp.square(log(p) - log(t)))


@registry.factory()
def Huber(delta: float = 1.0) -> Loss:
    """Quadratic for errors up to `delta`, linear for larger ones (Huber 1964).

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.Huber()(jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 2.0]])).tolist()
    [1.0]
    """
    if not delta > 0:
        raise refused(ValueError, "expected delta above 0", raised_by="Huber", delta=delta)
    return elementwise(lambda t, p: optax.losses.huber_loss(p, t, delta=delta))


@registry.factory("logcosh")
def LogCosh() -> Loss:
    """The mean of `log(cosh(y_pred - y_true))`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.LogCosh()(jnp.array([[0.0]]), jnp.array([[0.0]])).tolist()
    [0.0]
    """
    return elementwise(lambda t, p: optax.losses.log_cosh(p, t))


@registry.factory()
def Poisson() -> Loss:
    """The mean of `y_pred - y_true * log(y_pred + 1e-7)`: the Poisson likelihood of counts, as in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.Poisson()(jnp.array([[0.0]]), jnp.array([[2.0]])).tolist()
    [2.0]
    """
    return elementwise(lambda t, p: p - t * jnp.log(p + EPSILON))


@registry.factory()
def CosineSimilarity(axis: int = -1) -> Loss:
    """Minus the cosine of the angle between target and prediction along `axis`: -1 for the same direction.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.CosineSimilarity()(jnp.array([[0.0, 2.0]]), jnp.array([[0.0, 1.0]])).tolist()
    [-1.0]
    """

    def unit(x: Any) -> Any:
        top = jax.lax.stop_gradient(jnp.abs(x).max(axis, keepdims=True, initial=0.0))
        x = x / jnp.maximum(top, 1.0)  # squares of large numbers overflow
        return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis, keepdims=True), EPSILON**2))  # as Keras

    return along_last(lambda t, p: -(unit(t) * unit(p)).sum(axis))
