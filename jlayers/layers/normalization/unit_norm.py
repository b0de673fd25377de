"""Vectors scaled to length 1."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import keeps_mask
from jlayers.core.pair import Pair
from jlayers.core.shapes import wide_dtype
from jlayers.layers._arguments import axis_of, need_floating

__all__ = ["UnitNormalization"]

X = Float[Array, "..."]
_LEAST_SQUARE = 1e-24  # of a norm of 1e-12, as in Keras


@layer
def UnitNormalization(axis: int | tuple[int, ...] = -1):
    """Divides by the Euclidean norm over `axis`; zeros stay zeros. As in Keras.

    Shapes: any, kept. The norm is taken in float32 or wider.

    Args:
        axis: the axis, or axes, of one vector.

    Raises:
        ValueError: no axis, one twice, or one that the input lacks.
        TypeError: complex numbers as input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> y, _ = jl.UnitNormalization().apply({}, {}, jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    >>> [[round(v, 3) for v in row] for row in y.tolist()]
    [[0.6, 0.8], [0.0, 0.0]]
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)

    @keeps_mask(mixes=axes)
    def apply(params: Any, x: X) -> X:
        need_floating(x)
        over = {axis_of(x, a) for a in axes}
        if not over or len(over) < len(axes):
            raise refused(ValueError, "expected distinct axes, at least one", x, axis=axis)
        wide = x.astype(wide_dtype(x.dtype))
        square = jnp.sum(jnp.square(wide), axis=tuple(sorted(over)), keepdims=True)
        return (wide * jax.lax.rsqrt(jnp.maximum(square, _LEAST_SQUARE))).astype(x.dtype)

    return Pair(no_params, apply, wide=True)
