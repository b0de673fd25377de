"""Normalization of each example over groups of channels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    above_zero,
    need_floating,
    positive,
)
from jlayers.layers.normalization._affine import Affine, fixed_sizes, need_sizes, normalized_axes
from jlayers.ops.normalization import moments

__all__ = ["GroupNormalization", "InstanceNormalization"]


@layer
def GroupNormalization(
    groups: int = 32,
    axis: int = -1,
    epsilon: float = 0.001,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = "zeros",
    gamma_initializer: InitializerLike = "ones",
    beta_regularizer: RegularizerLike | None = None,
    gamma_regularizer: RegularizerLike | None = None,
    beta_constraint: ConstraintLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
):
    """Normalizes each example over groups of channels and all positions (Wu and He, 2018). As in Keras.

    A mask is refused: padding would enter the statistics, as it does in Keras.

    Shapes: any with a batch in front, kept. Parameters: `gamma`, `beta` `(channels,)`.

    Args:
        groups: number of groups; -1 for one per channel (instance normalization).
        axis: axis of the channels.

    Raises:
        ValueError: groups that do not divide the channels, an epsilon of 0 or less, or an unknown axis.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.GroupNormalization(groups=2)
    >>> params, state = norm.init(jax.random.key(0), (1, 4))
    >>> y, state = norm.apply(params, state, jax.numpy.array([[1.0, 3.0, 10.0, 30.0]]))
    >>> [round(v, 2) for v in y[0].tolist()]
    [-1.0, 1.0, -1.0, 1.0]
    """
    if groups != -1:
        positive("groups", groups)
    above_zero("epsilon", epsilon)
    affine = Affine(center, scale, beta_initializer, gamma_initializer)

    def channels_of(x: Any) -> tuple[int, int]:
        need_floating(x)
        (channels,) = normalized_axes(x, axis)
        (size,) = fixed_sizes(x, [channels])
        if groups != -1 and size % groups:
            raise refused(
                ValueError,
                f"expected the channels (axis {channels}) to be a multiple of groups",
                x,
                groups=groups,
            )
        return channels, size

    def init(key: Any, x: Any) -> dict[str, Any]:
        return affine.init(key, (channels_of(x)[1],), param_dtype(x))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        channels, size = channels_of(x)
        need_sizes(params, x, [channels])
        wide = jnp.moveaxis(x.astype(wide_dtype(x.dtype)), channels, -1)
        count = size if groups == -1 else groups
        split = wide.reshape(*wide.shape[:-1], count, size // count)
        near, rest, _, variance = moments(split, [*range(1, x.ndim - 1), x.ndim])
        y = ((near - rest) * jax.lax.rsqrt(variance + epsilon)).reshape(wide.shape)
        return affine.apply(params, jnp.moveaxis(y, -1, channels), [channels]).astype(x.dtype)

    return Pair(init, apply, wide=True)


@layer
def InstanceNormalization(
    axis: int = -1,
    epsilon: float = 0.001,
    center: bool = True,
    scale: bool = True,
    beta_initializer: InitializerLike = "zeros",
    gamma_initializer: InitializerLike = "ones",
    beta_regularizer: RegularizerLike | None = None,
    gamma_regularizer: RegularizerLike | None = None,
    beta_constraint: ConstraintLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
):
    """Normalizes each channel of each example over all positions (https://arxiv.org/abs/1607.08022).

    As `GroupNormalization` with one group per channel.

    Shapes: any with a batch in front, kept. Parameters: `gamma`, `beta` `(channels,)`.

    Args:
        axis: axis of the channels.

    >>> import jax, jlayers as jl
    >>> norm = jl.InstanceNormalization()
    >>> params, state = norm.init(jax.random.key(0), (1, 2, 1))
    >>> y, state = norm.apply(params, state, jax.numpy.array([[[1.0], [3.0]]]))
    >>> [round(v, 2) for v in y[0, :, 0].tolist()]
    [-1.0, 1.0]
    """
    return GroupNormalization(-1, **locals())
