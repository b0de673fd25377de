"""Metrics from counts of right and wrong decisions at fixed thresholds: counts, precision, recall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.losses.base import aligned
from jlayers.metrics.base import Link, Metric, of_probabilities, ratio, registry, spread
from jlayers.metrics.totals import add_sum, value_of, zero

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
    from_logits: bool = False,
    direction: str = "max",
) -> Metric:
    """The metric that is `result` of counts of `cells`: a number per threshold, a scalar if there is one."""
    levels = (0.5,) if thresholds is None else np.atleast_1d(np.asarray(thresholds, np.float64)).tolist()
    if not levels or not all(0.0 <= t <= 1.0 for t in levels):
        raise refused(ValueError, "expected a threshold between 0 and 1", thresholds=thresholds)
    if top_k is not None and thresholds is None:
        levels = (-np.inf,)

    def of(link: Link) -> Metric:
        def init() -> dict[str, jax.Array]:
            return {cell: zero((len(levels),)) for cell in cells}

        def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
            y, scores = aligned(y_true, y_pred)
            p = link(scores)
            if top_k is not None:
                # By place and not by value: of equal scores, the first ones count, and never more than top_k.
                places = jax.lax.top_k(scores, top_k)[1]
                highest = jax.nn.one_hot(places, p.shape[-1], dtype=bool).any(axis=-2)
                p = jnp.where(highest, p, -jnp.inf)
            y, p = one_class(class_id, y, p)
            weight, p = spread(weight, y).reshape(-1), p.reshape(-1)
            y = (y.reshape(-1) > 0).astype(jnp.float32)
            above = [(p > threshold).astype(jnp.float32) for threshold in levels]
            return {
                cell: jnp.stack(
                    [add_sum(acc[cell][:, i], _CELLS[cell](y, p) * weight) for i, p in enumerate(above)],
                    axis=1,
                )
                for cell in cells
            }

        def finish(acc: Any) -> jax.Array:
            values = result({cell: value_of(acc[cell]) for cell in cells})
            return values[0] if len(levels) == 1 else values

        return Metric(init, update, finish, direction)

    return of_probabilities(of, from_logits)


def one_class(class_id: int | None, *arrays: Any) -> Any:
    """Entry `class_id` of the last axis of each array; all of them if None."""
    if class_id is None:
        return arrays
    if arrays[0].ndim < 2 or not 0 <= class_id < arrays[0].shape[-1]:
        raise refused(ValueError, "expected scores of this class, too", arrays[-1], class_id=class_id)
    return tuple(array[..., class_id] for array in arrays)


@registry.factory()
def Precision(
    thresholds: Thresholds | None = None,
    top_k: int | None = None,
    class_id: int | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The share of predicted positives that are right: TP / (TP + FP), or 0 if there are none; as in Keras.

    Args:
        thresholds: scores above the threshold are positive; 0.5 if not given. Each of several gives a result.
        top_k: only the `top_k` highest scores of a sample may be positive.
        class_id: count only this entry of the last axis.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Precision()(jnp.array([[1], [0]]), jnp.array([[0.9], [0.8]])))
    0.5
    >>> jl.metrics.Precision(thresholds=(0.5, 0.85))(jnp.array([1, 0]), jnp.array([0.9, 0.8])).tolist()
    [0.5, 1.0]
    """
    cells = ("true_positives", "false_positives")
    return _confusion(
        cells,
        lambda n: ratio(n[cells[0]], n[cells[0]] + n[cells[1]]),
        thresholds,
        top_k,
        class_id,
        from_logits,
    )


@registry.factory()
def Recall(
    thresholds: Thresholds | None = None,
    top_k: int | None = None,
    class_id: int | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The share of positives that are predicted: TP / (TP + FN), or 0 if there are none; as in Keras.

    Args:
        thresholds: scores above the threshold are positive; 0.5 if not given. Each of several gives a result.
        top_k: only the `top_k` highest scores of a sample may be positive.
        class_id: count only this entry of the last axis.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Recall()(jnp.array([[1], [1]]), jnp.array([[0.9], [0.2]])))
    0.5
    """
    cells = ("true_positives", "false_negatives")
    return _confusion(
        cells,
        lambda n: ratio(n[cells[0]], n[cells[0]] + n[cells[1]]),
        thresholds,
        top_k,
        class_id,
        from_logits,
    )


def _share_of_right(wrong: str, *options: Any) -> Metric:
    """The true positives over themselves and the cell `wrong`."""
    right = "true_positives"
    return _confusion((right, wrong), lambda n: ratio(n[right], n[right] + n[wrong]), *options)


def _count(cell: str, thresholds: Thresholds | None, from_logits: bool) -> Metric:
    direction = "max" if cell.startswith("true") else "min"
    return _confusion((cell,), lambda n: n[cell], thresholds, None, None, from_logits, direction)


@registry.factory()
def TruePositives(
    thresholds: Thresholds | None = None, name: str | None = None, from_logits: bool = False
) -> Metric:
    """The number of positives that are predicted as positive, by sample weight; as in Keras.

    Args:
        thresholds: scores above the threshold are positive; 0.5 if not given. Each of several gives a result.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.TruePositives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    1.0
    """
    return _count("true_positives", thresholds, from_logits)


@registry.factory()
def TrueNegatives(
    thresholds: Thresholds | None = None, name: str | None = None, from_logits: bool = False
) -> Metric:
    """The number of negatives that are predicted as negative, by sample weight; as in Keras.

    Args:
        thresholds: scores above the threshold are positive; 0.5 if not given. Each of several gives a result.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.TrueNegatives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    0.0
    """
    return _count("true_negatives", thresholds, from_logits)


@registry.factory()
def FalsePositives(
    thresholds: Thresholds | None = None, name: str | None = None, from_logits: bool = False
) -> Metric:
    """The number of negatives that are predicted as positive, by sample weight; as in Keras.

    Args:
        thresholds: scores above the threshold are positive; 0.5 if not given. Each of several gives a result.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.FalsePositives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    1.0
    """
    return _count("false_positives", thresholds, from_logits)


@registry.factory()
def FalseNegatives(
    thresholds: Thresholds | None = None, name: str | None = None, from_logits: bool = False
) -> Metric:
    """The number of positives that are predicted as negative, by sample weight; as in Keras.

    Args:
        thresholds: scores above the threshold are positive; 0.5 if not given. Each of several gives a result.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.FalseNegatives()(jnp.array([1, 1, 0]), jnp.array([0.9, 0.2, 0.8])))
    1.0
    """
    return _count("false_negatives", thresholds, from_logits)
