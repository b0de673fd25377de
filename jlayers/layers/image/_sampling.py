"""Numerics that move pixels of images: sampling at other places, windows, other sizes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jlayers.layers._arguments import choice
from jlayers.layers.image._images import Image

__all__ = [
    "FillMode",
    "SampleMethod",
    "affine",
    "check_sampling",
    "crop_to_aspect",
    "cropped",
    "fit_to",
    "random_box",
    "resized",
]

FillMode = Literal["reflect", "wrap", "constant", "nearest"]
SampleMethod = Literal["nearest", "bilinear"]

_ORDER = {"nearest": 0, "bilinear": 1}


def check_sampling(fill_mode: str, interpolation: str) -> None:
    choice("fill_mode", fill_mode, ("reflect", "wrap", "constant", "nearest"))
    choice("interpolation", interpolation, tuple(_ORDER))


def affine(
    image: Image,
    matrix: Sequence[Sequence[Any]],
    offset: Sequence[Any],
    fill_mode: str,
    interpolation: str,
    fill_value: float,
) -> Image:
    """The image sampled at `matrix @ (row, column) + offset` for each of its pixels."""
    height, width, _ = image.shape
    rows = jnp.arange(height, dtype=image.dtype)[:, None]
    columns = jnp.arange(width, dtype=image.dtype)[None, :]
    places = [
        down * rows + across * columns + move for (down, across), move in zip(matrix, offset, strict=True)
    ]
    sample = functools.partial(
        map_coordinates,
        coordinates=places,
        order=_ORDER[interpolation],
        mode=fill_mode,
        cval=fill_value,
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def cropped(x: Any, top: int, left: int, height: int, width: int) -> Any:
    """A window of a batch of images."""
    return x[:, top : top + height, left : left + width, :]


def crop_to_aspect(x: Any, height: int, width: int) -> Any:
    """The largest window in the middle of the images with (nearly) the aspect ratio of those sizes."""
    rows, columns = x.shape[1:3]
    kept_rows = max(min(rows, columns * height // width), 1)
    kept_columns = max(min(columns, rows * width // height), 1)
    return cropped(x, (rows - kept_rows) // 2, (columns - kept_columns) // 2, kept_rows, kept_columns)


def resized(x: jax.Array, height: int, width: int, interpolation: str, antialias: bool = False) -> jax.Array:
    """A batch of images in that size."""
    shape = (x.shape[0], height, width, x.shape[3])
    return jax.image.resize(x, shape, method=interpolation, antialias=antialias)


def fit_to(x: jax.Array, height: int, width: int) -> jax.Array:
    """The largest window of that aspect ratio in that size: what crops do to images that they do not cut."""
    return resized(crop_to_aspect(x, height, width), height, width, "bilinear")


def random_box(key: Any, image: Image, sides: jax.Array) -> jax.Array:
    """True in a box somewhere in the image; `sides` are the parts of height and width that it takes."""
    sizes = jnp.asarray(image.shape[:2], image.dtype)
    starts = jax.random.uniform(key, (2,), image.dtype) * (1 - sides) * sizes
    ends = starts + sides * sizes
    rows, columns = (
        (start <= (line := jnp.arange(size, dtype=image.dtype))) & (line < end)
        for size, start, end in zip(image.shape[:2], starts, ends, strict=True)
    )
    return rows[:, None, None] & columns[None, :, None]
