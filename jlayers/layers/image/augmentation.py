"""Random crops, flips and erasures of images in training."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.layers._arguments import DataFormat, choice, positive
from jlayers.layers.image._images import Image, factor_range, number_pair, random_on_images, uniform
from jlayers.layers.image._sampling import fit_to, random_box

__all__ = ["RandomCrop", "RandomErasing", "RandomFlip"]


@layer
def RandomCrop(height: int, width: int, data_format: DataFormat | None = None):
    """Crops a random window of each image in training, and the center in inference.

    In inference, and where an image is too small for the window, the largest part in the middle that has the
    window's aspect ratio is resized to it, as Keras documents it. Keras 3.15 itself returns images
    unchanged in inference, in another shape than in training, and cuts one window for the whole batch.

    Shapes: `(batch, rows, columns, channels)` to `(batch, height, width, channels)`, or both without the
    batch. Whole numbers become float32.

    Args:
        height: height of the window.
        width: width of the window.

    Raises:
        ValueError: sizes below 1, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> crop, x = jl.RandomCrop(4, 4), jnp.ones((2, 8, 6, 3))
    >>> crop.apply({}, {}, x, key=jax.random.key(0), train=True)[0].shape, crop.apply({}, {}, x)[0].shape
    ((2, 4, 4, 3), (2, 4, 4, 3))
    """
    positive("height", height)
    positive("width", width)

    def infer(x: jax.Array) -> jax.Array:
        return fit_to(x, height, width)

    def augment(key: Any, image: Image) -> Image:
        rows, columns, channels = image.shape
        if rows < height or columns < width:
            return infer(image[None])[0]
        top_key, left_key = jax.random.split(key)
        top = jax.random.randint(top_key, (), 0, rows - height + 1)
        left = jax.random.randint(left_key, (), 0, columns - width + 1)
        return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

    return random_on_images(data_format, augment, infer)


@layer
def RandomFlip(
    mode: Literal["horizontal", "vertical", "horizontal_and_vertical"] = "horizontal_and_vertical",
    data_format: DataFormat | None = None,
):
    """Mirrors each image with probability 1/2 in training.

    As in Keras, except for "horizontal_and_vertical": Keras flips an image both ways or not at all, which
    turns it by half a turn; here each way is drawn by itself. Inference changes nothing. Whole numbers, such
    as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        mode: "horizontal" (left and right), "vertical", or "horizontal_and_vertical".

    Raises:
        ValueError: another mode, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jnp.tile(jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1), (20, 1, 1, 1))
    >>> y, _ = jl.RandomFlip("horizontal").apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> sorted({tuple(row.ravel().tolist()) for row in y})
    [(1.0, 2.0, 3.0), (3.0, 2.0, 1.0)]
    """
    choice("mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
    axes = [axis for axis, name in enumerate(("vertical", "horizontal")) if name in mode]

    def augment(key: Any, image: Image) -> Image:
        flips = jax.random.bernoulli(key, 0.5, (len(axes),))
        for axis, flip in zip(axes, flips, strict=True):
            image = jnp.where(flip, jnp.flip(image, axis), image)
        return image

    return random_on_images(data_format, augment)


@layer
def RandomErasing(
    factor: float | tuple[float, float] = 1.0,
    scale: float | tuple[float, float] = (0.02, 0.33),
    fill_value: float | tuple[float, ...] | None = None,
    value_range: tuple[float, float] = (0, 255),
    data_format: DataFormat | None = None,
):
    """Covers a random box of each image in training (Zhong et al., 2017). As in Keras.

    Inference changes nothing. Whole numbers, such as uint8 pixels, become float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept.

    Args:
        factor: range of an image's probability of being erased, (low, high), or one number for (0, number):
            the default erases every second image.
        scale: range of the squares of the box's sides, as fractions of the image's sides.
        fill_value: value of the box, one number or one for each channel; None for normal noise with
            standard deviation `value_range[1]`.
        value_range: range that the fill is clipped to.

    Raises:
        ValueError: factors outside [0, 1], an empty range, another number of fill values than there
            are channels, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> erase = jl.RandomErasing((1.0, 1.0), scale=(0.25, 0.25), fill_value=0.0)
    >>> y, _ = erase.apply({}, {}, jnp.ones((1, 8, 8, 1)), key=jax.random.key(0), train=True)
    >>> float(y.mean())
    0.75
    """
    low, high = factor_range("factor", factor, 0, 1)
    areas = factor_range("scale", scale, 0, 1)
    limits = number_pair("value_range", value_range)

    def fill(key: Any, image: Image) -> jax.Array:
        if fill_value is None:
            return jnp.clip(limits[1] * jax.random.normal(key, image.shape, image.dtype), *limits)
        vector = jnp.clip(jnp.asarray(fill_value, image.dtype), *limits).reshape(-1)
        if vector.size not in (1, image.shape[-1]):
            raise refused(
                ValueError,
                f"expected fill_value as one number or one for each of the {image.shape[-1]} channels",
                fill_value=fill_value,
            )
        return jnp.broadcast_to(vector, image.shape)

    def augment(key: Any, image: Image) -> Image:
        chance_key, erase_key, side_key, place_key, fill_key = jax.random.split(key, 5)
        chance = uniform(chance_key, low, high, image.dtype)
        sides = jnp.sqrt(uniform(side_key, *areas, image.dtype, (2,)))
        covered = random_box(place_key, image, sides)
        covered = covered & jax.random.bernoulli(erase_key, chance)
        return jnp.where(covered, fill(fill_key, image), image)

    return random_on_images(data_format, augment)
