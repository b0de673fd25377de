"""Layers that act in training only: noise and dropout by explicit keys, and penalties on activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import layer, need_key, no_params
from jlayers.core.lifting import activity_loss
from jlayers.core.masks import keeps_mask, with_mask
from jlayers.core.state import AUX_LOSS
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    fraction,
    need_floating,
    need_rank,
    not_negative,
    spatial_shape,
)
from jlayers.ops.dropout import keep_mask
from jlayers.regularizers import l1_l2

__all__ = [
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]

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
    """Sets elements to 0 with probability `rate` in training and scales the others by `1 / (1 - rate)`.

    As in Keras: `rate` is the fraction dropped (Srivastava et al., 2014). Without training, and with rate 0,
    the input passes unchanged and no key is needed.

    Shapes: any, kept.

    Args:
        rate: between 0 and 1.
        noise_shape: shape of the mask, which broadcasts against the input; None for the input's size.

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
def SpatialDropout1D(rate: float):
    """Dropout of whole channels of a sequence. As in Keras (Tompson et al., 2015).

    Shapes: `(batch, steps, channels)`, kept.

    Args:
        rate: probability that a channel of an example is dropped.

    Raises:
        ValueError: a rate outside [0, 1], or an input of another rank.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> drop = jl.SpatialDropout1D(0.5)
    >>> y, _ = drop.apply({}, {}, jnp.ones((2, 3, 4)), key=jax.random.key(0), train=True)
    >>> bool((y == y[:, :1]).all())
    True
    """
    return _spatial_dropout(1, rate, None)


@layer
def SpatialDropout2D(rate: float, data_format: DataFormat | None = None):
    """Dropout of whole channels of an image. As in Keras (Tompson et al., 2015).

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
def SpatialDropout3D(rate: float, data_format: DataFormat | None = None):
    """Dropout of whole channels of a volume. As in Keras (Tompson et al., 2015).

    Shapes: `(batch, depth, height, width, channels)`, kept.

    Args:
        rate: probability that a channel of an example is dropped.

    Raises:
        ValueError: a rate outside [0, 1], or an input of another rank.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> drop = jl.SpatialDropout3D(0.5)
    >>> y, _ = drop.apply({}, {}, jnp.ones((2, 3, 3, 3, 4)), key=jax.random.key(0), train=True)
    >>> bool((y == y[:, :1, :1, :1]).all())
    True
    """
    return _spatial_dropout(3, rate, data_format)


@layer
def AlphaDropout(rate: float, noise_shape: tuple[int | None, ...] | None = None):
    """Dropout for `selu`, which keeps mean 0 and variance 1 (Klambauer et al., 2017). As in Keras.

    In training an element takes the value that `selu` tends to on the left, with probability `rate`; the
    result is then scaled and moved. A rate of 1 gives zeros, where Keras divides by zero.

    Shapes: any, kept.

    Args:
        rate: between 0 and 1.
        noise_shape: shape of the mask, which broadcasts against the input; None for the input's size.

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


@layer
def GaussianDropout(rate: float):
    """Multiplies by normal noise of mean 1 in training (Srivastava et al., 2014). As in Keras.

    The noise has the variance of dropout at this rate, `rate / (1 - rate)`.

    Shapes: any, kept.

    Args:
        rate: at least 0 and below 1.

    Raises:
        ValueError: a rate outside [0, 1). Keras takes 1 and divides by zero in training.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> y, _ = jl.GaussianDropout(0.2).apply({}, {}, jnp.ones(10000), key=jax.random.key(0), train=True)
    >>> round(float(y.std()), 1)
    0.5
    """
    if fraction("rate", rate) == 1:
        raise refused(ValueError, "expected a rate below 1, where the noise is infinite", rate=rate)

    @keeps_mask
    def apply(params: Any, x: X, *, key: Any, train: bool) -> X:
        if not train or rate == 0:
            return x
        need_floating(x)
        noise = jax.random.normal(need_key(key), x.shape, x.dtype)
        return x * (1 + math.sqrt(rate / (1 - rate)) * noise)

    return no_params, apply


@layer
def GaussianNoise(stddev: float):
    """Adds normal noise in training. As in Keras.

    Shapes: any, kept.

    Args:
        stddev: standard deviation of the noise.

    Raises:
        ValueError: a negative `stddev`.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> noisy, _ = jl.GaussianNoise(0.1).apply({}, {}, jnp.ones(3), key=jax.random.key(0), train=True)
    >>> noisy.shape
    (3,)
    """
    if stddev < 0:
        raise refused(ValueError, "expected stddev >= 0", stddev=stddev)

    @keeps_mask
    def apply(params: Any, x: X, *, key: Any, train: bool) -> X:
        if not train or stddev == 0:
            return x
        need_floating(x)
        return x + stddev * jax.random.normal(need_key(key), x.shape, x.dtype)

    return no_params, apply


@layer
def ActivityRegularization(l1: float = 0.0, l2: float = 0.0):
    """Adds `l1 * sum(|x|) + l2 * sum(x**2)`, divided by the batch size, to the loss. As in Keras.

    The penalty travels in the returned state as `aux_loss`, a float32 scalar, which the training step
    collects. Shapes: any with a batch in front, kept.

    Args:
        l1: factor of the absolute values.
        l2: factor of the squares.

    Raises:
        ValueError: a negative factor.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> penalty = jl.ActivityRegularization(l2=0.5)
    >>> y, state = penalty.apply({}, {"aux_loss": jnp.zeros(())}, jnp.ones((2, 3)))
    >>> float(state["aux_loss"])
    1.5
    """
    not_negative("l1", l1)
    not_negative("l2", l2)
    penalty = l1_l2(l1, l2)

    def init(key: Any, x: Any) -> Any:
        return {}, {AUX_LOSS: jnp.zeros((), jnp.float32)}

    def apply(params: Any, x: Any, *, state: Any, mask: Any) -> Any:
        output = with_mask(x, mask)
        return output, {**state, AUX_LOSS: activity_loss(penalty, output)}

    return init, apply
