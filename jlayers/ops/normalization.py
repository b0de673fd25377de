"""Mean and variance, and the centred data they are taken of.

Left to itself XLA's CPU compiler keeps the data for the backward pass twice, as they came and centred: it
needs the centred ones for a sum, and computes them once more where it can. Centred in a call that it does not
look into, they are all that is kept, and all gradients are two sums and one loop over them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["Moments", "centred", "moments"]


class Moments(NamedTuple):
    """Statistics, the reduced axes kept, and what is left of the data.

    Attributes:
        near: the data less their rounded mean.
        rest: the mean of `near`, about 0.
        mean: of the data.
        variance: the biased one.
    """

    near: jax.Array
    rest: jax.Array
    mean: jax.Array
    variance: jax.Array


def moments(
    x: jax.Array, axes: Sequence[int], real: jax.Array | None = None, stored: bool = False
) -> Moments:
    """The moments of `x` over `axes`; only what is `real` counts, of the shape of `x`; None for all.

    The rounded mean serves as a mere shift: about it both moments are taken without loss. With `stored`
    what is near it is kept for the gradient instead of `x`, where `x` is of no other use.
    """
    mean = functools.partial(jnp.mean, axis=tuple(axes), keepdims=True, where=real)
    shift = lax.stop_gradient(mean(x))
    near = centred(x, shift) if stored else x - shift
    rest = mean(near)
    variance = mean(jnp.square(near)) - jnp.square(rest)
    return Moments(near, rest, shift + rest, jnp.maximum(variance, 0))


def centred(x: jax.Array, shift: jax.Array) -> jax.Array:
    """`x - shift`, which CPUs write to memory."""
    return lax.platform_dependent(x, shift, cpu=_centred_stored, default=jnp.subtract)


def _centred_stored(x: jax.Array, shift: jax.Array) -> jax.Array:
    with set_xla_metadata(inlineable="false"):
        return jax.jit(jnp.subtract)(x, shift)
