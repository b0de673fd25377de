"""The choice between two forms of an op, by platform and inside one traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

__all__ = ["by_platform"]


def by_platform(fast: Callable[..., Any], plain: Callable[..., Any], *arrays: Any) -> Any:
    """`fast(*arrays)` on CPUs, `plain(*arrays)` on other platforms.

    Arrays on a mesh, inside `jax.shard_map` or by explicit sharding, take the plain form everywhere: the fast
    forms cut and join the batch, and each device there has only a part of it.

    >>> import jax, jax.numpy as jnp
    >>> float(by_platform(lambda x: x + 1, lambda x: 1 + x, jnp.zeros(())))
    1.0
    """
    if any(not jax.typeof(a).sharding.mesh.empty for a in jax.tree.leaves(arrays)):
        return plain(*arrays)
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)
