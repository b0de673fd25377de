"""Sequences, images and volumes cut at their borders."""

from __future__ import annotations

from typing import Any

import jax

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.layers._arguments import (
    DataFormat,
)
from jlayers.layers.reshaping._positions import change_positions, checked_sides

__all__ = ["Cropping1D", "Cropping2D", "Cropping3D"]


def _cropping(rank: int, cropping: Any, data_format: str | None) -> Any:
    sides = checked_sides("cropping", cropping, rank)
    start = 2 if data_format == "channels_first" else 1

    def check(x: Any) -> None:
        for size, (before, after) in zip(x.shape[start:], sides, strict=False):
            if isinstance(size, int) and before + after >= size:
                raise refused(ValueError, "expected to leave at least one position", x, cropping=cropping)

    def compute(x: jax.Array) -> jax.Array:
        sizes = x.shape[1:-1]
        slices = [slice(low, size - high) for size, (low, high) in zip(sizes, sides, strict=True)]
        return x[(slice(None), *slices)]

    return change_positions(rank, data_format, compute, check)


@layer
def Cropping2D(
    cropping: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    data_format: DataFormat | None = None,
):
    """Cuts rows and columns off the borders of images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`.

    Args:
        cropping: number of cells on each side; or (vertical, horizontal); or ((top, bottom), (left, right)).

    Raises:
        ValueError: negative cropping, cropping that leaves nothing, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Cropping2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 7, 4, 3)
    """
    return _cropping(2, cropping, data_format)


@layer
def Cropping1D(cropping: int | tuple[int, int] = (1, 1)):
    """Cuts steps off both ends of a sequence. As `Cropping2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`; a mask is cut in the same way.

    Args:
        cropping: number of steps on each side, or (before, after).

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Cropping1D((1, 2)).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 7, 3)
    """
    return _cropping(1, cropping, None)


@layer
def Cropping3D(
    cropping: int | tuple[int, int, int] | tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = (
        (1, 1),
        (1, 1),
        (1, 1),
    ),
    data_format: DataFormat | None = None,
):
    """Cuts cells off the borders of volumes. As `Cropping2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, new_depth, new_height, new_width,
    channels)`.

    Args:
        cropping: number of cells on each side; or one number per axis; or (before, after) per axis.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Cropping3D(((1, 0), (2, 2), (0, 0))).apply({}, {}, jnp.ones((2, 4, 5, 6, 3)))[0].shape
    (2, 3, 1, 6, 3)
    """
    return _cropping(3, cropping, data_format)
