"""Zeros around sequences, images and volumes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.layers._arguments import (
    DataFormat,
)
from jlayers.layers.reshaping._positions import change_positions, checked_sides

__all__ = ["ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"]


def _padding(rank: int, padding: Any, data_format: str | None) -> Any:
    sides = checked_sides("padding", padding, rank)
    return change_positions(rank, data_format, lambda x: jnp.pad(x, [(0, 0), *sides, (0, 0)]))


@layer
def ZeroPadding2D(
    padding: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = (1, 1),
    data_format: DataFormat | None = None,
):
    """Zeros around images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, channels)`.

    Args:
        padding: number of zeros on each side; or (vertical, horizontal); or ((top, bottom), (left, right)).

    Raises:
        ValueError: negative padding, or an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ZeroPadding2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 9, 12, 3)
    """
    return _padding(2, padding, data_format)


@layer
def ZeroPadding1D(padding: int | tuple[int, int] = 1, data_format: DataFormat | None = None):
    """Zeros before and after a sequence. As `ZeroPadding2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels)`. In a mask the new steps are padding.

    Args:
        padding: number of zeros on each side, or (before, after).

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ZeroPadding1D((1, 2)).apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 13, 3)
    """
    return _padding(1, padding, data_format)


@layer
def ZeroPadding3D(
    padding: int | tuple[int, int, int] | tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = (
        1,
        1,
        1,
    ),
    data_format: DataFormat | None = None,
):
    """Zeros around volumes. As `ZeroPadding2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, new_depth, new_height, new_width,
    channels)`.

    Args:
        padding: number of zeros on each side; or one number per axis; or (before, after) per axis.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ZeroPadding3D(((1, 0), (2, 2), (0, 0))).apply({}, {}, jnp.ones((2, 4, 5, 6, 3)))[0].shape
    (2, 5, 9, 6, 3)
    """
    return _padding(3, padding, data_format)
