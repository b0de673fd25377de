"""Random blurs, bends and tilts of images in training."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.layers._arguments import DataFormat, choice, refused_argument
from jlayers.layers.image._images import Image, factor_range, number_pair, random_on_images, uniform
from jlayers.layers.image._sampling import (
    FillMode,
    SampleMethod,
    blurred,
    check_sampling,
    gaussian,
    homography,
    sampled,
)

__all__ = ["RandomElasticTransform", "RandomGaussianBlur", "RandomPerspective"]


def _chance(key: Any, factor: tuple[float, float], dtype: Any) -> jax.Array:
    """True with a probability that is drawn between those."""
    chance_key, draw_key = jax.random.split(key)
    return uniform(draw_key, 0, 1, dtype) < uniform(chance_key, *factor, dtype)


def _odd(name: str, value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 and v % 2 for v in pair)
    if len(pair) != 2 or not whole:
        raise refused_argument(name, value, "as an odd whole number, or two of them (width, height)")
    return pair


@layer
def RandomGaussianBlur(
    factor: float | tuple[float, float] = 1.0,
    kernel_size: int | tuple[int, int] = 3,
    sigma: float | tuple[float, float] = 1.0,
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Blurs images by a Gaussian window at random in training.

    As in Keras, except for the border, which is repeated outwards; Keras puts zeros there, which darkens it.
    Each image has its own width of the window, in Keras a batch has one. In inference images pass unchanged.
    Whole numbers become float32.

    Shapes: `(batch, height, width, channels)`, kept.

    Args:
        factor: range from which an image's probability is drawn, (low, high), or one number for
            (0, number).
        kernel_size: pixels of the window, odd; or two numbers (width, height).
        sigma: range from which the two standard deviations, across and down, are drawn, or one number for
            (0, number).
        value_range: what the result is clipped to.

    Raises:
        ValueError: a factor outside [0, 1], a negative sigma, an even size, a range that is none, or an input
            that is not a batch of images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> blur, x = jl.RandomGaussianBlur((1.0, 1.0), sigma=(1.0, 1.0)), jnp.eye(3)[None, :, :, None] * 100
    >>> y, _ = blur.apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> bool(0 < y[0, 0, 1, 0] < y[0, 1, 1, 0] < 100)
    True
    """
    chance = factor_range("factor", factor, 0, 1)
    widths = factor_range("sigma", sigma, 0, float("inf"))
    sizes = _odd("kernel_size", kernel_size)
    limits = number_pair("value_range", value_range)

    def augment(key: Any, image: Image) -> Image:
        chance_key, sigma_key = jax.random.split(key)
        sigmas = uniform(sigma_key, *widths, image.dtype, (2,)) + 1e-6
        across, down = (gaussian(n, s, image.dtype) for n, s in zip(sizes, sigmas, strict=True))
        blurry = blurred(image, down, across, mode="edge")
        return jnp.clip(jnp.where(_chance(chance_key, chance, image.dtype), blurry, image), *limits)

    return random_on_images(data_format, augment)


@layer
def RandomElasticTransform(
    factor: float | tuple[float, float] = 1.0,
    scale: float | tuple[float, float] = 1.0,
    interpolation: SampleMethod = "bilinear",
    fill_mode: FillMode | Literal["mirror"] = "reflect",
    fill_value: float = 0.0,
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Bends images at random in training, as if they were rubber (Simard et al., 2003).

    Each pixel moves by a smooth random field. As in Keras, except that each image has its own strength, and
    moves down and across by independent fields; Keras 3.15 uses the same field for both. In inference images
    pass unchanged. Whole numbers become float32.

    Shapes: `(batch, height, width, channels)`, kept.

    Args:
        factor: range from which an image's probability is drawn, (low, high), or one number for
            (0, number).
        scale: range from which the strength is drawn, likewise; it sets how far pixels move, up to a tenth of
            the longer side times the field, and how smooth the field is, a twentieth of the shorter side.
        fill_mode: what lies outside: "reflect", "mirror", "wrap", "nearest" or "constant".
        value_range: what the result is clipped to.

    Raises:
        ValueError: a factor or scale outside [0, 1], an unknown mode, a range that is none, or an input that
            is not a batch of images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> bend, x = jl.RandomElasticTransform((1.0, 1.0)), jnp.arange(400.0).reshape(1, 20, 20, 1) / 2
    >>> y, _ = bend.apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> y.shape, bool(jnp.abs(y - x).max() > 0)
    ((1, 20, 20, 1), True)
    """
    chance = factor_range("factor", factor, 0, 1)
    strengths = factor_range("scale", scale, 0, 1)
    limits = number_pair("value_range", value_range)
    choice("interpolation", interpolation, ("nearest", "bilinear"))
    choice("fill_mode", fill_mode, ("constant", "nearest", "wrap", "mirror", "reflect"))

    def augment(key: Any, image: Image) -> Image:
        chance_key, scale_key, field_key = jax.random.split(key, 3)
        height, width, _ = image.shape
        strength = uniform(scale_key, *strengths, image.dtype)
        alpha, sigma = 0.1 * strength * max(height, width), 0.05 * strength * min(height, width)
        reach = int(6 * 0.05 * strengths[1] * min(height, width)) | 1
        window = gaussian(reach, sigma, image.dtype)
        noise = jax.random.normal(field_key, (height, width, 2), image.dtype) * sigma
        moves = alpha * blurred(noise, window, window)
        rows = jnp.arange(height, dtype=image.dtype)[:, None] + moves[..., 0]
        columns = jnp.arange(width, dtype=image.dtype)[None, :] + moves[..., 1]
        bent = sampled(image, (rows, columns), fill_mode, interpolation, fill_value)
        return jnp.clip(jnp.where(_chance(chance_key, chance, image.dtype), bent, image), *limits)

    return random_on_images(data_format, augment)


@layer
def RandomPerspective(
    factor: float | tuple[float, float] = 1.0,
    scale: float = 1.0,
    interpolation: SampleMethod = "bilinear",
    fill_value: float = 0.0,
    data_format: DataFormat | None = None,
):
    """Shows images at a random slant in training, as a camera would. As in Keras.

    The upper left corner stays. The others move by up to half of `scale` of their distances from it. An image
    of one row or one column has no slant and passes unchanged, and so do all images in inference. Whole
    numbers become float32.

    Shapes: `(batch, height, width, channels)`, kept.

    Args:
        factor: range from which an image's probability is drawn, (low, high), or one number for
            (0, number).
        scale: how far the corners move.

    Raises:
        ValueError: a factor or scale outside [0, 1], an unknown interpolation, or an input that is not a
            batch of images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> slant, x = jl.RandomPerspective(scale=0.5), jnp.ones((2, 8, 6, 1))
    >>> y, _ = slant.apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> y.shape, float(y[0, 0, 0, 0])
    ((2, 8, 6, 1), 1.0)
    """
    chance = factor_range("factor", factor, 0, 1)
    most = factor_range("scale", scale, 0, 1)[1] / 2
    check_sampling("constant", interpolation)

    def augment(key: Any, image: Image) -> Image:
        height, width, _ = image.shape
        if height < 2 or width < 2:
            return image
        chance_key, corner_key = jax.random.split(key)
        corners = jnp.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], image.dtype)
        moved = corners * (1 + uniform(corner_key, -most, most, image.dtype, (4, 2)))
        places = homography(moved, corners, height, width)
        slanted = sampled(image, places, "constant", interpolation, fill_value)
        return jnp.where(_chance(chance_key, chance, image.dtype), slanted, image)

    return random_on_images(data_format, augment)
