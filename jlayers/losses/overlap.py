"""Losses of overlap between targets and predictions, for regions in images: Dice and Tversky.

Over the batch as a whole, which is Keras's default, a rare region counts as much in a batch as it fills in
it, and every sample has the same value. With axes behind the batch each sample has a value of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jlayers.core.shapes import describe
from jlayers.losses.base import EPSILON, Loss, Values, aligned, joint, registry

__all__ = ["Dice", "Tversky"]


@registry.factory()
def Dice(axis: int | tuple[int, ...] | None = None) -> Loss:
    """`1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))` (Sørensen 1948, Dice 1945), as in Keras.

    `y_true`, `y_pred`: `(batch, ...)`, between 0 and 1. Rows that only fill the batch up do not count.

    Args:
        axis: of the sums; None for all of them, the batch too. `axis=(1, 2, 3)` judges each image.

    Raises:
        ValueError: unequal shapes, or an axis that they lack.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> y_true, y_pred = jnp.array([[1.0, 1.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> jl.losses.Dice()(y_true, y_pred).round(4).tolist()
    [0.5, 0.5]
    >>> [round(v, 2) for v in jl.losses.Dice(axis=1)(y_true, y_pred).tolist()]
    [0.33, 1.0]
    """

    def score(t: Any, p: Any, total: Callable[[Any], Any]) -> Any:
        return 1.0 - 2.0 * total(t * p) / (total(t) + total(p) + EPSILON)

    return _overlap("Dice", axis, score)


@registry.factory()
def Tversky(alpha: float = 0.5, beta: float = 0.5, axis: int | tuple[int, ...] | None = None) -> Loss:
    """`1 - both / (both + alpha * only y_true + beta * only y_pred)` (Salehi et al. 2017), as in Keras.

    Here `both = sum(y_true * y_pred)`. One half and one half give `Dice`.

    Args:
        alpha: weight of what is in the target alone. (Keras's text says false positives; its code has this.)
        beta: weight of what is in the prediction alone.
        axis: as in `Dice`.

    Raises:
        ValueError: unequal shapes, or an axis that they lack.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.Tversky(alpha=1.0, beta=0.0)
    >>> loss(jnp.array([[1.0, 1.0, 0.0]]), jnp.array([[1.0, 0.0, 1.0]])).round(4).tolist()
    [0.5]
    """

    def score(t: Any, p: Any, total: Callable[[Any], Any]) -> Any:
        both = total(t * p)
        return 1.0 - both / (both + alpha * total((1.0 - p) * t) + beta * total(p * (1.0 - t)) + EPSILON)

    return _overlap("Tversky", axis, score)


def _overlap(name: str, axis: int | tuple[int, ...] | None, score: Callable[..., Any]) -> Loss:
    def loss(y_true: Any, y_pred: Any, mask: Any = None) -> Values:
        t, p = aligned(y_true, y_pred)
        given = range(t.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        if any(not -t.ndim <= a < t.ndim for a in given):
            raise ValueError(
                f"{name}: expected axes of the data, received axis={axis!r}, y_pred={describe(y_pred)}"
            )
        along = tuple({a % t.ndim for a in given})
        if 0 in along and mask is not None:
            real = mask.reshape(-1, *(1,) * (t.ndim - 1)) > 0
            t, p = jnp.where(real, t, 0.0), jnp.where(real, p, 0.0)
        values = score(t, p, lambda v: v.sum(along, keepdims=True))
        values = values.squeeze(tuple(a for a in along if a > 0))
        return jnp.broadcast_to(values, (t.shape[0], *values.shape[1:]))

    return joint(loss)
