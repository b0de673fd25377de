"""Layers that add, cut or repeat positions: padding, cropping, upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import Masked, refusal
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    choice,
    need_floating,
    need_rank,
    per_axis,
    refused_argument,
    spatial_shape,
)

__all__ = [
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]

_RESIZE = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def _sides(name: str, value: Any, rank: int) -> list[tuple[int, int]]:
    """Whole numbers before and after each axis, from one for all, one per axis, or pairs."""
    each = value if isinstance(value, (tuple, list)) else (value,) * rank
    if rank == 1 and len(each) == 2:
        each = (each,)  # (before, after) of the only axis
    if len(each) != rank:
        raise refused_argument(name, value, f"as one whole number or {rank} entries")
    pairs = [per_axis(name, entry, 2, least=0) for entry in each]
    return [(before, after) for before, after in pairs]


def _spatial(rank: int, data_format: str | None, compute: Any, check: Any = None, mixes: bool = False) -> Any:
    """The pair of a layer without parameters that changes the positions of channels-last data.

    A mask of all positions goes the way of the data, unless `mixes` says that these are not just moved.
    """
    last, first = channels_at_edge(data_format)

    def checked(x: Any) -> Any:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        if check:
            check(x)
        return x

    def init(key: Any, x: Any) -> dict[str, Any]:
        checked(x)
        return {}

    def apply(params: Any, x: jax.Array, *, mask: Any) -> Any:
        y = first(compute(last(checked(x))))
        if mask is None:
            return y
        if mixes or mask.ndim != rank + 1 or data_format == "channels_first":
            raise refusal(Masked(x, mask))
        return Masked(y, compute(mask[..., None])[..., 0])

    return init, apply


def _padding(rank: int, padding: Any, data_format: str | None) -> Any:
    sides = _sides("padding", padding, rank)
    return _spatial(rank, data_format, lambda x: jnp.pad(x, [(0, 0), *sides, (0, 0)]))


def _cropping(rank: int, cropping: Any, data_format: str | None) -> Any:
    sides = _sides("cropping", cropping, rank)
    start = 2 if data_format == "channels_first" else 1

    def check(x: Any) -> None:
        for size, (before, after) in zip(x.shape[start:], sides, strict=False):
            if isinstance(size, int) and before + after >= size:
                raise refused(ValueError, "expected to leave at least one position", x, cropping=cropping)

    def compute(x: jax.Array) -> jax.Array:
        sizes = x.shape[1:-1]
        kept = [slice(low, size - high) for size, (low, high) in zip(sizes, sides, strict=True)]
        return x[(slice(None), *kept)]

    return _spatial(rank, data_format, compute, check)


def _repeat(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Each position `size` times, along each spatial axis."""
    for axis, times in enumerate(size, 1):
        shape = (*x.shape[: axis + 1], times, *x.shape[axis + 1 :])
        x = jnp.broadcast_to(jnp.expand_dims(x, axis + 1), shape)
        x = x.reshape(*shape[:axis], shape[axis] * times, *shape[axis + 2 :])
    return x


@layer
def ZeroPadding1D(padding: int | tuple[int, int] = 1, data_format: DataFormat | None = None):
    """Zeros before and after a sequence. As in Keras.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`. In a mask the new steps are padding.

    Args:
        padding: how many on each side, or (before, after).

    Raises:
        ValueError: negative padding, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ZeroPadding1D((1, 2)).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 13, 3)
    """
    return _padding(1, padding, data_format)


@layer
def ZeroPadding2D(
    padding: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = (1, 1),
    data_format: DataFormat | None = None,
):
    """Zeros around images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`.

    Args:
        padding: how many on each side; or (vertically, horizontally); or ((top, bottom), (left, right)).

    Raises:
        ValueError: negative padding, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ZeroPadding2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 9, 12, 3)
    """
    return _padding(2, padding, data_format)


@layer
def ZeroPadding3D(
    padding: int | tuple[int, int, int] | tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = (
        1,
        1,
        1,
    ),
    data_format: DataFormat | None = None,
):
    """Zeros around volumes. As in Keras.

    Shapes: `(batch, depth, height, width, channels)` to the same with new sizes.

    Args:
        padding: how many on each side; or one number per axis; or (before, after) per axis.

    Raises:
        ValueError: negative padding, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ZeroPadding3D(((1, 0), (2, 2), (0, 0))).apply({}, {}, jnp.ones((2, 4, 5, 6, 3)))[0].shape
    (2, 5, 9, 6, 3)
    """
    return _padding(3, padding, data_format)


