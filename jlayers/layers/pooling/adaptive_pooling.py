"""Adaptive pooling: windows that give an output of a wanted size, whatever the size of the input.

Window `i` of `o` over `n` positions begins at `floor(i * n / o)` and ends before `ceil((i + 1) * n / o)`:
windows overlap where `o` does not divide `n`. A window over several axes is a box, so the axes are pooled
one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    need_rank,
    per_axis,
    spatial_shape,
)
from jlayers.layers.convolution.convolution import spatial_sizes
from jlayers.ops.pool import max_pool

__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
]


def _windows(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end (exclusive) of each window."""
    numbers = np.arange(count)
    return numbers * size // count, -(-(numbers + 1) * size // count)


def _average(x: jax.Array, axis: int, count: int) -> jax.Array:
    size = x.shape[axis]
    if size % count == 0:
        blocks = x.reshape(*x.shape[:axis], count, size // count, *x.shape[axis + 1 :])
        return jnp.mean(blocks, axis=axis + 1)
    starts, ends = _windows(size, count)
    positions = np.arange(size)[:, None]
    inside = (positions >= starts[None, :]) & (positions < ends[None, :])
    weights = jnp.asarray(inside / (ends - starts)[None, :], x.dtype)
    y = lax.dot_general(x, weights, (((axis,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(y, -1, axis)


def _maximum(x: jax.Array, axis: int, count: int) -> jax.Array:
    size = x.shape[axis]
    width = size // count
    if size % count:
        starts, ends = _windows(size, count)
        width = int(np.max(ends - starts))
        # Narrower windows repeat their last cell; of equal cells the first gets the whole gradient.
        cells = np.minimum(starts[:, None] + np.arange(width)[None, :], ends[:, None] - 1)
        x = jnp.take(x, cells.ravel(), axis=axis)
    window = [width if a == axis else 1 for a in range(1, x.ndim - 1)]
    return max_pool(x, window, window, "valid")


def _adaptive(
    pool: Callable[[jax.Array, int, int], jax.Array],
    rank: int,
    output_size: int | Sequence[int],
    data_format: str | None,
) -> Any:
    counts = per_axis("output_size", output_size, rank)
    last, first = channels_at_edge(data_format)

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        if 0 in spatial_sizes(x, data_format):
            raise refused(ValueError, "expected sizes of at least 1, from which the windows are computed", x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        y = last(x)
        if pool is _average:
            y = y.astype(wide_dtype(x.dtype))
        for axis, count in enumerate(counts, 1):
            y = pool(y, axis, count)
        return first(y.astype(param_dtype(x) if pool is _average else x.dtype))

    return init, apply


@layer
def AdaptiveAveragePooling2D(output_size: int | tuple[int, int], data_format: DataFormat | None = None):
    """2D average pooling to a given output size. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, *output_size, channels)`. Whole numbers become
    float32.

    Args:
        output_size: height and width of the output, or one number for both.

    Raises:
        ValueError: sizes below 1, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AdaptiveAveragePooling2D((3, 2)).apply({}, {}, jnp.ones((2, 7, 5, 3)))[0].shape
    (2, 3, 2, 3)
    """
    return _adaptive(_average, 2, output_size, data_format)


@layer
def AdaptiveAveragePooling1D(output_size: int | tuple[int], data_format: DataFormat | None = None):
    """1D average pooling to a given output length. As `AdaptiveAveragePooling2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, output_size, channels)`.

    Args:
        output_size: length of the output.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AdaptiveAveragePooling1D(4).apply({}, {}, jnp.ones((2, 7, 3)))[0].shape
    (2, 4, 3)
    """
    return _adaptive(_average, 1, output_size, data_format)


@layer
def AdaptiveAveragePooling3D(output_size: int | tuple[int, int, int], data_format: DataFormat | None = None):
    """3D average pooling to a given output size. As `AdaptiveAveragePooling2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, *output_size, channels)`.

    Args:
        output_size: depth, height and width of the output, or one number for all.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AdaptiveAveragePooling3D(2).apply({}, {}, jnp.ones((2, 4, 4, 5, 3)))[0].shape
    (2, 2, 2, 2, 3)
    """
    return _adaptive(_average, 3, output_size, data_format)


@layer
def AdaptiveMaxPooling2D(output_size: int | tuple[int, int], data_format: DataFormat | None = None):
    """2D max pooling to a given output size. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, *output_size, channels)`. The dtype stays. A NaN in
    a window makes the result NaN. Of equal cells the first along an axis gets the gradient.

    Args:
        output_size: height and width of the output, or one number for both.

    Raises:
        ValueError: sizes below 1, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AdaptiveMaxPooling2D((3, 2)).apply({}, {}, jnp.ones((2, 7, 5, 3)))[0].shape
    (2, 3, 2, 3)
    """
    return _adaptive(_maximum, 2, output_size, data_format)


@layer
def AdaptiveMaxPooling1D(output_size: int | tuple[int], data_format: DataFormat | None = None):
    """1D max pooling to a given output length. As `AdaptiveMaxPooling2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, output_size, channels)`.

    Args:
        output_size: length of the output.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AdaptiveMaxPooling1D(4).apply({}, {}, jnp.ones((2, 7, 3)))[0].shape
    (2, 4, 3)
    """
    return _adaptive(_maximum, 1, output_size, data_format)


@layer
def AdaptiveMaxPooling3D(output_size: int | tuple[int, int, int], data_format: DataFormat | None = None):
    """3D max pooling to a given output size. As `AdaptiveMaxPooling2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, *output_size, channels)`.

    Args:
        output_size: depth, height and width of the output, or one number for all.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AdaptiveMaxPooling3D(2).apply({}, {}, jnp.ones((2, 4, 4, 5, 3)))[0].shape
    (2, 2, 2, 2, 3)
    """
    return _adaptive(_maximum, 3, output_size, data_format)
