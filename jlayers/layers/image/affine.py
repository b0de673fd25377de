"""Random translations, rotations, zooms and shears of images in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.layers._arguments import DataFormat, refused_argument
from jlayers.layers.image._images import Image, factor_range, random_on_images, uniform
from jlayers.layers.image._sampling import FillMode, SampleMethod, affine, check_sampling

__all__ = ["RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"]

Range = tuple[float, float]


def _offset_about_center(image: Image, matrix: Sequence[Sequence[Any]]) -> list[Any]:
    """The offset with which the middle of the image stays where it is."""
    height, width, _ = image.shape
    center = ((height - 1) / 2, (width - 1) / 2)
    return [
        c - down * center[0] - across * center[1] for (down, across), c in zip(matrix, center, strict=True)
    ]


@layer
def RandomTranslation(
    height_factor: float | tuple[float, float],
    width_factor: float | tuple[float, float],
    fill_mode: FillMode = "reflect",
    interpolation: SampleMethod = "bilinear",
    fill_value: float = 0.0,
    data_format: DataFormat | None = None,
):
    """Shifts each image by a random fraction of its size in training. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        height_factor: largest shift down and up, as a fraction of the height; or two numbers (low, high),
            where negative numbers move up.
        width_factor: likewise right and left, as a fraction of the width.
        fill_mode: values outside the image: "reflect" (d c b a | a b c d | d c b a), "wrap" (the other side),
            "nearest" (the edge) or "constant".

    Raises:
        ValueError: a factor outside [-1, 1], an unknown mode, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> down = jl.RandomTranslation((0.5, 0.5), 0.0, fill_mode="constant")
    >>> y, _ = down.apply({}, {}, jnp.ones((1, 4, 2, 1)), key=jax.random.key(0), train=True)
    >>> y[0, :, 0, 0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    down = factor_range("height_factor", height_factor, -1, 1, symmetric=True)
    right = factor_range("width_factor", width_factor, -1, 1, symmetric=True)
    check_sampling(fill_mode, interpolation)

    def augment(key: Any, image: Image) -> Image:
        down_key, right_key = jax.random.split(key)
        height, width, _ = image.shape
        offset = (
            -height * uniform(down_key, *down, image.dtype),
            -width * uniform(right_key, *right, image.dtype),
        )
        return affine(image, ((1, 0), (0, 1)), offset, fill_mode, interpolation, fill_value)

    return random_on_images(data_format, augment)


@layer
def RandomRotation(
    factor: float | tuple[float, float],
    fill_mode: FillMode = "reflect",
    interpolation: SampleMethod = "bilinear",
    fill_value: float = 0.0,
    data_format: DataFormat | None = None,
):
    """Rotates each image about its center by a random angle in training. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: the largest angle in both directions, as a fraction of a full turn: 0.1 is up to 36 degrees;
            or two numbers (low, high). Positive angles turn counterclockwise.

    Raises:
        ValueError: a factor outside [-1, 1], an unknown mode, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> turned, _ = jl.RandomRotation((0.25, 0.25)).apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> turned.reshape(2, 2).round().tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """
    angles = factor_range("factor", factor, -1, 1, symmetric=True)
    check_sampling(fill_mode, interpolation)

    def augment(key: Any, image: Image) -> Image:
        angle = 2 * math.pi * uniform(key, *angles, image.dtype)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrix = ((cos, sin), (-sin, cos))
        return affine(
            image, matrix, _offset_about_center(image, matrix), fill_mode, interpolation, fill_value
        )

    return random_on_images(data_format, augment)


def _zooms(name: str, value: Any) -> Range:
    low, high = factor_range(name, value, -1, 1, symmetric=True)
    if low == -1:
        raise refused_argument(name, value, "above -1, at which nothing of the image is left")
    return low, high


@layer
def RandomZoom(
    height_factor: float | tuple[float, float],
    width_factor: float | tuple[float, float] | None = None,
    fill_mode: FillMode = "reflect",
    interpolation: SampleMethod = "bilinear",
    fill_value: float = 0.0,
    data_format: DataFormat | None = None,
):
    """Zooms each image about its center by a random factor in training. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        height_factor: largest change of the visible height, as a fraction of it; or two numbers (low, high).
            Positive ones zoom out, negative ones in.
        width_factor: likewise; with None the image keeps its proportions.

    Raises:
        ValueError: a factor outside (-1, 1], an unknown mode, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> out = jl.RandomZoom((1.0, 1.0), fill_mode="constant")
    >>> y, _ = out.apply({}, {}, jnp.ones((1, 5, 5, 1)), key=jax.random.key(0), train=True)
    >>> y[0, :, 2, 0].tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    heights = _zooms("height_factor", height_factor)
    widths = None if width_factor is None else _zooms("width_factor", width_factor)
    check_sampling(fill_mode, interpolation)

    def augment(key: Any, image: Image) -> Image:
        height_key, width_key = jax.random.split(key)
        height = 1 + uniform(height_key, *heights, image.dtype)
        width = height if widths is None else 1 + uniform(width_key, *widths, image.dtype)
        matrix = ((height, 0), (0, width))
        return affine(
            image, matrix, _offset_about_center(image, matrix), fill_mode, interpolation, fill_value
        )

    return random_on_images(data_format, augment)


@layer
def RandomShear(
    x_factor: float | tuple[float, float] = 0.0,
    y_factor: float | tuple[float, float] = 0.0,
    interpolation: SampleMethod = "bilinear",
    fill_mode: FillMode = "reflect",
    fill_value: float = 0.0,
    data_format: DataFormat | None = None,
):
    """Shears each image by random factors in training, with the upper left corner fixed. As in Keras.

    One sign, plus or minus, is drawn for both factors of an image. Inference changes nothing. Whole numbers,
    such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        x_factor: how many columns a row moves against the one above it, at most; or two numbers (low, high).
        y_factor: how many rows a column moves against its neighbor.

    Raises:
        ValueError: a factor outside [0, 1], an unknown mode, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> slant = jl.RandomShear(x_factor=0.3)
    >>> y, _ = slant.apply({}, {}, jnp.ones((2, 4, 4, 1)), key=jax.random.key(0), train=True)
    >>> y.shape
    (2, 4, 4, 1)
    """
    across = factor_range("x_factor", x_factor, 0, 1)
    down = factor_range("y_factor", y_factor, 0, 1)
    check_sampling(fill_mode, interpolation)

    def augment(key: Any, image: Image) -> Image:
        sign_key, x_key, y_key = jax.random.split(key, 3)
        sign = jax.random.rademacher(sign_key, (), image.dtype)
        x, y = (sign * uniform(k, *r, image.dtype) for k, r in ((x_key, across), (y_key, down)))
        return affine(image, ((1, y), (x, 1)), (0, 0), fill_mode, interpolation, fill_value)

    return random_on_images(data_format, augment)
