"""Results in the dtype of an input of whole numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["rounded"]


def rounded(y: jax.Array, dtype: Any) -> jax.Array:
    """`y` as `dtype`; whole numbers are rounded and kept within what the dtype holds."""
    if not jnp.issubdtype(dtype, jnp.integer):
        return y.astype(dtype)
    limits = jnp.iinfo(dtype)
    return jnp.clip(jnp.round(y), limits.min, limits.max).astype(dtype)
