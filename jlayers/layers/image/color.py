"""Random brightness, contrast, saturation and hue of images in training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.layers._arguments import DataFormat
from jlayers.layers.image._colors import blend, contrast, gray, hsv, rgb, to_range
from jlayers.layers.image._images import Image, factor_range, need_rgb, number_pair, random_on_images, uniform

__all__ = [
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomGrayscale",
    "RandomHue",
    "RandomSaturation",
]

_UNIT = (0.0, 1.0)


@layer
def RandomBrightness(
    factor: float | tuple[float, float],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Changes the brightness of each image by a random amount in training. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: largest change in both directions, as a fraction of the value range; or two numbers (low,
            high).
        value_range: lowest and highest value of a pixel; the result is clipped to it.

    Raises:
        ValueError: a factor outside [-1, 1], an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> brighter = jl.RandomBrightness((0.2, 0.2), value_range=(0, 10))
    >>> y, _ = brighter.apply({}, {}, jnp.full((1, 1, 2, 1), 5.0), key=jax.random.key(0), train=True)
    >>> y.ravel().round().tolist()
    [7.0, 7.0]
    """
    low, high = factor_range("factor", factor, -1, 1, symmetric=True)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        return jnp.clip(image + (limits[1] - limits[0]) * uniform(key, low, high, image.dtype), *limits)

    return random_on_images(data_format, augment)


