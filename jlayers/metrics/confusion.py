"""Metrics of a table of right and wrong decisions: precision and recall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.losses.base import aligned
from jlayers.metrics.base import Metric, ratio, registry, spread

__all__ = ["Precision", "Recall"]


def _confusion(
    threshold: float | None, top_k: int | None, class_id: int | None, miss: Callable[..., Any]
) -> Metric:
    """True positives over true positives plus misses; `miss(y, p)` of zeros and ones."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ValueError(f"expected a threshold between 0 and 1, received thresholds={threshold!r}")

    def init() -> dict[str, jax.Array]:
        return {"hits": jnp.zeros((), jnp.float32), "misses": jnp.zeros((), jnp.float32)}

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        y, p = aligned(y_true, y_pred)
        if top_k is not None:
            kept = p >= jax.lax.top_k(p, top_k)[0][..., -1:]
            p = jnp.where(kept, p, -jnp.inf)
        at = (-jnp.inf if top_k is not None else 0.5) if threshold is None else threshold
        p = (p > at).astype(jnp.float32)
        if class_id is not None:
            y, p = y[..., class_id], p[..., class_id]
        weight = spread(weight, y)
        y = (y > 0).astype(jnp.float32)
        return {
            "hits": acc["hits"] + (y * p * weight).sum(),
            "misses": acc["misses"] + (miss(y, p) * weight).sum(),
        }

    def result(acc: Any) -> jax.Array:
        return ratio(acc["hits"], acc["hits"] + acc["misses"])

    return Metric(init, update, result)


@registry.factory()
def Precision(
    thresholds: float | None = None,
    top_k: int | None = None,
    class_id: int | None = None,
    name: str | None = None,
) -> Metric:
    """The share of predicted positives that are right: TP / (TP + FP), 0 if none is predicted; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given.
        top_k: instead, the `top_k` highest scores of a sample are positive.
        class_id: count this entry of the last axis only.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Precision()(jnp.array([[1], [0]]), jnp.array([[0.9], [0.8]])))
    0.5
    """
    return _confusion(thresholds, top_k, class_id, lambda y, p: (1.0 - y) * p)


@registry.factory()
def Recall(
    thresholds: float | None = None,
    top_k: int | None = None,
    class_id: int | None = None,
    name: str | None = None,
) -> Metric:
    """The share of positives that are predicted: TP / (TP + FN), 0 if there is none; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given.
        top_k: instead, the `top_k` highest scores of a sample are positive.
        class_id: count this entry of the last axis only.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Recall()(jnp.array([[1], [1]]), jnp.array([[0.9], [0.2]])))
    0.5
    """
    return _confusion(thresholds, top_k, class_id, lambda y, p: y * (1.0 - p))
