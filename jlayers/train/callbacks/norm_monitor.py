"""Norms of gradients, weights and updates in the logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.train.callbacks.base import Callback, register
from jlayers.train.probes import Moment, Probe
from jlayers.train.update import Update

__all__ = ["NormMonitor"]


def _norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all numbers together, in float32."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.float32(0)))


def _gradients(moment: Moment) -> Any:
    return _norm(moment.gradients)


def _weights(moment: Moment) -> Any:
    return _norm(moment.after)


def _updates(moment: Moment) -> Any:
    return _norm(jax.tree.map(lambda a, b: a - b, moment.after, moment.before))


@register
class NormMonitor(Callback):
    """Write Euclidean norms over all trained parameters into the logs, computed by the compiled step.

    `gradient_norm` and `update_norm` are means over the steps of the epoch, `gradient_norm_max` is the
    largest one, `weight_norm` is that after the last step. Gradients are those of the loss, before the
    optimizer clips them.

    Args:
        gradients: log the norm of the gradients, mean and maximum.
        weights: log the norm of the weights.
        updates: log the norm of what a step adds to the weights.

    Raises:
        ValueError: nothing is asked for.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((8, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), loss="mse")
    >>> _, history = jl.fit(trainer, x, x[:, :1], callbacks=[jl.callbacks.NormMonitor()])
    >>> list(history)
    ['loss', 'gradient_norm', 'gradient_norm_max', 'weight_norm']
    """

    def __init__(self, gradients: bool = True, weights: bool = True, updates: bool = False):
        if not (gradients or weights or updates):
            raise refused(ValueError, "expected one of gradients, weights and updates", gradients=gradients)
        asked = []
        if gradients:
            asked += [Probe("gradient_norm", _gradients), Probe("gradient_norm_max", _gradients, over="max")]
        if weights:
            asked.append(Probe("weight_norm", _weights, over="last"))
        if updates:
            asked.append(Probe("update_norm", _updates))
        self._asked = tuple(asked)

    def probes(self, update: Update) -> Sequence[Probe]:
        return self._asked
