"""RandAugment: some of many augmentations for each image, all of one strength."""

from __future__ import annotations

from typing import Any

import jax

from jlayers.core.layer import Layer, layer
from jlayers.layers._arguments import DataFormat, choice, positive
from jlayers.layers.image._images import Image, factor_range, random_on_images
from jlayers.layers.image.affine import RandomRotation, RandomShear, RandomTranslation
from jlayers.layers.image.color import RandomBrightness, RandomColorDegeneration, RandomContrast
from jlayers.layers.image.tone import (
    AutoContrast,
    Equalization,
    RandomPosterization,
    RandomSharpness,
    Solarization,
)

__all__ = ["RandAugment"]


@layer
def RandAugment(
    value_range: tuple[float, float] = (0, 255),
    num_ops: int = 2,
    factor: float | tuple[float, float] = 0.5,
    interpolation: str = "bilinear",
    data_format: DataFormat | None = None,
):
    """Applies some of eleven augmentations to each image in training (Cubuk et al., 2019).

    They are shear, translation, rotation, brightness, color degeneration, contrast, sharpness,
    posterization, solarization, automatic contrast and equalization, with Keras's strengths. Each image has
    its own choice; in Keras a batch has one. In inference images pass unchanged. Whole numbers become
    float32.

    Shapes: `(batch, height, width, channels)` or `(height, width, channels)`, kept, of 3 channels or of 1.

    Args:
        num_ops: number of augmentations per image; one may be drawn twice.
        factor: range of the strength of each, (low, high), or one number for (0, number).

    Raises:
        ValueError: a factor outside [0, 1], no augmentations, an empty range, other channels than 1 or
            3, or an input that is not images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> augment = jl.RandAugment(value_range=(0, 1), num_ops=1)
    >>> augment.apply({}, {}, jnp.ones((2, 4, 4, 3)), key=jax.random.key(0), train=True)[0].shape
    (2, 4, 4, 3)
    """
    pair = factor_range("factor", factor, 0, 1)
    positive("num_ops", num_ops, most=100)
    choice("interpolation", interpolation, ("bilinear", "nearest"))
    members = augmentations(pair, value_range, interpolation)

    branches = [branch(member) for member in members]

    def augment(key: Any, image: Image) -> Image:
        for place in range(num_ops):
            choice_key, member_key = jax.random.split(jax.random.fold_in(key, place))
            chosen = jax.random.randint(choice_key, (), 0, len(branches))
            image = jax.lax.switch(chosen, branches, member_key, image)
        return image

    return random_on_images(data_format, augment)


def branch(member: Layer) -> Any:
    """An augmentation as a function of a key and one image."""
    return lambda key, image: member.apply({}, {}, image[None], key=key, train=True)[0][0]


def augmentations(
    pair: tuple[float, float], value_range: tuple[float, float], interpolation: str, colors: bool = True
) -> tuple[Layer, ...]:
    """The augmentations to choose from, with strengths drawn from the range `pair`.

    Args:
        pair: lowest and highest strength.
        value_range: lowest and highest value of a pixel.
        interpolation: "bilinear" or "nearest".
        colors: whether brightness, color, contrast and sharpness are among them.
    """
    moves = (
        RandomShear(pair, pair, interpolation),
        RandomTranslation(pair, pair, interpolation=interpolation),
        RandomRotation(pair, interpolation=interpolation),
    )
    degrees = (
        RandomBrightness(pair, value_range),
        RandomColorDegeneration(pair, value_range),
        RandomContrast(pair, value_range),
        RandomSharpness(pair, value_range),
    )
    tones = (
        RandomPosterization((1, max(1, int(8 * pair[1]))), value_range),
        Solarization(pair, pair, value_range),
        AutoContrast(value_range),
        Equalization(value_range),
    )
    return (*moves, *(degrees if colors else ()), *tones)