@layer
def Cropping1D(cropping: int | tuple[int, int] = (1, 1)):
    """Cuts the ends of a sequence off. As in Keras.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`; a mask is cut alike.

    Args:
        cropping: how many on each side, or (before, after).

    Raises:
        ValueError: negative cropping, cropping that leaves nothing, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Cropping1D((1, 2)).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 7, 3)
    """
    return _cropping(1, cropping, None)


@layer
def Cropping2D(
    cropping: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    data_format: DataFormat | None = None,
):
    """Cuts the borders of images off. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`.

    Args:
        cropping: how many on each side; or (vertically, horizontally); or ((top, bottom), (left, right)).

    Raises:
        ValueError: negative cropping, cropping that leaves nothing, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Cropping2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 7, 4, 3)
    """
    return _cropping(2, cropping, data_format)


@layer
def Cropping3D(
    cropping: int | tuple[int, int, int] | tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = (
        (1, 1),
        (1, 1),
        (1, 1),
    ),
    data_format: DataFormat | None = None,
):
    """Cuts the borders of volumes off. As in Keras.

    Shapes: `(batch, depth, height, width, channels)` to the same with new sizes.

    Args:
        cropping: how many on each side; or one number per axis; or (before, after) per axis.

    Raises:
        ValueError: negative cropping, cropping that leaves nothing, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Cropping3D(((1, 0), (2, 2), (0, 0))).apply({}, {}, jnp.ones((2, 4, 5, 6, 3)))[0].shape
    (2, 3, 1, 6, 3)
    """
    return _cropping(3, cropping, data_format)


@layer
def UpSampling1D(size: int = 2):
    """Each step of a sequence `size` times. As in Keras.

    Shapes: `(batch, steps, channels)` to `(batch, steps * size, channels)`.

    Args:
        size: number of repetitions.

    Raises:
        ValueError: a size below 1, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.UpSampling1D(2).apply({}, {}, jnp.array([[[1.0], [2.0]]]))[0][0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    times = per_axis("size", size, 1)
    return _spatial(1, None, lambda x: _repeat(x, times))


@layer
def UpSampling2D(
    size: int | tuple[int, int] = (2, 2),
    data_format: DataFormat | None = None,
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest",
):
    """Images enlarged by whole factors. As in Keras: the interpolations have half-pixel centres.

    Shapes: `(batch, height, width, channels)` to `(batch, height * size[0], width * size[1], channels)`.

    Args:
        size: factors of height and width, or one for both.
        interpolation: between the positions; "nearest" repeats them.

    Raises:
        ValueError: a size below 1, an unknown interpolation, or an input of another rank.
        TypeError: whole numbers as input, unless "nearest".

    >>> import jlayers as jl, jax.numpy as jnp
    >>> up = jl.UpSampling2D((1, 2), interpolation="bilinear")
    >>> up.apply({}, {}, jnp.array([[[[0.0], [1.0]]]]))[0][0, 0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    times = per_axis("size", size, 2)
    choice("interpolation", interpolation, _RESIZE)
    if interpolation == "nearest":
        return _spatial(2, data_format, lambda x: _repeat(x, times))

    def compute(x: jax.Array) -> jax.Array:
        shape = (x.shape[0], x.shape[1] * times[0], x.shape[2] * times[1], x.shape[3])
        return jax.image.resize(x, shape, interpolation, antialias=False)

    def check(x: Any) -> None:
        need_floating(x)

    return _spatial(2, data_format, compute, check, mixes=True)


@layer
def UpSampling3D(size: int | tuple[int, int, int] = (2, 2, 2), data_format: DataFormat | None = None):
    """Each cell of a volume repeated along all axes. As in Keras.

    Shapes: `(batch, depth, height, width, channels)` to the same with sizes multiplied by `size`.

    Args:
        size: factors of depth, height and width, or one for all.

    Raises:
        ValueError: a size below 1, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.UpSampling3D((1, 2, 3)).apply({}, {}, jnp.ones((2, 4, 5, 6, 3)))[0].shape
    (2, 4, 10, 18, 3)
    """
    times = per_axis("size", size, 3)
    return _spatial(3, data_format, lambda x: _repeat(x, times))
