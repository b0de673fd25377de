"""Schedule-free optimizers: the parameters to evaluate with are others than those that train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jlayers.core.tree import flatten, unflatten

__all__ = ["averaged", "restarted"]


def _schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


def averaged(opt_state: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters to evaluate with, if an optimizer is schedule-free; else None.

    Args:
        opt_state: of an optimizer, or of several.
        params: all of them, frozen ones included.
    """
    states = list(filter(_schedule_free, jax.tree.leaves(opt_state, is_leaf=_schedule_free)))
    flat = flatten(params)
    for state in states:
        for path, z in flatten(state.z).items():
            if not isinstance(z, optax.MaskedNode):
                y = flat[path]
                b1 = state.b1.astype(y.dtype)
                flat[path] = (y - (1 - b1) * z.astype(y.dtype)) / b1
    return unflatten(flat) if states else None


def restarted(opt_state: Any, params: Mapping[str, Any]) -> Any:
    """The state of a schedule-free optimizer that goes on from these parameters; any other as it is."""
    flat = flatten(params)

    def anew(node: Any) -> Any:
        if not _schedule_free(node):
            return node
        parameters = {
            path: z if isinstance(z, optax.MaskedNode) else jnp.array(flat[path], z.dtype)  # a copy to donate
            for path, z in flatten(node.z).items()
        }
        return node._replace(z=unflatten(parameters))

    return jax.tree.map(anew, opt_state, is_leaf=_schedule_free)
