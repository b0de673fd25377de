"""Pooling: the greatest or the mean of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from jlayers.core.layer import layer
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    choice,
    need_floating,
    need_rank,
    per_axis,
    spatial_shape,
)
from jlayers.layers.convolution.convolution import need_room
from jlayers.ops.pool import avg_pool, max_pool

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]


def _pooling(
    pool: Callable[..., jax.Array],
    rank: int,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: str,
    data_format: str | None,
) -> Any:
    window = per_axis("pool_size", pool_size, rank)
    steps = window if strides is None else per_axis("strides", strides, rank)
    choice("padding", padding, ("valid", "same"))
    last, first = channels_at_edge(data_format)

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        if pool is avg_pool:
            need_floating(x)
        need_room(x, data_format, window, padding)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        return first(pool(last(x), window, steps, padding))

    return init, apply


@layer
def MaxPooling1D(
    pool_size: int | tuple[int] = 2,
    strides: int | tuple[int] | None = None,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
):
    """The greatest of windows of a sequence. As in Keras.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`.
    A NaN in a window makes the result NaN; of equal cells the first gets the gradient.

    Args:
        pool_size: length of the window.
        strides: steps between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", which is the default, or "channels_first".

    Raises:
        ValueError: sizes below 1, unknown padding, a window larger than the input, or an input of another
            rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.MaxPooling1D(2).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 5, 3)
    """
    return _pooling(max_pool, 1, pool_size, strides, padding, data_format)


@layer
def MaxPooling2D(
    pool_size: int | tuple[int, int] = (2, 2),
    strides: int | tuple[int, int] | None = None,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
):
    """The greatest of windows of images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`.
    A NaN in a window makes the result NaN; of equal cells the first gets the gradient.

    Args:
        pool_size: height and width of the window, or one number for both.
        strides: steps between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", which is the default, or "channels_first".

    Raises:
        ValueError: sizes below 1, unknown padding, a window larger than the input, or an input of another
            rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.MaxPooling2D(2).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 4, 4, 3)
    """
    return _pooling(max_pool, 2, pool_size, strides, padding, data_format)


@layer
def MaxPooling3D(
    pool_size: int | tuple[int, int, int] = (2, 2, 2),
    strides: int | tuple[int, int, int] | None = None,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
):
    """The greatest of windows of volumes. As in Keras.

    Shapes: `(batch, depth, height, width, channels)` to the same with new sizes.
    A NaN in a window makes the result NaN; of equal cells the first gets the gradient.

    Args:
        pool_size: depth, height and width of the window, or one number for all.
        strides: steps between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", which is the default, or "channels_first".

    Raises:
        ValueError: sizes below 1, unknown padding, a window larger than the input, or an input of another
            rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.MaxPooling3D(2).apply({}, {}, jnp.ones((2, 4, 4, 4, 3)))[0].shape
    (2, 2, 2, 2, 3)
    """
    return _pooling(max_pool, 3, pool_size, strides, padding, data_format)


@layer
def AveragePooling1D(
    pool_size: int | tuple[int],
    strides: int | tuple[int] | None = None,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
):
    """The mean of windows of a sequence. As in Keras.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`.
    Cells that padding adds do not count.

    Args:
        pool_size: length of the window.
        strides: steps between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", which is the default, or "channels_first".

    Raises:
        ValueError: sizes below 1, unknown padding, a window larger than the input, or an input of another
            rank.
        TypeError: whole numbers as input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AveragePooling1D(2).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 5, 3)
    """
    return _pooling(avg_pool, 1, pool_size, strides, padding, data_format)


@layer
def AveragePooling2D(
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
):
    """The mean of windows of images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`.
    Cells that padding adds do not count.

    Args:
        pool_size: height and width of the window, or one number for both.
        strides: steps between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", which is the default, or "channels_first".

    Raises:
        ValueError: sizes below 1, unknown padding, a window larger than the input, or an input of another
            rank.
        TypeError: whole numbers as input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AveragePooling2D(2).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 4, 4, 3)
    """
    return _pooling(avg_pool, 2, pool_size, strides, padding, data_format)


@layer
def AveragePooling3D(
    pool_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] | None = None,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
):
    """The mean of windows of volumes. As in Keras.

    Shapes: `(batch, depth, height, width, channels)` to the same with new sizes.
    Cells that padding adds do not count.

    Args:
        pool_size: depth, height and width of the window, or one number for all.
        strides: steps between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", which is the default, or "channels_first".

    Raises:
        ValueError: sizes below 1, unknown padding, a window larger than the input, or an input of another
            rank.
        TypeError: whole numbers as input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AveragePooling3D(2).apply({}, {}, jnp.ones((2, 4, 4, 4, 3)))[0].shape
    (2, 2, 2, 2, 3)
    """
    return _pooling(avg_pool, 3, pool_size, strides, padding, data_format)
