"""Initial values without a draw: zeros, ones, a constant, the identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.initializers.base import Initializer, registry

__all__ = ["Constant", "Identity", "Ones", "Zeros", "constant", "identity", "ones", "zeros"]


@registry.factory("zero")
def zeros() -> Initializer:
    """All 0.

    >>> import jax, jlayers as jl
    >>> jl.initializers.zeros()(jax.random.key(0), (2,), "float32").tolist()
    [0.0, 0.0]
    """
    return lambda key, shape, dtype=jnp.float32: jnp.zeros(shape, dtype)


@registry.factory("one")
def ones() -> Initializer:
    """All 1.

    >>> import jax, jlayers as jl
    >>> jl.initializers.ones()(jax.random.key(0), (2,), "float32").tolist()
    [1.0, 1.0]
    """
    return lambda key, shape, dtype=jnp.float32: jnp.ones(shape, dtype)


@registry.factory()
def constant(value: float = 0.0) -> Initializer:
    """All `value`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.constant(0.5)(jax.random.key(0), (2,), "float32").tolist()
    [0.5, 0.5]
    """
    return lambda key, shape, dtype=jnp.float32: jnp.full(shape, value, dtype)


@registry.factory("eye", "IdentityInitializer")
def identity(gain: float = 1.0) -> Initializer:
    """`gain` on the diagonal of a matrix, 0 elsewhere.

    Raises:
        ValueError: on use, a shape that is not a matrix.

    >>> import jax, jlayers as jl
    >>> jl.initializers.identity()(jax.random.key(0), (2, 3), "float32").tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 2:
            raise refused(ValueError, "expected 2 dimensions", shape=tuple(shape))
        return gain * jnp.eye(*shape, dtype=dtype)

    return init


# The names of Keras's classes.
Constant = constant
Identity = identity
Ones = ones
Zeros = zeros
