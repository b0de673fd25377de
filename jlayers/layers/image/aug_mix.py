"""AugMix: an image mixed with several chains of augmentations of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.layers._arguments import DataFormat, above_zero, choice, positive
from jlayers.layers.image._images import Image, factor_range, number_pair, random_on_images
from jlayers.layers.image.rand_augment import augmentations, branch

__all__ = ["AugMix"]


@layer
def AugMix(
    value_range: tuple[float, float] = (0, 255),
    num_chains: int = 3,
    chain_depth: int = 3,
    factor: float | tuple[float, float] = 0.3,
    alpha: float = 1.0,
    all_ops: bool = True,
    interpolation: str = "bilinear",
    data_format: DataFormat | None = None,
):
    """Mixes each image with several chains of random augmentations in training (Hendrycks et al., 2020).

    A chain draws each of its steps from the augmentations of `RandAugment` and from doing nothing. The chains
    are mixed by weights from a Dirichlet distribution, and the mixture with the image by one from a beta
    distribution. As in Keras, except that each image has its own chains; in Keras a whole batch shares them.
    In inference images pass unchanged. Whole numbers become float32.

    Shapes: `(batch, height, width, channels)`, kept, of 3 channels or of 1.

    Args:
        num_chains: how many chains are mixed.
        chain_depth: augmentations in a chain.
        factor: range from which the strength of each is drawn, (low, high), or one number for (0, number).
        alpha: parameter of both distributions; with small values one chain prevails.
        all_ops: False leaves out brightness, color, contrast and sharpness.

    Raises:
        ValueError: a factor outside [0, 1], no chains, no depth, an `alpha` of 0 or less, a range that is
            none, other channels than 1 or 3, or an input that is not a batch of images.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> mix = jl.AugMix(value_range=(0, 1), num_chains=1, chain_depth=1, all_ops=False)
    >>> mix.apply({}, {}, jnp.ones((2, 4, 4, 3)), key=jax.random.key(0), train=True)[0].shape
    (2, 4, 4, 3)
    """
    pair = factor_range("factor", factor, 0, 1)
    limits = number_pair("value_range", value_range)
    positive("num_chains", num_chains, most=100)
    positive("chain_depth", chain_depth, most=100)
    above_zero("alpha", alpha)
    choice("interpolation", interpolation, ("bilinear", "nearest"))
    members = augmentations(pair, value_range, interpolation, colors=all_ops)
    branches = [*map(branch, members), lambda key, image: image]

    def chain(key: Any, image: Image) -> Image:
        def step(image: Image, key: Any) -> tuple[Image, None]:
            choice_key, member_key = jax.random.split(key)
            chosen = jax.random.randint(choice_key, (), 0, len(branches))
            return jax.lax.switch(chosen, branches, member_key, image), None

        return jax.lax.scan(step, image, jax.random.split(key, chain_depth))[0]

    def augment(key: Any, image: Image) -> Image:
        chain_key, weight_key, mix_key = jax.random.split(key, 3)
        chains = jax.vmap(chain, in_axes=(0, None))(jax.random.split(chain_key, num_chains), image)
        weights = jax.random.dirichlet(
            weight_key, jnp.full(num_chains, alpha, image.dtype), dtype=image.dtype
        )
        share = jax.random.beta(mix_key, alpha, alpha, dtype=image.dtype)
        mixed = share * image + (1 - share) * jnp.tensordot(weights, chains, 1)
        return jnp.clip(mixed, *limits)

    return random_on_images(data_format, augment)
