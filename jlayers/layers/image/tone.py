"""The distribution of an image's values: inverted, cut down, stretched, leveled, sharpened."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.layers._arguments import DataFormat, not_negative, positive, refused_argument
from jlayers.layers.image._colors import blend, equalize, equalize_tiles, smooth, stretch, to_range
from jlayers.layers.image._images import (
    Image,
    factor_range,
    fixed_on_images,
    number_pair,
    random_on_images,
    uniform,
)

__all__ = [
    "AutoContrast",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Equalization",
    "RandomInvert",
    "RandomPosterization",
    "RandomSharpness",
    "Solarization",
]

_BYTE = (0, 255)


@layer
def AutoContrast(value_range: tuple[float, float] = (0, 255), data_format: DataFormat | None = None):
    """Stretches each channel of each image to the whole range, in training and in inference. As in Keras.

    A channel of one value stays. Whole numbers become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Raises:
        ValueError: an empty range, or an input that is not images.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([100.0, 110.0, 120.0]).reshape(1, 1, 3, 1)
    >>> jl.AutoContrast().apply({}, {}, x)[0].ravel().tolist()
    [0.0, 127.5, 255.0]
    """
    limits = number_pair("value_range", value_range)
    return fixed_on_images(data_format, jax.vmap(lambda image: stretch(image, limits)))


@layer
def Equalization(
    value_range: tuple[float, float] = (0, 255), bins: int = 256, data_format: DataFormat | None = None
):
    """Equalizes the histogram of each channel of each image, in training and in inference.

    As Keras documents it; Keras 3.15 itself takes one histogram over the batch, and none in inference. A
    channel of one value stays. Whole numbers become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        bins: bins of the histogram.

    Raises:
        ValueError: an empty range, no bins, or an input that is not images.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([100.0, 101.0, 102.0, 103.0]).reshape(1, 1, 4, 1)
    >>> jl.Equalization().apply({}, {}, x)[0].ravel().tolist()
    [0.0, 85.0, 170.0, 255.0]
    """
    limits = number_pair("value_range", value_range)
    positive("bins", bins)

    def one(image: Image) -> Image:
        return to_range(equalize(to_range(image, limits, _BYTE), bins), _BYTE, limits)

    return fixed_on_images(data_format, jax.vmap(one))


@layer
def ContrastLimitedAdaptiveHistogramEqualization(
    value_range: tuple[float, float] = (0, 255),
    clip_limit: float = 4.0,
    tile_grid_size: tuple[int, int] = (8, 8),
    data_format: DataFormat | None = None,
):
    """Levels the histogram of each part of each image, in training and in inference. As in Keras.

    The image is cut into tiles, mirrored at the lower and right borders until the tiles fit. Each tile has
    its own table of new values, made from its histogram, whose high peaks are cut off and spread over all
    values (CLAHE; Zuiderveld, 1994). A pixel takes its value from the tables of the four tiles around it.
    Whole numbers become float32.

    Shapes: `(batch, height, width, channels)`, kept.

    Args:
        clip_limit: largest peak of the histogram, as a multiple of its mean; 0 for no limit.
        tile_grid_size: number of tiles down and across.

    Raises:
        ValueError: a range that is none, a negative limit, a grid without tiles, or an input that is not a
            batch of images.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> x = jnp.linspace(100.0, 110.0, 64).reshape(1, 8, 8, 1)
    >>> y, _ = jl.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2)).apply({}, {}, x)
    >>> bool(y.max() - y.min() > 20)
    True
    """
    limits = number_pair("value_range", value_range)
    not_negative("clip_limit", clip_limit)
    grid = tuple(tile_grid_size)
    if len(grid) != 2:
        raise refused_argument("tile_grid_size", tile_grid_size, "as two whole numbers (down, across)")
    for number in grid:
        positive("tile_grid_size", number)

    def one(image: Image) -> Image:
        return to_range(equalize_tiles(to_range(image, limits, _BYTE), grid, clip_limit), _BYTE, limits)

    return fixed_on_images(data_format, jax.vmap(one))


@layer
def RandomInvert(
    factor: float | tuple[float, float] = 1.0,
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Inverts random images in training.

    As in Keras, but Keras ignores the low end of the range. Inference changes nothing. Whole numbers, such as
    uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: range of an image's probability, (low, high), or one number for (0, number).

    Raises:
        ValueError: a factor outside [0, 1], an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([0.0, 50.0]).reshape(1, 1, 2, 1)
    >>> jl.RandomInvert((1.0, 1.0)).apply({}, {}, x, key=jax.random.key(0), train=True)[0].ravel().tolist()
    [255.0, 205.0]
    """
    low, high = factor_range("factor", factor, 0, 1)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        chance_key, invert_key = jax.random.split(key)
        inverted = jax.random.bernoulli(invert_key, uniform(chance_key, low, high, image.dtype))
        return jnp.where(inverted, limits[0] + limits[1] - image, image)

    return random_on_images(data_format, augment)


