"""Max and average pooling over windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    need_rank,
    per_axis,
    spatial_shape,
)
from jlayers.layers.convolution.convolution import Zeros, checked_padding, need_room
from jlayers.ops.pool import avg_pool, max_pool

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]


def _pooling(
    pool: Callable[..., jax.Array],
    rank: int,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: Any,
    data_format: str | None,
) -> Any:
    window = per_axis("pool_size", pool_size, rank)
    steps = window if strides is None else per_axis("strides", strides, rank)
    padding = checked_padding(rank, padding)
    sides = () if isinstance(padding, str) else padding
    if any(max(pair) >= size for pair, size in zip(sides, window, strict=False)):
        raise refused(
            ValueError,
            "expected less padding than the window has cells, since a window of padding has no result",
            padding=padding,
            pool_size=pool_size,
        )
    last, first = channels_at_edge(data_format)

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        need_room(x, data_format, window, padding)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        x = x.astype(param_dtype(x)) if pool is avg_pool else x
        return first(pool(last(x), window, steps, padding))

    return init, apply


@layer(aliases=("MaxPool2D",))
def MaxPooling2D(
    pool_size: int | tuple[int, int] = (2, 2),
    strides: int | tuple[int, int] | None = None,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
):
    """2D max pooling over images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`. The dtype stays.
    A NaN in a window makes the result NaN. Of equal cells the first gets the gradient.

    Args:
        strides: distance between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs; a number of cells that do not
            count, or for each axis one or a pair (before, after).

    Raises:
        ValueError: sizes below 1, unknown padding or as much of it as the window has cells, a window larger
            than the input, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.MaxPooling2D(2).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 4, 4, 3)
    """
    return _pooling(max_pool, 2, **locals())


@layer(aliases=("MaxPool1D",))
def MaxPooling1D(
    pool_size: int | tuple[int] = 2,
    strides: int | tuple[int] | None = None,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
):
    """1D max pooling over a sequence. As `MaxPooling2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.MaxPooling1D(2).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 5, 3)
    """
    return _pooling(max_pool, 1, **locals())


@layer(aliases=("MaxPool3D",))
def MaxPooling3D(
    pool_size: int | tuple[int, int, int] = (2, 2, 2),
    strides: int | tuple[int, int, int] | None = None,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
):
    """3D max pooling over volumes. As `MaxPooling2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, new_depth, new_height, new_width,
    channels)`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.MaxPooling3D(2).apply({}, {}, jnp.ones((2, 4, 4, 4, 3)))[0].shape
    (2, 2, 2, 2, 3)
    """
    return _pooling(max_pool, 3, **locals())


@layer(aliases=("AvgPool2D",))
def AveragePooling2D(
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
):
    """2D average pooling over images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`. Cells that
    padding adds do not count. Whole numbers, such as uint8 pixels, become float32.

    Args:
        strides: distance between windows; None for the window's size.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs; a number of cells that do not
            count, or for each axis one or a pair (before, after).

    Raises:
        ValueError: sizes below 1, unknown padding or as much of it as the window has cells, a window larger
            than the input, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AveragePooling2D(2).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 4, 4, 3)
    """
    return _pooling(avg_pool, 2, **locals())


@layer(aliases=("AvgPool1D",))
def AveragePooling1D(
    pool_size: int | tuple[int],
    strides: int | tuple[int] | None = None,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
):
    """1D average pooling over a sequence. As `AveragePooling2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AveragePooling1D(2).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 5, 3)
    """
    return _pooling(avg_pool, 1, **locals())


@layer(aliases=("AvgPool3D",))
def AveragePooling3D(
    pool_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] | None = None,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
):
    """3D average pooling over volumes. As `AveragePooling2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, new_depth, new_height, new_width,
    channels)`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.AveragePooling3D(2).apply({}, {}, jnp.ones((2, 4, 4, 4, 3)))[0].shape
    (2, 2, 2, 2, 3)
    """
    return _pooling(avg_pool, 3, **locals())


# Keras's second names.
AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
