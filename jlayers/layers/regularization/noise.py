"""Normal noise in training, added or multiplied."""

from __future__ import annotations

import math
from typing import Any

import jax
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import layer, need_key, no_params
from jlayers.core.masks import keeps_mask
from jlayers.layers._arguments import (
    fraction,
    need_floating,
)

__all__ = ["GaussianDropout", "GaussianNoise"]

X = Float[Array, "..."]


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
