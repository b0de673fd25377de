"""Constraints on parameters: functions from an array to the nearest allowed one, imposed after every update.

A norm is taken along `axis`. The default, 0, suits the kernel of a `Dense`, in which each column holds the
weights of one unit. The kernel of a `Conv2D` needs `axis=(0, 1, 2)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jlayers.core.elsewhere import missing_name
from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.core.shapes import wide_dtype

__all__ = [
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "check",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "register",
    "unit_norm",
]

Constraint = Callable[[jax.Array], jax.Array]

registry = Registry("constraint")
get = registry.get
# `@jl.constraints.register` enters your own factory: options in, `f(w) -> w` of the same shape out.
register = registry.factory()

_EPSILON = 1e-7  # Keras's `backend.epsilon()`: keeps a vector of zeros at zeros


def check(*constraints: Any) -> None:
    """Refuse unknown names early: when a layer is made, not when it is trained."""
    for constraint in constraints:
        get(constraint)


def _bound(name: str, value: float) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value < 0:
        received: dict[str, Any] = {name: value}
        raise refused(ValueError, "expected a finite norm of at least 0", **received)
    return float(value)


def _scaled(axis: int | tuple[int, ...], scale: Callable[[jax.Array], jax.Array]) -> Constraint:
    """`w` times `scale(norm)` of its vectors along `axis`."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)

    def constrain(w: jax.Array) -> jax.Array:
        if any(not -w.ndim <= a < w.ndim for a in axes) or len({a % w.ndim for a in axes}) < len(axes):
            raise refused(ValueError, "expected distinct axes of the parameter", axis=axis, shape=w.shape)
        wide = w.astype(wide_dtype(w.dtype))
        norm = jnp.sqrt(jnp.sum(jnp.square(wide), axis=axes, keepdims=True))
        return (wide * scale(norm)).astype(w.dtype)

    return constrain


@registry.factory()
def max_norm(max_value: float = 2.0, axis: int | tuple[int, ...] = 0) -> Constraint:
    """Vectors longer than `max_value` are shortened to it. As Keras's `MaxNorm`.

    Args:
        max_value: the largest norm.
        axis: along which norms are taken; see the module.

    Raises:
        ValueError: a negative or infinite norm, or (on use) an axis that the parameter lacks.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.constraints.max_norm(5.0)(jnp.array([[6.0, 0.5], [8.0, 0.0]])).round(4).tolist()
    [[3.0, 0.5], [4.0, 0.0]]
    """
    bound = _bound("max_value", max_value)
    return _scaled(axis, lambda norm: jnp.minimum(norm, bound) / (_EPSILON + norm))


@registry.factory()
def min_max_norm(
    min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | tuple[int, ...] = 0
) -> Constraint:
    """Vectors are brought to a norm between two bounds. As Keras's `MinMaxNorm`.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: how far towards the bound a step goes; 1 goes all the way.
        axis: along which norms are taken; see the module.

    Raises:
        ValueError: negative or infinite norms, bounds in the wrong order, a rate outside [0, 1], or (on use)
            an axis that the parameter lacks.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.constraints.min_max_norm(1.0, 2.0)(jnp.array([[0.5, 4.0]])).round(4).tolist()
    [[1.0, 2.0]]
    """
    least, most = (
        _bound("min_value", min_value),
        _bound("max_value", max_value),
    )
    if least > most:
        raise refused(
            ValueError,
            "expected min_value <= max_value",
            raised_by="min_max_norm",
            min_value=min_value,
            max_value=max_value,
        )
    if not 0 <= rate <= 1:
        raise refused(ValueError, "expected rate between 0 and 1", raised_by="min_max_norm", rate=rate)

    def scale(norm: jax.Array) -> jax.Array:
        desired = rate * jnp.clip(norm, least, most) + (1 - rate) * norm
        return desired / (_EPSILON + norm)

    return _scaled(axis, scale)


@registry.factory()
def non_neg() -> Constraint:
    """Negative values become 0. As Keras's `NonNeg`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.constraints.non_neg()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return lambda w: jnp.maximum(w, jnp.zeros((), w.dtype))


@registry.factory()
def unit_norm(axis: int | tuple[int, ...] = 0) -> Constraint:
    """Vectors are brought to norm 1; one of zeros stays. As Keras's `UnitNorm`.

    Args:
        axis: along which norms are taken; see the module.

    Raises:
        ValueError: (on use) an axis that the parameter lacks.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.constraints.unit_norm()(jnp.array([[2.0, 0.0]])).round(4).tolist()
    [[1.0, 0.0]]
    """
    return _scaled(axis, lambda norm: 1.0 / (_EPSILON + norm))


# Keras has both spellings.
MaxNorm, MinMaxNorm, NonNeg, UnitNorm = max_norm, min_max_norm, non_neg, unit_norm


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.constraints", name, __all__, registry)
