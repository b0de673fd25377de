"""Batches whose images and labels are mixed in training: layers from (images, labels) to (images, labels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import layer, need_key
from jlayers.core.pair import Pair
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import DataFormat, channels_at_edge, need_rank, spatial_shape
from jlayers.layers.image._images import factor_range, image_keys, uniform
from jlayers.layers.image._sampling import random_box

__all__ = ["CutMix", "MixUp"]

# From a key, a batch of images and the same in another order: the mixed images, and the first's weights.
Mix = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _mixing(data_format: str | None, mix: Mix) -> Any:
    last, first = channels_at_edge(data_format)

    def check(images: Any, labels: Any) -> None:
        need_rank(images, 4, spatial_shape(2, data_format))
        if not jnp.issubdtype(labels.dtype, jnp.floating) or len(labels.shape) < 2:
            raise refused(
                TypeError,
                "expected labels that can be mixed, floats (batch, classes)",
                labels,
                instead="make class numbers one-hot with jax.nn.one_hot(labels, classes), and train with "
                "categorical_crossentropy",
            )
        if labels.shape[0] != images.shape[0]:
            raise refused(ValueError, "expected as many labels as images", (images, labels))

    def init(key: Any, images: Any, labels: Any) -> dict[str, Any]:
        check(images, labels)
        return {}

    def apply(params: Any, images: Any, labels: Any, *, key: Any, train: bool) -> tuple[Any, Any]:
        check(images, labels)
        if not train:
            return images.astype(param_dtype(images)), labels
        mix_key, order_key = jax.random.split(need_key(key))
        order = jax.random.permutation(order_key, images.shape[0])
        wide = last(images).astype(wide_dtype(images.dtype))
        mixed, weights = mix(mix_key, wide, wide[order])
        shares = weights.astype(labels.dtype).reshape(-1, *(1,) * (labels.ndim - 1))
        labels = shares * labels + (1 - shares) * labels[order]
        return first(mixed.astype(param_dtype(images))), labels

    return Pair(init, apply, wide=True)


@layer
def MixUp(alpha: float = 0.2, data_format: DataFormat | None = None):
    """Blends each image, and its label, with another of the batch in training (Zhang et al., 2018).

    As in Keras, but on two inputs instead of a dict. The weight of an image is drawn from
    Beta(alpha, alpha). Use it as `jl.compile(..., augment=jl.MixUp())`. In inference both pass unchanged.
    Whole-number images become float32.

    Shapes: `(batch, height, width, channels)` and `(batch, classes)`, both kept.

    Args:
        alpha: near 0 one of the two images prevails; at 1 all weights are equally likely.

    Raises:
        ValueError: an alpha that is not positive, or images that are not a batch.
        TypeError: labels that cannot be mixed, such as class numbers.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> images, labels = jnp.ones((4, 2, 2, 1)), jax.nn.one_hot(jnp.arange(4), 4)
    >>> (_, mixed), _ = jl.MixUp().apply({}, {}, images, labels, key=jax.random.key(0), train=True)
    >>> mixed.sum(axis=1).round(3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0:
        raise refused(ValueError, "expected alpha to be a positive number", alpha=alpha)

    def mix(key: Any, images: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
        draw = lambda key: jax.random.beta(key, alpha, alpha, dtype=images.dtype)  # noqa: E731
        weights = jax.vmap(draw)(image_keys(key, images.shape[0]))
        shares = weights[:, None, None, None]
        return shares * images + (1 - shares) * others, weights

    return _mixing(data_format, mix)


@layer
def CutMix(factor: float | tuple[float, float] = 1.0, data_format: DataFormat | None = None):
    """Replaces a box of each image by one from another image of the batch in training (Yun et al., 2019).

    The label changes by the share of pixels that the box covers. As in Keras, except that this share is
    counted, not taken from the area before rounding, and that there are two inputs instead of a dict. Use it
    as `jl.compile(..., augment=jl.CutMix())`. In inference both pass unchanged. Whole-number images become
    float32.

    Shapes: `(batch, height, width, channels)` and `(batch, classes)`, both kept.

    Args:
        factor: range of the alpha of a batch, (low, high), or one number for (0, number). The fraction of an
            image that is kept is drawn from Beta(alpha, alpha).

    Raises:
        ValueError: a factor outside [0, 1], or images that are not a batch.
        TypeError: labels that cannot be mixed, such as class numbers.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> images = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 8, 8, 1))
    >>> labels = jax.nn.one_hot(jnp.arange(4), 4)
    >>> (cut, mixed), _ = jl.CutMix().apply({}, {}, images, labels, key=jax.random.key(0), train=True)
    >>> bool(jnp.allclose(cut.mean(axis=(1, 2, 3)), mixed @ jnp.arange(4.0)))
    True
    """
    low, high = factor_range("factor", factor, 0, 1)

    def mix(key: Any, images: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
        alpha_key, images_key = jax.random.split(key)
        alpha = uniform(alpha_key, low, high, images.dtype) + 1e-6  # Beta needs more than 0

        def one(key: Any, image: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
            part_key, box_key = jax.random.split(key)
            side = jnp.sqrt(1 - jax.random.beta(part_key, alpha, alpha, dtype=images.dtype))
            box = random_box(box_key, image, jnp.stack([side, side]))
            return jnp.where(box, other, image), 1 - jnp.mean(box.astype(images.dtype))

        return jax.vmap(one)(image_keys(images_key, images.shape[0]), images, others)

    return _mixing(data_format, mix)
