"""Whole numbers into fractions and back without a loss that the result would show."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.shapes import param_dtype, wide_dtype

__all__ = ["minus", "rounded"]


def rounded(y: jax.Array, dtype: Any) -> jax.Array:
    """`y` as `dtype`; whole numbers are rounded and kept within what the dtype holds."""
    if not jnp.issubdtype(dtype, jnp.integer):
        return y.astype(dtype)
    limits = jnp.iinfo(dtype)
    return jnp.clip(jnp.round(y), limits.min, limits.max).astype(dtype)


def minus(x: jax.Array, number: np.ndarray) -> jax.Array:
    """`x - number` in the wide dtype of `x`, with all the digits that the difference has there.

    Whole numbers beyond 2**24 would lose theirs as float32, so they are subtracted first, in two halves that
    cannot overflow. `number` is float64 and broadcasts against `x`.

    >>> minus(jnp.array([2**30 + 1, 2**30 + 3]), np.array(2.0**30 + 1.5)).tolist()
    [-0.5, 1.5]
    """
    dtype = wide_dtype(param_dtype(x))
    if not jnp.issubdtype(x.dtype, jnp.integer) or x.dtype.itemsize == 1:
        return x.astype(dtype) - jnp.asarray(number, dtype)
    if x.dtype.itemsize == 8:
        return (x.astype(jnp.float64) - number).astype(dtype)
    limits = np.iinfo(x.dtype)
    whole = np.clip(np.round(number), limits.min, limits.max).astype(np.int64)
    x = x if x.dtype.itemsize == 4 else x.astype(jnp.int32)
    high = (x >> 16).astype(jnp.int32) - jnp.asarray(whole >> 16, jnp.int32)
    low = (x & 0xFFFF).astype(jnp.int32) - jnp.asarray(whole & 0xFFFF, jnp.int32)
    return (high.astype(dtype) * 65536 + low.astype(dtype)) - jnp.asarray(number - whole, dtype)
