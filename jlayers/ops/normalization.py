"""Mean and variance, and the centered data they are taken of.

Left to itself XLA's CPU compiler keeps the data for the backward pass twice, as they came and centered: it
needs the centered ones for a sum, and computes them once more where it can. Centerd in a call that it does
not look into, they are all that is kept, and all gradients are two sums and one loop over them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jlayers.ops.platform import by_platform
from jlayers.ops.stored import stored

__all__ = ["Moments", "centered", "moments", "normalized", "normalized_plain"]


class Moments(NamedTuple):
    """Statistics, the reduced axes kept, and what is left of the data.

    Attributes:
        near: the data less their rounded mean.
        rest: the mean of `near`, about 0.
        mean: mean of the data.
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
    near = centered(x, shift) if stored else x - shift
    rest = mean(near)
    variance = mean(jnp.square(near)) - jnp.square(rest)
    return Moments(near, rest, shift + rest, jnp.maximum(variance, 0))


def centered(x: jax.Array, shift: jax.Array) -> jax.Array:
    """`x - shift`, which CPUs write to memory."""
    return lax.platform_dependent(x, shift, cpu=_centered_stored, default=jnp.subtract)


def _centered_stored(x: jax.Array, shift: jax.Array) -> jax.Array:
    with set_xla_metadata(inlineable="false"):
        return jax.jit(jnp.subtract)(x, shift)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def normalized(x: jax.Array, axes: tuple[int, ...], epsilon: float) -> jax.Array:
    """`x` brought to mean 0 and variance 1 over `axes`.

    Its tangent is written out: of the data only the result is kept, and the gradient, which a skip connection
    adds to those of all later blocks, is computed once and not in each loop that reads such a sum.
    """
    return normalized_plain(x, axes, epsilon)


def normalized_plain(x: jax.Array, axes: tuple[int, ...], epsilon: float) -> jax.Array:
    """`normalized` with the gradient that JAX derives."""
    return _with_scale(x, axes, epsilon)[0]


def _with_scale(x: jax.Array, axes: tuple[int, ...], epsilon: float) -> tuple[jax.Array, jax.Array]:
    near, rest, _, variance = moments(x, axes)
    scale = lax.rsqrt(variance + epsilon)
    return (near - rest) * scale, scale


@normalized.defjvp
def _normalized_jvp(
    axes: tuple[int, ...], epsilon: float, primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y, scale = _with_scale(x, axes, epsilon)
    others = tuple(a for a in range(x.ndim) if a not in axes)
    count = math.prod(x.shape[a] for a in axes)

    def mean(z: jax.Array) -> jax.Array:
        sums = lax.reduce_sum(z, axes)
        return lax.broadcast_in_dim(sums / count, z.shape, others)

    def tangent(dx: jax.Array, y: jax.Array, scale: jax.Array) -> jax.Array:
        dx = dx * lax.broadcast_in_dim(scale, dx.shape, tuple(range(dx.ndim)))
        return dx - mean(dx) - y * mean(y * dx)

    return y, by_platform(functools.partial(stored, tangent), tangent, dx, y, scale)
