"""Initial values that form an orthonormal matrix."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.initializers.base import Initializer, draw_by_size, registry, rounded

__all__ = ["Orthogonal", "orthogonal"]


@registry.factory("OrthogonalInitializer")
def orthogonal(gain: float = 1.0) -> Initializer:
    """A random matrix with orthonormal columns (rows, if there are fewer of them), times `gain`.

    More than two dimensions are flattened to a matrix of shape (all but the last, last) (Saxe et al., 2014).

    Raises:
        ValueError: on use, fewer than two dimensions.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> w = jl.initializers.orthogonal()(jax.random.key(0), (4, 3), "float32")
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(3), atol=1e-5))
    True
    """

    def draw(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        if len(shape) < 2:
            raise refused(ValueError, "expected at least 2 dimensions", shape=shape)
        rows, columns = math.prod(shape[:-1]), shape[-1]
        sides = (max(rows, columns), min(rows, columns))
        q, r = jnp.linalg.qr(draw_by_size(jax.random.normal, key, sides, dtype))
        signs = jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)  # makes the distribution uniform (Haar)
        q = q * signs[None, :]
        return gain * (q.T if rows < columns else q).reshape(shape)

    return rounded(draw)


# The names of Keras's classes.
Orthogonal = orthogonal
