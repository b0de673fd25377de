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
    "blurred",
    "check_sampling",
    "crop_to_aspect",
    "cropped",
    "fit_to",
    "gaussian",
    "homography",
    "random_box",
    "resized",
    "sampled",
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
    return sampled(image, places, fill_mode, interpolation, fill_value)


def sampled(
    image: Image, places: Sequence[Any], fill_mode: str, interpolation: str, fill_value: float
) -> Image:
    """The image whose pixels are those at other rows and columns, between pixels by interpolation."""
    sample = functools.partial(
        map_coordinates,
        coordinates=places,
        order=_ORDER[interpolation],
        mode=fill_mode,
        cval=fill_value,
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def homography(source: jax.Array, target: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Rows and columns of all pixels under the perspective that takes 4 points (column, row) to 4 others."""
    x, y = source.T
    one, none = jnp.ones_like(x), jnp.zeros_like(x)
    across = jnp.stack([x, y, one, none, none, none, -target[:, 0] * x, -target[:, 0] * y], axis=1)
    down = jnp.stack([none, none, none, x, y, one, -target[:, 1] * x, -target[:, 1] * y], axis=1)
    a, b, c, d, e, f, g, h = jnp.linalg.solve(jnp.concatenate([across, down]), target.T.reshape(-1))
    rows = jnp.arange(height, dtype=source.dtype)[:, None]
    columns = jnp.arange(width, dtype=source.dtype)[None, :]
    depth = g * columns + h * rows + 1
    return (d * columns + e * rows + f) / depth, (a * columns + b * rows + c) / depth


def gaussian(size: int, sigma: jax.Array, dtype: Any) -> jax.Array:
    """The window of an odd number of weights that sum to 1; with a sigma of 0 the middle has all."""
    steps = (jnp.arange(size, dtype=dtype) - size // 2) / jnp.where(sigma > 0, sigma, 1)
    weights = jnp.exp(-(steps**2) / 2)
    return jnp.where(sigma > 0, weights / jnp.sum(weights), (jnp.arange(size) == size // 2).astype(dtype))


def blurred(image: Image, down: jax.Array, across: jax.Array, mode: str = "constant") -> Image:
    """The image under two windows, which stands for their product. `mode` says what lies outside."""
    for axis, window in enumerate((down, across)):
        half, ends = window.size // 2, [(0, 0)] * 3
        ends[axis] = (half, half)
        wide = jnp.pad(image, ends, mode=mode)
        shifted = [
            jax.lax.slice_in_dim(wide, i, i + image.shape[axis], axis=axis) for i in range(window.size)
        ]
        image = sum((w * part for w, part in zip(window, shifted, strict=True)), jnp.zeros_like(image))
    return image


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
