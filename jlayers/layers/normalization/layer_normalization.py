"""Normalization of each example over its features: to mean 0 and variance 1, or to mean square 1."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.core.masks import keeps_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    above_zero,
    need_floating,
    reshaped_to,
)
from jlayers.layers.normalization._affine import Affine, fixed_sizes, need_sizes, normalized_axes
from jlayers.ops.normalization import normalized

__all__ = ["LayerNormalization", "RMSNormalization"]


@layer
def LayerNormalization(
    axis: int | tuple[int, ...] = -1,
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
    """Normalizes each example over `axis` (Ba et al., 2016). As in Keras.

    Shapes: any with a batch in front, kept, and so is a mask over other axes than `axis`.
    Parameters: `gamma`, `beta`, of the joint shape of `axis`.

    Args:
        axis: the axis, or axes, to normalize over.

    Raises:
        ValueError: an epsilon of 0 or less, or an axis that the input lacks.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.LayerNormalization()
    >>> params, state = norm.init(jax.random.key(0), (1, 2))
    >>> [round(v, 3) for v in norm.apply(params, state, jax.numpy.array([[1.0, 3.0]]))[0][0].tolist()]
    [-1.0, 1.0]
    """
    above_zero("epsilon", epsilon)
    affine = Affine(center, scale, beta_initializer, gamma_initializer)

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        sizes = fixed_sizes(x, normalized_axes(x, axis))
        return affine.init(key, sizes, param_dtype(x))

    @keeps_mask(mixes=(axis,) if isinstance(axis, int) else axis)
    def apply(params: Any, x: jax.Array) -> jax.Array:
        need_floating(x)
        axes = normalized_axes(x, axis)
        need_sizes(params, x, axes)
        wide = x.astype(wide_dtype(x.dtype))
        return affine.apply(params, normalized(wide, tuple(axes), epsilon), axes).astype(x.dtype)

    return Pair(init, apply, wide=True)


@layer
def RMSNormalization(axis: int | tuple[int, ...] = -1, epsilon: float = 1e-6):
    """Divides by the root of the mean square over `axis` (Zhang and Sennrich, 2019). As in Keras.

    Shapes: any with a batch in front, kept, and so is a mask over other axes than `axis`.
    Parameters: `scale`, of the joint shape of `axis`.

    Args:
        axis: the axis, or axes, to normalize over.
        epsilon: added to the mean square.

    Raises:
        ValueError: an epsilon of 0 or less, or an axis that the input lacks.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> norm = jl.RMSNormalization()
    >>> params, state = norm.init(jax.random.key(0), (1, 2))
    >>> [round(v, 3) for v in norm.apply(params, state, jax.numpy.array([[1.0, 7.0]]))[0][0].tolist()]
    [0.2, 1.4]
    """
    above_zero("epsilon", epsilon)

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        sizes = fixed_sizes(x, normalized_axes(x, axis))
        return {"scale": jnp.ones(sizes, param_dtype(x))}

    @keeps_mask(mixes=(axis,) if isinstance(axis, int) else axis)
    def apply(params: Any, x: jax.Array) -> jax.Array:
        need_floating(x)
        axes = normalized_axes(x, axis)
        need_sizes(params, x, axes)
        wide = x.astype(wide_dtype(x.dtype))
        square = jnp.mean(jnp.square(wide), axis=tuple(axes), keepdims=True)
        y = wide * jax.lax.rsqrt(square + epsilon)
        return (y * reshaped_to(y, params["scale"], axes)).astype(x.dtype)

    return Pair(init, apply, wide=True)
