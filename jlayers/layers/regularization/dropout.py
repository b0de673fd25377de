"""Dropout: elements, channels or examples that are left out at random in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import layer, need_key
from jlayers.core.masks import keeps_mask
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    fraction,
    need_floating,
    need_rank,
    spatial_shape,
)
from jlayers.ops.dropout import keep_mask

__all__ = ["AlphaDropout", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"]

X = Float[Array, "..."]
_SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805  # what selu tends to on the left


def _drop(x: jax.Array, rate: float, key: Any, shape: tuple[int, ...]) -> jax.Array:
    """Zeros with probability `rate`, one draw per element of `shape`; the rest scaled to keep the mean."""
    if rate == 1:
        return jnp.zeros_like(x)
    keep = jnp.broadcast_to(keep_mask(key, 1 - rate, shape), x.shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def _mask_shape(noise_shape: Sequence[int | None] | None, x: Any) -> tuple[int, ...]:
    """The shape of the mask: that of the input where `noise_shape` leaves it open."""
    if noise_shape is None:
        return x.shape
    pairs = list(zip(noise_shape, x.shape, strict=False))
    fits = all(n in (None, 1) or n == d or not isinstance(d, int) for n, d in pairs)
    if not fits or len(noise_shape) != len(x.shape):
        raise refused(
            ValueError,
            "expected noise_shape to have 1, None or the input's size for each dimension",
            x,
            noise_shape=noise_shape,
        )
    return tuple(d if n is None else n for n, d in pairs)


@layer
def Dropout(rate: float, noise_shape: tuple[int | None, ...] | None = None):
    """Dropout (Srivastava et al., 2014). As in Keras.

    In training each element becomes 0 with probability `rate`, and the others are scaled by `1 / (1 - rate)`.
    In inference, and with rate 0, the input passes unchanged and no key is needed.

    Shapes: any, kept.

    Args:
        rate: fraction of the elements that is dropped, from 0 to 1.
        noise_shape: shape of the mask, which broadcasts against the input; None for the shape of the input.

    Raises:
        ValueError: a rate outside [0, 1], or a `noise_shape` that does not fit the input.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> y, _ = jl.Dropout(0.5).apply({}, {}, jnp.ones(1000), key=jax.random.key(0), train=True)
    >>> sorted(set(y.tolist())), bool(abs(y.mean() - 1) < 0.1)
    ([0.0, 2.0], True)
    """
    fraction("rate", rate)

    def init(key: Any, x: Any) -> dict[str, Any]:
        _mask_shape(noise_shape, x)
        return {}

    @keeps_mask
    def apply(params: Any, x: X, *, key: Any, train: bool) -> X:
        if not train or rate == 0:
            return x
        need_floating(x)
        return _drop(x, rate, need_key(key), _mask_shape(noise_shape, x))

    return init, apply


def _spatial_dropout(rank: int, rate: float, data_format: str | None) -> Any:
    fraction("rate", rate)
    last, first = channels_at_edge(data_format)

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    @keeps_mask
    def apply(params: Any, x: Any, *, key: Any, train: bool) -> Any:
        check(x)
        if not train or rate == 0:
            return x
        need_floating(x)
        x = last(x)
        shape = (x.shape[0], *(1,) * rank, x.shape[-1])
        return first(_drop(x, rate, need_key(key), shape))

    return init, apply


@layer
def SpatialDropout2D(rate: float, data_format: DataFormat | None = None):
    """Dropout of whole channels of an image (Tompson et al., 2015). As in Keras.

    Shapes: `(batch, height, width, channels)`, kept.

    Args:
        rate: probability that a channel of an example is dropped.

    Raises:
        ValueError: a rate outside [0, 1], or an input of another rank.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> drop = jl.SpatialDropout2D(0.5)
    >>> y, _ = drop.apply({}, {}, jnp.ones((2, 3, 3, 4)), key=jax.random.key(0), train=True)
    >>> bool((y == y[:, :1, :1]).all())
    True
    """
    return _spatial_dropout(2, rate, data_format)


@layer
def SpatialDropout1D(rate: float):
    """Dropout of whole channels of a sequence. As `SpatialDropout2D`, over one axis.

    Shapes: `(batch, steps, channels)`, kept.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> drop = jl.SpatialDropout1D(0.5)
    >>> y, _ = drop.apply({}, {}, jnp.ones((2, 3, 4)), key=jax.random.key(0), train=True)
    >>> bool((y == y[:, :1]).all())
    True
    """
    return _spatial_dropout(1, rate, None)


@layer
def SpatialDropout3D(rate: float, data_format: DataFormat | None = None):
    """Dropout of whole channels of a volume. As `SpatialDropout2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)`, kept.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> drop = jl.SpatialDropout3D(0.5)
    >>> y, _ = drop.apply({}, {}, jnp.ones((2, 3, 3, 3, 4)), key=jax.random.key(0), train=True)
    >>> bool((y == y[:, :1, :1, :1]).all())
    True
    """
    return _spatial_dropout(3, rate, data_format)


@layer
def AlphaDropout(rate: float, noise_shape: tuple[int | None, ...] | None = None):
    """Dropout for `selu` that keeps mean 0 and variance 1 (Klambauer et al., 2017). As in Keras.

    In training an element takes the lower limit of `selu` with probability `rate`; the result is then scaled
    and shifted. A rate of 1 gives zeros, where Keras divides by zero.

    Shapes: any, kept.

    Args:
        rate: fraction of the elements that is dropped, from 0 to 1.
        noise_shape: shape of the mask, which broadcasts against the input; None for the shape of the input.

    Raises:
        ValueError: a rate outside [0, 1], or a `noise_shape` that does not fit the input.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(1), (10000,))
    >>> y, _ = jl.AlphaDropout(0.3).apply({}, {}, x, key=jax.random.key(0), train=True)
    >>> bool(abs(y.mean()) < 0.05), bool(abs(y.std() - 1) < 0.05)
    (True, True)
    """
    fraction("rate", rate)

    def init(key: Any, x: Any) -> dict[str, Any]:
        _mask_shape(noise_shape, x)
        return {}

    @keeps_mask
    def apply(params: Any, x: X, *, key: Any, train: bool) -> X:
        if not train or rate == 0:
            return x
        need_floating(x)
        shape = _mask_shape(noise_shape, x)
        key = need_key(key)
        if rate == 1:
            return jnp.zeros_like(x)
        keep = jnp.broadcast_to(keep_mask(key, 1 - rate, shape), x.shape)
        scale = ((1 - rate) * (1 + rate * _SELU_FLOOR**2)) ** -0.5
        dropped = jnp.full_like(x, scale * _SELU_FLOOR * (1 - rate))
        return jnp.where(keep, scale * x - scale * _SELU_FLOOR * rate, dropped)

    return init, apply
