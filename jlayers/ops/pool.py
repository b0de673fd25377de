"""Pooling over windows. Data have the channels last: `(batch, *spatial, channels)`.

On CPUs the gradients of `lax.reduce_window` take many times as long as the pooling: for the maximum a
select-and-scatter, for the mean of overlapping windows a sum over a grid that is mostly zeros. There the
cells of the window are taken one after the other, each a slice of the whole array, combed by the strides
(`windows.py`). In one dimension `reduce_window` itself is mostly the faster one, but not its gradient.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jlayers.core.shapes import wide_dtype
from jlayers.ops.platform import by_platform
from jlayers.ops.stored import stored
from jlayers.ops.windows import Padding, Pads, cells, padded, pads_of

__all__ = ["avg_pool", "avg_pool_lax", "max_pool", "max_pool_lax"]

Sizes = tuple[int, ...]

# The forms by cells write a slice per cell into the program: beyond so many, compiling takes too long.
_MOST_CELLS = 64
# Their gradient looks at each cell of the strides for each element. For a mean of 3x3 to 8x8 windows side by
# side it takes 1.4 to 30 times as long as one that repeats each number, of 2x2 windows 0.4 to 1.1.
_LEAST_BLOCK = 8


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """Max pooling. Of equal cells the first gets the gradient, as in `max_pool_lax`.

    A NaN in a window makes the result NaN.
    """
    return _by_form(_max, max_pool_lax, x, tuple(window), tuple(strides), padding)


def max_pool_lax(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """`max_pool` by `lax.reduce_window`."""
    return lax.reduce_window(x, _lowest(x), lax.max, (1, *window, 1), (1, *strides, 1), _around(padding))


def avg_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """The mean of each window over its real cells: what `padding` adds does not count."""
    return _by_form(_mean, avg_pool_lax, x, tuple(window), tuple(strides), padding)


def avg_pool_lax(x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding) -> jax.Array:
    """`avg_pool` by `lax.reduce_window`."""

    def total(x: jax.Array) -> jax.Array:
        zero = np.zeros((), x.dtype)
        return lax.reduce_window(x, zero, lax.add, (1, *window, 1), (1, *strides, 1), _around(padding))

    wide = x.astype(wide_dtype(x.dtype))
    real = math.prod(window) if padding == "valid" else total(jnp.ones((1, *x.shape[1:-1], 1), wide.dtype))
    return (total(wide) / real).astype(x.dtype)


def _around(padding: Padding) -> Any:
    """The padding for all axes, as `lax` takes it."""
    return padding.upper() if isinstance(padding, str) else ((0, 0), *padding, (0, 0))


def _lowest(x: jax.Array) -> Any:
    """The neutral element of the maximum; of NumPy, since JAX must see its value to know the reduction."""
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return np.array(-np.inf if floating else jnp.iinfo(x.dtype).min, x.dtype)


def _by_form(
    fast: Callable[..., jax.Array],
    plain: Callable[..., jax.Array],
    x: jax.Array,
    window: Sizes,
    strides: Sizes,
    padding: Padding,
) -> jax.Array:
    options: dict[str, Any] = {"window": window, "strides": strides, "padding": padding}
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    if not known or math.prod(window) > _MOST_CELLS:
        return plain(x, **options)
    return by_platform(functools.partial(fast, **options), functools.partial(plain, **options), x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max(x: jax.Array, window: Sizes, strides: Sizes, padding: Padding) -> jax.Array:
    # Without a gradient XLA puts `reduce_window` into one kernel with a convolution of its own before it, in
    # 0.6 of the time that both take otherwise. Where windows overlap, it takes twice as long as the cells; in
    # one dimension, where it loops over few and copies nothing to pad it, mostly 0.4 to 1 of their time.
    if window == strides or len(window) == 1:
        return max_pool_lax(x, window, strides, padding)
    return _max_by_cells(x, window, strides, padding)


@_max.defjvp
def _max_jvp(
    window: Sizes, strides: Sizes, padding: Padding, primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    pads = pads_of(x.shape[1:-1], window, strides, padding)
    find = functools.partial(_first_maximum, window=window, strides=strides)
    first = stored(find, padded(x, pads, _lowest(x)))
    seen = enumerate(cells(padded(dx, pads), window, strides))
    chosen = (jnp.where(first == number, cell, jnp.zeros_like(cell)) for number, cell in seen)
    return _max_by_cells(x, window, strides, padding), functools.reduce(jnp.add, chosen)


def _max_by_cells(x: jax.Array, window: Sizes, strides: Sizes, padding: Padding) -> jax.Array:
    pads = pads_of(x.shape[1:-1], window, strides, padding)
    return functools.reduce(jnp.maximum, cells(padded(x, pads, _lowest(x)), window, strides))


def _first_maximum(x: jax.Array, window: Sizes, strides: Sizes) -> jax.Array:
    """The number of the cell with the maximum of each window: the first of equal ones.

    In int32: loops that mix in narrower integers take four times as long.
    """
    best, *others = cells(x, window, strides)
    first = lax.full(best.shape, 0, jnp.int32)
    for number, cell in enumerate(others, 1):
        keep = lax.ge(best, cell)
        best, first = lax.select(keep, best, cell), lax.select(keep, first, lax.full_like(first, number))
    return first


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _mean(x: jax.Array, window: Sizes, strides: Sizes, padding: Padding) -> jax.Array:
    # Overlapping windows of one dimension as for the maximum. Others are faster by cells, after a convolution
    # of `conv.py`, too: 0.73 to 0.98 of the time that it and `reduce_window` take.
    if len(window) == 1 and window != strides:
        return avg_pool_lax(x, window, strides, padding)
    return _mean_by_cells(x, window, strides, padding)


@_mean.defjvp
def _mean_jvp(
    window: Sizes, strides: Sizes, padding: Padding, primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    apart = window == strides and not any(map(any, pads_of(x.shape[1:-1], window, strides, padding)))
    form = _mean_of_blocks if apart and math.prod(window) >= _LEAST_BLOCK else _mean_by_cells
    return _mean(x, window, strides, padding), form(dx, window, strides, padding)


def _mean_of_blocks(x: jax.Array, window: Sizes, *_: Any) -> jax.Array:
    """The mean of windows side by side. Its transpose repeats each number over its window."""
    places = [size // w for size, w in zip(x.shape[1:-1], window, strict=True)]
    whole = x[(slice(None), *(slice(n * w) for n, w in zip(places, window, strict=True)))]
    cut = [size for pair in zip(places, window, strict=True) for size in pair]
    blocks = whole.astype(wide_dtype(x.dtype)).reshape(x.shape[0], *cut, x.shape[-1])
    return blocks.mean(range(2, blocks.ndim - 1, 2)).astype(x.dtype)


def _mean_by_cells(x: jax.Array, window: Sizes, strides: Sizes, padding: Padding) -> jax.Array:
    wide = wide_dtype(x.dtype)
    pads = pads_of(x.shape[1:-1], window, strides, padding)
    total = functools.reduce(jnp.add, cells(padded(x.astype(wide), pads), window, strides))
    real = _real_cells(x.shape[1:-1], window, strides, pads) if padding != "valid" else math.prod(window)
    return (total / np.asarray(real, wide)).astype(x.dtype)


def _real_cells(sizes: Sequence[int], window: Sizes, strides: Sizes, pads: Pads) -> np.ndarray:
    """The number of cells of each window that lie in the array, as a constant."""
    counts = np.ones((1,) * (len(sizes) + 2))
    for axis, (size, w, s, (low, high)) in enumerate(zip(sizes, window, strides, pads, strict=True), 1):
        starts = np.arange(-low, size + high - w + 1, s)
        along = np.minimum(starts + w, size) - np.maximum(starts, 0)
        counts = counts * along.reshape([-1 if i == axis else 1 for i in range(counts.ndim)])
    return counts
