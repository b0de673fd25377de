"""Losses of margins: hinges of two classes and of many."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jlayers.losses.base import Loss, along_last, elementwise, registry

__all__ = ["CategoricalHinge", "Hinge", "SquaredHinge"]


def _signs(t: Any) -> Any:
    """Targets of 0 as -1; others as they are. Keras looks at all targets of a batch before it does this."""
    return jnp.where(t == 0, -1.0, t)


@registry.factory()
def Hinge() -> Loss:
    """The mean of `max(1 - y_true * y_pred, 0)`; targets are -1 and 1, or 0 and 1, as in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.Hinge()(jnp.array([[1.0], [-1.0]]), jnp.array([[0.5], [0.5]])).tolist()
    [0.5, 1.5]
    """
    return elementwise(lambda t, p: jnp.maximum(1.0 - _signs(t) * p, 0.0))


@registry.factory()
def SquaredHinge() -> Loss:
    """The mean of `max(1 - y_true * y_pred, 0)**2`; targets are -1 and 1, or 0 and 1, as in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.SquaredHinge()(jnp.array([[1.0], [-1.0]]), jnp.array([[0.5], [0.5]])).tolist()
    [0.25, 2.25]
    """
    return elementwise(lambda t, p: jnp.square(jnp.maximum(1.0 - _signs(t) * p, 0.0)))


@registry.factory()
def CategoricalHinge() -> Loss:
    """`max(1 + best wrong score - right score, 0)` with one-hot targets; the best wrong score is at least 0.

    As in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.CategoricalHinge()(jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 1.0]])).tolist()
    [0.5]
    """

    def hinge(t: Any, p: Any) -> Any:
        right, wrong = (t * p).sum(-1), ((1.0 - t) * p).max(-1)
        return jnp.maximum(wrong - right + 1.0, 0.0)

    return along_last(hinge)
