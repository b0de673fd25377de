"""A penalty on what passes through."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.core.masks import with_mask
from jlayers.core.penalties import activity_loss
from jlayers.core.state import AUX_LOSS
from jlayers.layers._arguments import (
    not_negative,
)
from jlayers.regularizers import l1_l2

__all__ = ["ActivityRegularization"]


@layer
def ActivityRegularization(l1: float = 0.0, l2: float = 0.0):
    """Adds `l1 * sum(|x|) + l2 * sum(x**2)`, divided by the batch size, to the loss. As in Keras.

    The penalty travels in the returned state as `aux_loss`, a float32 scalar, which the training step
    collects. Shapes: any with a batch in front, kept.

    Args:
        l1: factor of the absolute values.
        l2: factor of the squares.

    Raises:
        ValueError: a negative factor.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> penalty = jl.ActivityRegularization(l2=0.5)
    >>> y, state = penalty.apply({}, {"aux_loss": jnp.zeros(())}, jnp.ones((2, 3)))
    >>> float(state["aux_loss"])
    1.5
    """
    not_negative("l1", l1)
    not_negative("l2", l2)
    penalty = l1_l2(l1, l2)

    def init(key: Any, x: Any) -> Any:
        return {}, {AUX_LOSS: jnp.zeros((), jnp.float32)}

    def apply(params: Any, x: Any, *, state: Any, mask: Any) -> Any:
        output = with_mask(x, mask)
        return output, {**state, AUX_LOSS: activity_loss(penalty, output)}

    return init, apply
