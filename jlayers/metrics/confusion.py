"""Metrics of a table of right and wrong decisions at fixed thresholds: counts, precision, recall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.shapes import describe
from jlayers.losses.base import aligned
from jlayers.metrics.base import Metric, ratio, registry, spread

__all__ = [
    "FalseNegatives",
    "FalsePositives",
    "Precision",
    "Recall",
    "TrueNegatives",
    "TruePositives",
]

Thresholds = float | tuple[float, ...]

# Of zeros and ones: what a target y and a decision p count as.
_CELLS: Mapping[str, Callable[[Any, Any], Any]] = {
    "true_positives": lambda y, p: y * p,
    "false_positives": lambda y, p: (1.0 - y) * p,
    "true_negatives": lambda y, p: (1.0 - y) * (1.0 - p),
    "false_negatives": lambda y, p: y * (1.0 - p),
}


def _confusion(
    cells: Sequence[str],
    result: Callable[[Mapping[str, Any]], Any],
    thresholds: Thresholds | None,
    top_k: int | None = None,
    class_id: int | None = None,
    direction: str = "max",
) -> Metric:
    """The metric that is `result` of counts of `cells`: a number per threshold, a scalar if there is one."""
    given = (0.5,) if thresholds is None else np.atleast_1d(np.asarray(thresholds, np.float64)).tolist()
    if not given or not all(0.0 <= t <= 1.0 for t in given):
        raise ValueError(f"expected a threshold between 0 and 1, received thresholds={thresholds!r}")
    if top_k is not None and thresholds is None:
        given = (-np.inf,)

    def init() -> dict[str, jax.Array]:
        return {cell: jnp.zeros(len(given), jnp.float32) for cell in cells}

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        y, p = aligned(y_true, y_pred)
        if top_k is not None:
            # By place and not by value: of equal scores, the first ones count, and never more than top_k.
            places = jax.lax.top_k(p, top_k)[1]
            kept = jax.nn.one_hot(places, p.shape[-1], dtype=bool).any(axis=-2)
            p = jnp.where(kept, p, -jnp.inf)
        if class_id is not None:
            if y.ndim < 2:
                raise ValueError(
                    f"expected scores of classes for class_id={class_id}, received {describe(p)}"
                )
            y, p = y[..., class_id], p[..., class_id]
        weight = spread(weight, y).reshape(-1)
        y = (y.reshape(-1) > 0).astype(jnp.float32)
        new = {cell: [] for cell in cells}
        for threshold in given:
            chosen = (p.reshape(-1) > threshold).astype(jnp.float32)
            for cell in cells:
                new[cell].append((_CELLS[cell](y, chosen) * weight).sum())
        return {cell: acc[cell] + jnp.stack(new[cell]) for cell in cells}

    def finish(acc: Any) -> jax.Array:
        values = result(acc)
        return values[0] if len(given) == 1 else values

    return Metric(init, update, finish, direction)


@registry.factory()
def Precision(
    thresholds: Thresholds | None = None,
    top_k: int | None = None,
    class_id: int | None = None,
    name: str | None = None,
) -> Metric:
    """The share of predicted positives that are right: TP / (TP + FP), 0 if none is predicted; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given. Several give a result each.
        top_k: only the `top_k` highest scores of a sample may be positive.
        class_id: count this entry of the last axis only.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Precision()(jnp.array([[1], [0]]), jnp.array([[0.9], [0.8]])))
    0.5
    >>> jl.metrics.Precision(thresholds=(0.5, 0.85))(jnp.array([1, 0]), jnp.array([0.9, 0.8])).tolist()
    [0.5, 1.0]
    """
    cells = ("true_positives", "false_positives")
    return _confusion(
        cells, lambda n: ratio(n[cells[0]], n[cells[0]] + n[cells[1]]), thresholds, top_k, class_id
    )


@registry.factory()
def Recall(
    thresholds: Thresholds | None = None,
    top_k: int | None = None,
    class_id: int | None = None,
    name: str | None = None,
) -> Metric:
    """The share of positives that are predicted: TP / (TP + FN), 0 if there is none; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given. Several give a result each.
        top_k: only the `top_k` highest scores of a sample may be positive.
        class_id: count this entry of the last axis only.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Recall()(jnp.array([[1], [1]]), jnp.array([[0.9], [0.2]])))
    0.5
    """
    cells = ("true_positives", "false_negatives")
    return _confusion(
        cells, lambda n: ratio(n[cells[0]], n[cells[0]] + n[cells[1]]), thresholds, top_k, class_id
    )


def _count(cell: str, thresholds: Thresholds | None) -> Metric:
    direction = "max" if cell.startswith("true") else "min"
    return _confusion((cell,), lambda n: n[cell], thresholds, direction=direction)


@registry.factory()
def TruePositives(thresholds: Thresholds | None = None, name: str | None = None) -> Metric:
    """How many positives are predicted as such, by sample weight; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given. Several give a result each.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.TruePositives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    1.0
    """
    return _count("true_positives", thresholds)


@registry.factory()
def TrueNegatives(thresholds: Thresholds | None = None, name: str | None = None) -> Metric:
    """How many negatives are predicted as such, by sample weight; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given. Several give a result each.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.TrueNegatives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    0.0
    """
    return _count("true_negatives", thresholds)


@registry.factory()
def FalsePositives(thresholds: Thresholds | None = None, name: str | None = None) -> Metric:
    """How many negatives are predicted as positives, by sample weight; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given. Several give a result each.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.FalsePositives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    1.0
    """
    return _count("false_positives", thresholds)


@registry.factory()
def FalseNegatives(thresholds: Thresholds | None = None, name: str | None = None) -> Metric:
    """How many positives are predicted as negatives, by sample weight; as in Keras.

    Args:
        thresholds: scores above it are positive; 0.5 if not given. Several give a result each.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.FalseNegatives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    1.0
    """
    return _count("false_negatives", thresholds)
