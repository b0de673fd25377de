"""Results that are computed once and kept: a hint to XLA's CPU compiler, without effect elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["stored"]


def stored(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """`function(*arrays)` in a call of its own, which XLA fuses with nothing around it.

    XLA's CPU compiler puts a chain of operations into each loop that reads its result, and computes it again
    for each slice or pad that the loop takes of it. `function` must be of `jax.lax` throughout: a function of
    `jax.numpy` that is compiled by itself, such as `jnp.where`, would be a call of its own once more.

    >>> import jax, jax.numpy as jnp
    >>> jax.jit(lambda x: stored(jax.lax.exp, x) + 1.0)(jnp.zeros(2)).tolist()
    [2.0, 2.0]
    """

    def alone(*arrays: Any) -> Any:
        with set_xla_metadata(inlineable=None):  # of the call, not of what it calls
            return function(*arrays)

    with set_xla_metadata(inlineable="false"):
        return jax.jit(alone)(*arrays)
