"""Pooling over windows. Data have the channels last: `(batch, *spatial, channels)`.

Windows as large as their strides cut the array into blocks, which is a reshape. The gradient of the maximum
is then one fused selection instead of the select-and-scatter of `reduce_window`, which on CPUs takes thirty
times as long.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["avg_pool", "max_pool", "max_pool_lax"]

Padding = Literal["valid", "same"]


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """The greatest of each window. Of equal cells the first gets the gradient, as in `max_pool_lax`.

    A NaN in a window makes the result NaN.
    """
    window, strides = tuple(window), tuple(strides)
    if not _cuts_blocks(x, window, strides):
        return max_pool_lax(x, window, strides, padding)
    return _block_max(_whole(x, window, padding), window)


def max_pool_lax(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """`max_pool` by `lax.reduce_window`."""
    return lax.reduce_window(x, _lowest(x), lax.max, (1, *window, 1), (1, *strides, 1), padding.upper())


def avg_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """The mean of each window over its real cells: what `padding` adds does not count."""

    def total(x: jax.Array) -> jax.Array:
        zero = np.zeros((), x.dtype)
        return lax.reduce_window(x, zero, lax.add, (1, *window, 1), (1, *strides, 1), padding.upper())

    if padding == "valid":
        return total(x) / math.prod(window)
    return total(x) / total(jnp.ones((1, *x.shape[1:-1], 1), x.dtype))


def _lowest(x: jax.Array) -> Any:
    """The neutral element of the maximum; of NumPy, since JAX must see its value to know the reduction."""
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return np.array(-np.inf if floating else jnp.iinfo(x.dtype).min, x.dtype)


def _cuts_blocks(x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    return window == strides and all(isinstance(d, int) for d in x.shape[1:-1])


def _whole(x: jax.Array, window: tuple[int, ...], padding: Padding) -> jax.Array:
    """`x`, filled up or cut off so that the windows divide it."""
    spatial = x.shape[1:-1]
    if padding == "same":
        pads = lax.padtype_to_pads(spatial, window, window, "SAME")
        return lax.pad(x, _lowest(x), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    return x[(slice(None), *(slice(d // w * w) for d, w in zip(spatial, window, strict=True)))]


def _blocks(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """`(batch, height, width, channels)` as `(batch, rows, window, columns, window, channels)`."""
    sides = [side for d, w in zip(x.shape[1:-1], window, strict=True) for side in (d // w, w)]
    return x.reshape(x.shape[0], *sides, x.shape[-1])


def _window_axes(window: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(2, 2 * len(window) + 1, 2))


def _cells(blocks: jax.Array, window: tuple[int, ...]) -> list[jax.Array]:
    """For each cell of the window, in order, what it holds in every block."""
    return [
        blocks[(slice(None), *(i for c in cell for i in (slice(None), c)))]
        for cell in itertools.product(*map(range, window))
    ]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _block_max(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    return functools.reduce(jnp.maximum, _cells(_blocks(x, window), window))


@_block_max.defjvp
def _block_max_jvp(window: tuple[int, ...], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    best, *others = _cells(_blocks(x, window), window)
    where = jnp.zeros(best.shape, jnp.int32)
    for number, cell in enumerate(others, 1):
        keep = best >= cell  # the first of equal cells stays, as in select-and-scatter
        best, where = jnp.where(keep, best, cell), jnp.where(keep, where, number)
    shape = [w for w in window for w in (1, w)]
    numbers = np.arange(math.prod(window), dtype=np.int32).reshape(1, *shape, 1)
    chosen = jnp.expand_dims(where, _window_axes(window)) == numbers
    blocks = _blocks(dx, window)
    return _block_max(x, window), jnp.sum(
        jnp.where(chosen, blocks, jnp.zeros_like(blocks)), axis=_window_axes(window)
    )