@layer
def RandomContrast(
    factor: float | tuple[float, float],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Changes the contrast of each image by a random factor in training.

    As Keras documents it: from `1 - factor` to `1 + factor`. Keras 3.15 itself never lowers the contrast for
    a single number, and sorts two. Inference changes nothing. Whole numbers, such as uint8 pixels, become
    float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: how far the factor may be from 1; or two numbers (lower, upper) for a factor between
            `1 - lower` and `1 + upper`.
        value_range: lowest and highest value of a pixel; the result is clipped to it.

    Raises:
        ValueError: a factor outside [0, 1], an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([100.0, 140.0]).reshape(1, 1, 2, 1)
    >>> y, _ = jl.RandomContrast(0.5).apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> round(float(y.mean()), 3), 20 <= float(y.max() - y.min()) <= 60
    (120.0, True)
    """
    factor_range("factor", factor, 0, 1)
    lower, upper = factor if isinstance(factor, (tuple, list)) else (factor, factor)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        return contrast(image, uniform(key, 1 - lower, 1 + upper, image.dtype), limits)

    return random_on_images(data_format, augment)


@layer
def RandomColorDegeneration(
    factor: float | tuple[float, float],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Blends each image with its gray version by a random amount in training.

    As Keras documents it; Keras 3.15 itself draws from (-factor, factor) for a single number. Inference
    changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept, of 3 channels, or of 1,
    which stays as it is.

    Args:
        factor: 0 leaves an image as it is, 1 makes it gray; two numbers (low, high), or one for (0, number).
        value_range: lowest and highest value of a pixel; the result is clipped to it.

    Raises:
        ValueError: a factor outside [0, 1], an empty range, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([255.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> gray = jl.RandomColorDegeneration((1.0, 1.0))
    >>> y, _ = gray.apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> y.ravel().round().tolist()
    [76.0, 76.0, 76.0]
    """
    low, high = factor_range("factor", factor, 0, 1)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        need_rgb(image, or_gray=True)
        return blend(image, gray(image), uniform(key, low, high, image.dtype), limits)

    return random_on_images(data_format, augment)


@layer
def RandomGrayscale(factor: float = 0.5, data_format: DataFormat | None = None):
    """Turns random images gray in training and keeps their channels. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept, of 3 channels, or of 1,
    which stays as it is.

    Args:
        factor: the probability, for each image.

    Raises:
        ValueError: a factor outside [0, 1], or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([255.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> y, _ = jl.RandomGrayscale(1.0).apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> y.ravel().round().tolist()
    [76.0, 76.0, 76.0]
    """
    _, chance = factor_range("factor", factor, 0, 1)

    def augment(key: Any, image: Image) -> Image:
        need_rgb(image, or_gray=True)
        return jnp.where(jax.random.bernoulli(key, chance), gray(image), image)

    return random_on_images(data_format, augment)


@layer
def RandomSaturation(
    factor: float | tuple[float, float],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Multiplies the saturation of each image by a random factor in training.

    As Keras documents it. Keras 3.15 itself draws from (-factor, factor) for a single number, and does not
    hold the saturation of images to at most 1, so that colors leave their range. Inference changes nothing.
    Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, 3)` or `(height, width, 3)`, kept.

    Args:
        factor: the saturation is multiplied by `f / (1 - f)`: 0 makes an image gray, 0.5 leaves it, 1 gives
            full colors; two numbers (low, high), or one for (0, number).

    Raises:
        ValueError: a factor outside [0, 1], an empty range, other channels than 3, or an input that is not
            images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([200.0, 100.0, 100.0]).reshape(1, 1, 1, 3)
    >>> full = jl.RandomSaturation((1.0, 1.0))
    >>> full.apply({}, {}, x, key=jax.random.key(0), train=True)[0].ravel().round().tolist()
    [200.0, 0.0, 0.0]
    """
    low, high = factor_range("factor", factor, 0, 1)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        need_rgb(image)
        factor_value = uniform(key, low, high, image.dtype)
        hue, saturation, value = hsv(to_range(image, limits, _UNIT))
        saturation = jnp.clip(saturation * factor_value / (1 - factor_value + 1e-7), 0, 1)
        return to_range(rgb(hue, saturation, value), _UNIT, limits)

    return random_on_images(data_format, augment)


@layer
def RandomHue(
    factor: float | tuple[float, float],
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Shifts the hue of each image by a random angle in training. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, 3)` or `(height, width, 3)`, kept.

    Args:
        factor: the largest angle in both directions, as a fraction of half a turn; two numbers (low, high),
            or one for (0, number).
        value_range: lowest and highest value of a pixel; the result is clipped to it.

    Raises:
        ValueError: a factor outside [0, 1], an empty range, other channels than 3, or an input that is not
            images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> opposite = jl.RandomHue((1.0, 1.0), value_range=(0, 1))
    >>> opposite.apply({}, {}, x, key=jax.random.key(0), train=True)[0].ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    low, high = factor_range("factor", factor, 0, 1)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        need_rgb(image)
        sign_key, factor_key = jax.random.split(key)
        sign = jax.random.rademacher(sign_key, (), image.dtype)
        hue, saturation, value = hsv(to_range(image, limits, _UNIT))
        turned = rgb(hue + sign * uniform(factor_key, low, high, image.dtype) / 2, saturation, value)
        return to_range(jnp.clip(turned, 0, 1), _UNIT, limits)

    return random_on_images(data_format, augment)


@layer
def RandomColorJitter(
    value_range: tuple[float, float] = (0, 255),
    brightness_factor: float | tuple[float, float] | None = None,
    contrast_factor: float | tuple[float, float] | None = None,
    saturation_factor: float | tuple[float, float] | None = None,
    hue_factor: float | tuple[float, float] | None = None,
    data_format: DataFormat | None = None,
):
    """Random brightness, contrast, saturation and hue in training, in this order. As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, 3)` or `(height, width, 3)`, kept.

    Args:
        brightness_factor: see `RandomBrightness`; None to leave it.
        contrast_factor: see `RandomContrast`.
        saturation_factor: see `RandomSaturation`.
        hue_factor: see `RandomHue`.

    Raises:
        ValueError: no factor at all, or what those layers raise.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> jitter = jl.RandomColorJitter((0, 1), brightness_factor=0.2, hue_factor=0.1)
    >>> jitter.apply({}, {}, jnp.ones((2, 4, 4, 3)), key=jax.random.key(0), train=True)[0].shape
    (2, 4, 4, 3)
    """
    factors = (
        (RandomBrightness, brightness_factor),
        (RandomContrast, contrast_factor),
        (RandomSaturation, saturation_factor),
        (RandomHue, hue_factor),
    )
    parts = [make(factor, value_range) for make, factor in factors if factor is not None]
    if not parts:
        raise refused(
            ValueError,
            "expected at least one factor",
            brightness_factor=None,
            contrast_factor=None,
            saturation_factor=None,
            hue_factor=None,
        )

    def augment(key: Any, image: Image) -> Image:
        for part, part_key in zip(parts, jax.random.split(key, len(parts)), strict=True):
            image = part.apply({}, {}, image[None], key=part_key, train=True)[0][0]
        return image

    return random_on_images(data_format, augment)
