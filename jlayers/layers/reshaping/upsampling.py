"""Sequences, images and volumes enlarged by whole factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import (
    DataFormat,
    choice,
    per_axis,
)
from jlayers.layers._dtypes import rounded
from jlayers.layers.reshaping._positions import change_positions

__all__ = ["UpSampling1D", "UpSampling2D", "UpSampling3D"]

_RESIZE = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def _repeat(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Each position `size` times, along each spatial axis."""
    for axis, times in enumerate(size, 1):
        shape = (*x.shape[: axis + 1], times, *x.shape[axis + 1 :])
        x = jnp.broadcast_to(jnp.expand_dims(x, axis + 1), shape)
        x = x.reshape(*shape[:axis], shape[axis] * times, *shape[axis + 2 :])
    return x


@layer
def UpSampling2D(
    size: int | tuple[int, int] = (2, 2),
    data_format: DataFormat | None = None,
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest",
):
    """Enlarges images by whole factors. As in Keras.

    Interpolation takes pixels as squares, with centers at halves. It rounds whole numbers and keeps them in
    the range of their dtype.

    Shapes: `(batch, height, width, channels)` to `(batch, height * size[0], width * size[1], channels)`. The
    dtype stays.

    Args:
        size: factors of height and width, or one for both.
        interpolation: between the pixels; "nearest" repeats them.

    Raises:
        ValueError: a size below 1, an unknown interpolation, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> up = jl.UpSampling2D((1, 2), interpolation="bilinear")
    >>> up.apply({}, {}, jnp.array([[[[0.0], [1.0]]]]))[0][0, 0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    times = per_axis("size", size, 2)
    choice("interpolation", interpolation, _RESIZE)
    if interpolation == "nearest":
        return change_positions(2, data_format, lambda x: _repeat(x, times))

    def compute(x: jax.Array) -> jax.Array:
        shape = (x.shape[0], x.shape[1] * times[0], x.shape[2] * times[1], x.shape[3])
        wide = x.astype(param_dtype(x))
        return rounded(jax.image.resize(wide, shape, interpolation, antialias=False), x.dtype)

    return change_positions(2, data_format, compute, mixes=True)


@layer
def UpSampling1D(size: int = 2):
    """Repeats each step of a sequence `size` times. As in Keras.

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
    return change_positions(1, None, lambda x: _repeat(x, times))


@layer
def UpSampling3D(size: int | tuple[int, int, int] = (2, 2, 2), data_format: DataFormat | None = None):
    """Repeats each cell of a volume along all axes. As in Keras.

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
    return change_positions(3, data_format, lambda x: _repeat(x, times))