@layer
def RandomPosterization(
    factor: int | tuple[int, int],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Keeps a random number of the eight bits of each image's values in training.

    As in Keras, except for the upper bound, which counts here. Inference changes nothing. Whole numbers, such
    as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: range of the number of bits to keep, (low, high), or one number for (1, number).

    Raises:
        ValueError: other numbers of bits than 1 to 8, an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([63.0, 64.0, 200.0]).reshape(1, 1, 3, 1)
    >>> two = jl.RandomPosterization((2, 2))
    >>> two.apply({}, {}, x, key=jax.random.key(0), train=True)[0].ravel().tolist()
    [0.0, 64.0, 192.0]
    """
    pair = factor if isinstance(factor, (tuple, list)) else (1, factor)
    low, high = factor_range("factor", pair, 1, 8)
    limits = number_pair("value_range", value_range)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise refused(ValueError, "expected factor in whole numbers of bits", factor=factor)

    def augment(key: Any, image: Image) -> Image:
        step = 2.0 ** (8 - jax.random.randint(key, (), low, high + 1)).astype(image.dtype)
        levels = jnp.clip(to_range(image, limits, _BYTE), *_BYTE)
        return to_range(jnp.floor(levels / step) * step, _BYTE, limits)

    return random_on_images(data_format, augment)


@layer
def RandomSharpness(
    factor: float | tuple[float, float],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Blurs or sharpens each image by a random amount in training.

    As in Keras, except at the border: here it is repeated outwards, in Keras there are zeros. Inference
    changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: 0 blurs, 0.5 leaves an image as it is, 1 sharpens; two numbers (low, high), or one for
            (0, number).
        value_range: lowest and highest value of a pixel; the result is clipped to it.

    Raises:
        ValueError: a factor outside [0, 1], an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(130.0)
    >>> blurred, _ = jl.RandomSharpness((0.0, 0.0)).apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> blurred[0, 1, :, 0].round().tolist()
    [10.0, 50.0, 10.0]
    """
    low, high = factor_range("factor", factor, 0, 1)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        return blend(smooth(image), image, 2 * uniform(key, low, high, image.dtype), limits)

    return random_on_images(data_format, augment)


@layer
def Solarization(
    addition_factor: float | tuple[float, float] = 0.0,
    threshold_factor: float | tuple[float, float] = 0.0,
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Adds a random number to each image, then inverts what is not below a random threshold, in training.

    As in Keras, but Keras uses the low ends of its factors as pixel values. Inference changes nothing.
    Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        addition_factor: range of the addition as a fraction of the value range, (low, high), or one number
            for (0, number).
        threshold_factor: the threshold likewise; with 0 all is inverted.

    Raises:
        ValueError: a factor outside [0, 1], an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([10.0, 100.0, 200.0]).reshape(1, 1, 3, 1)
    >>> half = jl.Solarization(threshold_factor=(0.5, 0.5))
    >>> half.apply({}, {}, x, key=jax.random.key(0), train=True)[0].ravel().tolist()
    [10.0, 100.0, 55.0]
    """
    additions = factor_range("addition_factor", addition_factor, 0, 1)
    thresholds = factor_range("threshold_factor", threshold_factor, 0, 1)
    low, high = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        addition_key, threshold_key = jax.random.split(key)
        addition = (high - low) * uniform(addition_key, *additions, image.dtype)
        threshold = low + (high - low) * uniform(threshold_key, *thresholds, image.dtype)
        moved = jnp.clip(image + addition, low, high)
        return jnp.where(moved < threshold, moved, low + high - moved)

    return random_on_images(data_format, augment)
