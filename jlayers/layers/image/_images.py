"""The common part of image layers: checks, single images, whole numbers as floats, a key for each image.

Keras's layers take a `seed`; here the key of `apply` decides what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import need_key
from jlayers.core.pair import Pair
from jlayers.core.shapes import describe, param_dtype, wide_dtype
from jlayers.core.sizes import is_known
from jlayers.layers._arguments import channels_at_edge, need_rank, refused_argument, spatial_shape

__all__ = [
    "Augment",
    "Image",
    "factor_range",
    "fixed_on_images",
    "image_keys",
    "need_rgb",
    "number_pair",
    "random_on_images",
    "uniform",
]

Image = Float[Array, "height width channels"]
Augment = Callable[[Any, Image], Image]

# A single image with more is probably a batch of images without channels: (60000, 28, 28).
_MOST_CHANNELS = 4


# ------------------------------------------------------------------------------------- arguments


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number_pair(name: str, value: Any) -> tuple[float, float]:
    """Two numbers, the first below the second."""
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(map(_is_number, value))
        or not value[0] < value[1]
    ):
        raise refused_argument(name, value, "as two numbers (low, high), low below high")
    return value[0], value[1]


def factor_range(
    name: str, value: Any, least: float, most: float, symmetric: bool = False
) -> tuple[float, float]:
    """Between what a factor is drawn: two numbers, or one for 0 (or its negative, if symmetric) to it."""
    pair = value if isinstance(value, (tuple, list)) else (-value if symmetric else 0, value)  # type: ignore[operator]
    if len(pair) != 2 or not all(_is_number(v) and least <= v <= most for v in pair):
        raise refused_argument(
            name, value, f"as a number, or two of them (low, high), from {least} to {most}"
        )
    low, high = sorted(pair)
    return low, high


def need_rgb(image: Any, or_gray: bool = False) -> None:
    if image.shape[-1] not in ((1, 3) if or_gray else (3,)):
        raise refused(
            ValueError,
            f"expected images of 3 channels (red, green, blue){' or of 1' if or_gray else ''}, received "
            f"{image.shape[-1]} channels in {describe(image)}",
        )


# --------------------------------------------------------------------------------- pairs of layers


def fixed_on_images(data_format: str | None, transform: Callable[[Any], Any]) -> Pair:
    """The pair of a layer that does the same to all images: `transform` of a floating channels-last batch."""
    init, apply, _ = _on_images(data_format, lambda x, key, train: transform(x))
    return Pair(init, apply, wide=True)


def random_on_images(
    data_format: str | None, augment: Augment, infer: Callable[[Any], Any] = lambda x: x
) -> Pair:
    """The pair of a layer that changes each image by draws of its own in training.

    `augment(key, image)` changes one floating image (height, width, channels), and `infer` the batch
    otherwise. An image's draws depend only on the key and its place in the batch.
    """
    each = jax.jit(
        jax.vmap(augment), inline=True
    )  # one program outside of jit, too, and not one per operation

    def transform(x: Any, key: Any, train: bool) -> Any:
        return each(image_keys(need_key(key), x.shape[0]), x) if train else infer(x)

    init, _, apply = _on_images(data_format, transform)
    return Pair(init, apply, wide=True)


def _on_images(data_format: str | None, transform: Callable[..., Any]) -> Any:
    last, first = channels_at_edge(data_format)

    def check(x: Any) -> None:
        if len(x.shape) != 3:
            need_rank(x, 4, spatial_shape(2, data_format))
        elif not is_known(x.shape[0]) or last(_batch_of_one(x)).shape[-1] > _MOST_CHANNELS:
            raise refused(
                ValueError,
                f"expected images {spatial_shape(2, data_format)}, or one image without the batch and of at "
                f"most {_MOST_CHANNELS} channels",
                x,
                instead="if the channels are missing, add them with x[..., None]; if the batch is, x[None]",
            )

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def random(params: Any, x: Any, *, key: Any, train: bool) -> Any:
        check(x)
        single = x.ndim == 3
        wide = last(x[None] if single else x).astype(wide_dtype(x.dtype))
        y = first(transform(wide, key, train).astype(param_dtype(x)))
        return y[0] if single else y

    def without_key(params: Any, x: Any) -> Any:
        return random(params, x, key=None, train=False)

    return init, without_key, random


def _batch_of_one(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *x.shape), x.dtype)


def image_keys(key: Any, count: int) -> Any:
    """A key for each image, which does not depend on how many there are."""
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(count))


def uniform(key: Any, low: float, high: float, dtype: Any, shape: tuple[int, ...] = ()) -> jax.Array:
    """Uniform draws in `[low, high)`; exactly `low` where both are equal."""
    return low + (high - low) * jax.random.uniform(key, shape, dtype)
