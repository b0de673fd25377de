"""Which form of an op runs: chosen by platform inside one traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

__all__ = ["by_platform"]


def by_platform(fast: Callable[..., Any], plain: Callable[..., Any], *arrays: Any) -> Any:
    """`fast(*arrays)` on CPUs, `plain(*arrays)` on other platforms.

    Arrays whose types tell of a mesh, inside `jax.shard_map` or by explicit sharding, take the plain form
    everywhere: the fast ones cut and join the batch, of which each device there has but a part.

    >>> import jax, jax.numpy as jnp
    >>> float(by_platform(lambda x: x + 1, lambda x: 1 + x, jnp.zeros(())))
    1.0
    """
    if any(not jax.typeof(a).sharding.mesh.empty for a in jax.tree.leaves(arrays)):
        return plain(*arrays)
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)
