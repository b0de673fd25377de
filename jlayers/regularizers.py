"""Penalties on parameters: functions from an array to a scalar that the training loss adds, un-normalized."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp

from jlayers.core.elsewhere import missing_name
from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.core.shapes import wide_dtype

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "register",
]

Regularizer = Callable[[jax.Array], jax.Array]

registry = Registry("regularizer")
get = registry.get
# `@jl.regularizers.register` enters your own factory: options in, `f(w) -> scalar` out.
register = registry.factory()


def _factor(name: str, value: float) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value < 0:
        raise refused(ValueError, "expected a finite factor of at least 0", **{name: value})
    return float(value)


def _wide(w: jax.Array) -> jax.Array:
    """Sums over a whole kernel need at least float32."""
    return w.astype(wide_dtype(w.dtype))


@registry.factory()
def l1(l1: float = 0.01) -> Regularizer:
    """`l1 * sum(|w|)`: pulls small weights to zero. As in Keras.

    Raises:
        ValueError: a negative or infinite factor.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.l1(0.5)(jnp.array([1.0, -3.0])))
    2.0
    """
    factor = _factor("l1", l1)
    return lambda w: factor * jnp.sum(jnp.abs(_wide(w)))


@registry.factory()
def l2(l2: float = 0.01) -> Regularizer:
    """`l2 * sum(w**2)`, without a factor of one half. As in Keras.

    Raises:
        ValueError: a negative or infinite factor.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.l2(0.5)(jnp.array([1.0, -3.0])))
    5.0
    """
    factor = _factor("l2", l2)
    return lambda w: factor * jnp.sum(jnp.square(_wide(w)))


@registry.factory("L1L2")
def l1_l2(l1: float = 0.0, l2: float = 0.0) -> Regularizer:
    """`l1 * sum(|w|) + l2 * sum(w**2)`. As Keras's `L1L2`.

    Raises:
        ValueError: a negative or infinite factor.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.l1_l2(l1=1.0, l2=0.5)(jnp.array([1.0, -3.0])))
    9.0
    """
    factor1, factor2 = _factor("l1", l1), _factor("l2", l2)

    def penalty(w: jax.Array) -> jax.Array:
        w = _wide(w)
        return factor1 * jnp.sum(jnp.abs(w)) + factor2 * jnp.sum(jnp.square(w))

    return penalty


@registry.factory()
def orthogonal_regularizer(factor: float = 0.01, mode: Literal["rows", "columns"] = "rows") -> Regularizer:
    """`factor` times the mean of the cosines (in size) between distinct rows, or columns, of a matrix.

    As in Keras.

    Raises:
        ValueError: a negative or infinite factor, another mode, or (on use) an array that is not a matrix.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> round(float(jl.regularizers.orthogonal_regularizer(1.0)(jnp.ones((2, 3)))), 3)
    1.0
    """
    factor = _factor("factor", factor)
    if mode not in ("rows", "columns"):
        raise refused(ValueError, "expected mode 'rows' or 'columns'", mode=mode)

    def penalty(w: jax.Array) -> jax.Array:
        if w.ndim != 2:
            raise refused(ValueError, "expected a matrix", w)
        w = _wide(w if mode == "rows" else w.T)
        # The maximum keeps the gradient of a row of zeros finite.
        unit = w * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(w), axis=1, keepdims=True), 1e-12))
        cosines = unit @ unit.T
        count = w.shape[0]
        pairs = max(count * (count - 1), 1)
        return factor * jnp.sum(jnp.abs(cosines) * (1 - jnp.eye(count, dtype=w.dtype))) / pairs

    return penalty


L1, L2, L1L2 = l1, l2, l1_l2  # Keras has both spellings
OrthogonalRegularizer = orthogonal_regularizer


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.regularizers", name, __all__, registry)
