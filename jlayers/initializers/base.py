"""The registry of initializers, and draws that compile once for many shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.registry import Registry
from jlayers.core.shapes import wide_dtype

__all__ = [
    "Draw",
    "Initializer",
    "draw_by_size",
    "normal",
    "register",
    "registry",
    "rounded",
    "truncated_normal",
    "uniform",
]

Initializer = Callable[..., jax.Array]
Draw = Callable[[Any, tuple[int, ...], Any], jax.Array]

registry = Registry("initializer")
# `@jl.initializers.register` enters your own factory: options in, `f(key, shape, dtype)` out.
register = registry.factory()

_SIZES = (2**14, 2**16, 2**18, 2**20, 2**22)


def draw_by_size(sample: Draw, key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """`sample(key, shape, dtype)`, by way of few sizes.

    JAX compiles a generator anew for each size, up to a second on a CPU: the many small kernels of a model
    share five sizes. JAX's generator numbers its draws, so that the values stay those of the direct call.
    """
    size = math.prod(shape)
    if not isinstance(size, int) or size > _SIZES[-1]:
        return sample(key, shape, dtype)
    common = next(s for s in _SIZES if s >= size)
    return _first(sample(key, (common,), dtype), shape)


@functools.partial(jax.jit, static_argnums=1)
def _first(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """As many of the values as the shape has room for: one small program, not one for each operation."""
    return values[: math.prod(shape)].reshape(shape)


def rounded(draw: Draw) -> Initializer:
    """An initializer that draws in at least float32 and then takes the wanted dtype."""

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return draw(key, tuple(shape), wide_dtype(dtype)).astype(dtype)

    return init


def uniform(low: float, high: float) -> Draw:
    return functools.partial(
        draw_by_size, lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, low, high)
    )


def normal(mean: float, std: float) -> Draw:
    return functools.partial(
        draw_by_size, lambda key, shape, dtype: _scaled(jax.random.normal(key, shape, dtype), mean, std)
    )


def truncated_normal(mean: float, std: float) -> Draw:
    def sample(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return _scaled(jax.random.truncated_normal(key, -2, 2, shape, dtype), mean, std)

    return functools.partial(draw_by_size, sample)


def _scaled(x: jax.Array, mean: float, std: float) -> jax.Array:
    return std * x if mean == 0 else mean + std * x
