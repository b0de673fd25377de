"""The state of a layer that is called once per time step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jlayers.core.state import is_aux_loss
from jlayers.core.tree import flatten, map_with_path

__all__ = ["before_steps", "between_steps", "holds_losses"]


def holds_losses(state: Mapping[str, Any]) -> bool:
    """True if a layer leaves losses in its state, for the training step to add up."""
    return any(map(is_aux_loss, flatten(state)))


def before_steps(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state to begin with: losses are of this call, so they start at zero."""
    return map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if is_aux_loss(path) else leaf, state)


def between_steps(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The state after a step, to which the losses of the steps before are added."""
    earlier = flatten(before)
    return map_with_path(lambda path, leaf: earlier[path] + leaf if is_aux_loss(path) else leaf, after)
