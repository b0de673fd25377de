"""Losses of overlap between targets and predictions, for regions in images: Dice and Tversky.

By default, as in Keras, the sums run over the whole batch, and every sample has the same value. With
`axis` behind the batch each sample has its own value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.losses.base import EPSILON, Loss, Values, aligned, registry

__all__ = ["Dice", "Tversky"]


@registry.factory()
def Dice(axis: int | tuple[int, ...] | None = None) -> Loss:
    """`1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))` (Sørensen 1948, Dice 1945), as in Keras.

    `y_true`, `y_pred`: `(batch, ...)`, between 0 and 1. Rows that only fill the batch up do not count.

    Args:
        axis: axes of the sums; None for all axes, the batch included. `axis=(1, 2, 3)` judges each image.

    Raises:
        ValueError: unequal shapes, or an axis that they do not have.

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
    """`1 - TP / (TP + alpha * FP + beta * FN)` (Salehi et al. 2017).

    `TP = sum(y_true * y_pred)`, `FP = sum((1 - y_true) * y_pred)`, `FN = sum(y_true * (1 - y_pred))`.
    One half and one half give `Dice`. Keras up to 3.15 has `alpha` and `beta` the other way round.

    Args:
        alpha: weight of the false positives.
        beta: weight of the false negatives.
        axis: as in `Dice`.

    Raises:
        ValueError: unequal shapes, or an axis that they do not have.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.Tversky(alpha=0.3, beta=0.7)  # TP 1, FP 1, FN 2
    >>> round(float(loss(jnp.array([[1.0, 0.0, 1.0, 1.0]]), jnp.array([[1.0, 1.0, 0.0, 0.0]]))[0]), 5)
    0.62963
    """

    def score(t: Any, p: Any, total: Callable[[Any], Any]) -> Any:
        both = total(t * p)
        return 1.0 - both / (both + alpha * total(p * (1.0 - t)) + beta * total((1.0 - p) * t) + EPSILON)

    return _overlap("Tversky", axis, score)


def _overlap(name: str, axis: int | tuple[int, ...] | None, score: Callable[..., Any]) -> Loss:
    def values(y_true: Any, y_pred: Any, mask: Any) -> Values:
        t, p = aligned(y_true, y_pred)
        axes = range(t.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        if any(not -t.ndim <= a < t.ndim for a in axes):
            raise refused(ValueError, "expected axes of the data", y_pred, raised_by=name, axis=axis)
        along = tuple({a % t.ndim for a in axes})
        if 0 in along and mask is not None:
            real = mask.reshape(-1, *(1,) * (t.ndim - 1)) > 0
            t, p = jnp.where(real, t, 0.0), jnp.where(real, p, 0.0)
        each = score(t, p, lambda v: v.sum(along, keepdims=True))
        each = each.squeeze(tuple(a for a in along if a > 0))
        return jnp.broadcast_to(each, (t.shape[0], *each.shape[1:]))

    return Loss(values, across_rows=True, from_logits=False)
