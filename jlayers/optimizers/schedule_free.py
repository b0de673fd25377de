"""Schedule-free optimizers: the parameters to evaluate with are others than those that train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jlayers.core.tree import flatten, unflatten

__all__ = ["at_average", "averaged", "restarted", "schedule_free_places"]


def _schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


def schedule_free_places(opt_state: Any) -> list[str]:
    """The paths of the states of schedule-free optimizers within a state."""
    nodes = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=_schedule_free)
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, node in nodes if _schedule_free(node)
    ]


def at_average(y: Any, z: Any, b1: Any) -> Any:
    """The parameter to evaluate with, from the one that trains, y, and the sequence z of plain steps."""
    b1 = b1.astype(y.dtype)
    return (y - (1 - b1) * z.astype(y.dtype)) / b1


def averaged(opt_state: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters to evaluate with, if an optimizer is schedule-free; else None.

    Args:
        opt_state: state of an optimizer, or of several.
        params: all of them, frozen ones included.
    """
    states = list(filter(_schedule_free, jax.tree.leaves(opt_state, is_leaf=_schedule_free)))
    flat = flatten(params)
    for state in states:
        for path, z in flatten(state.z).items():
            if not isinstance(z, optax.MaskedNode):
                flat[path] = at_average(flat[path], z, state.b1)
    return unflatten(flat) if states else None


def restarted(opt_state: Any, params: Mapping[str, Any]) -> Any:
    """The state of a schedule-free optimizer that continues from these parameters; any other as it is."""
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
