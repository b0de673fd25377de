"""Metrics of the best point of a curve under a condition, such as recall at a precision of 0.9."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.losses.base import aligned
from jlayers.metrics.base import Metric, registry, spread
from jlayers.metrics.confusion import one_class
from jlayers.metrics.curves import Counts, curve_of, evenly

__all__ = [
    "PrecisionAtRecall",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
]


def _best(
    name: str,
    value: float,
    num_thresholds: int,
    class_id: int | None,
    from_logits: bool,
    wanted: str,
    condition: str,
) -> Metric:
    """The highest `wanted` at thresholds at which `condition` is at least `value`; 0 if there is none."""
    if not 0 <= value <= 1:
        received: dict[str, Any] = {condition: value}
        raise refused(ValueError, "expected a share between 0 and 1", raised_by=name, **received)

    def prepare(y_true: Any, y_pred: Any, weight: Any) -> tuple[Any, Any, Any]:
        y, p = aligned(y_true, y_pred)
        y, p = one_class(class_id, y, p)
        return y, p, spread(weight, y)

    def result(counts: Counts) -> jax.Array:
        return jnp.max(jnp.where(getattr(counts, condition) >= value, getattr(counts, wanted), 0.0))

    thresholds = (0.5,) if num_thresholds == 1 else (0.0, *evenly(num_thresholds), 1.0)
    return curve_of(thresholds, result, prepare, from_logits=from_logits)


@registry.factory()
def SensitivityAtSpecificity(
    specificity: float,
    num_thresholds: int = 200,
    class_id: int | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The best recall at thresholds with at least that share of negatives recognized; as in Keras.

    A score of exactly 0 counts as negative at every threshold.

    Args:
        specificity: TN / (TN + FP), between 0 and 1.
        num_thresholds: number of evenly spaced thresholds; 1 for 0.5 only.
        class_id: count only this entry of the last axis.
        name: in the history.
        from_logits: scores are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.SensitivityAtSpecificity(1.0)
    >>> float(metric(jnp.array([0, 0, 1, 1]), jnp.array([0.1, 0.6, 0.4, 0.9])))
    0.5
    """
    return _best(
        "SensitivityAtSpecificity",
        specificity,
        num_thresholds,
        class_id,
        from_logits,
        "recall",
        "specificity",
    )


@registry.factory()
def SpecificityAtSensitivity(
    sensitivity: float,
    num_thresholds: int = 200,
    class_id: int | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The best specificity among the thresholds with at least the given sensitivity; as in Keras.

    Args:
        sensitivity: TP / (TP + FN), between 0 and 1.
        num_thresholds: number of evenly spaced thresholds; 1 for 0.5 only.
        class_id: count only this entry of the last axis.
        name: in the history.
        from_logits: scores are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.SpecificityAtSensitivity(1.0)
    >>> float(metric(jnp.array([0, 0, 1, 1]), jnp.array([0.1, 0.6, 0.4, 0.9])))
    0.5
    """
    return _best(
        "SpecificityAtSensitivity",
        sensitivity,
        num_thresholds,
        class_id,
        from_logits,
        "specificity",
        "recall",
    )


@registry.factory()
def PrecisionAtRecall(
    recall: float,
    num_thresholds: int = 200,
    class_id: int | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The best precision among the thresholds with at least the given recall; as in Keras.

    Args:
        recall: TP / (TP + FN), between 0 and 1.
        num_thresholds: number of evenly spaced thresholds; 1 for 0.5 only.
        class_id: count only this entry of the last axis.
        name: in the history.
        from_logits: scores are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.PrecisionAtRecall(0.5)
    >>> float(metric(jnp.array([0, 0, 1, 1]), jnp.array([0.1, 0.6, 0.4, 0.9])))
    1.0
    """
    return _best(
        "PrecisionAtRecall",
        recall,
        num_thresholds,
        class_id,
        from_logits,
        "precision",
        "recall",
    )


@registry.factory()
def RecallAtPrecision(
    precision: float,
    num_thresholds: int = 200,
    class_id: int | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The best recall among the thresholds with at least the given precision; as in Keras.

    Args:
        precision: TP / (TP + FP), between 0 and 1.
        num_thresholds: number of evenly spaced thresholds; 1 for 0.5 only.
        class_id: count only this entry of the last axis.
        name: in the history.
        from_logits: scores are logits. Training knows it from a loss with `from_logits=True`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.RecallAtPrecision(0.6)
    >>> float(metric(jnp.array([0, 0, 1, 1]), jnp.array([0.1, 0.6, 0.4, 0.9])))
    1.0
    """
    return _best(
        "RecallAtPrecision",
        precision,
        num_thresholds,
        class_id,
        from_logits,
        "recall",
        "precision",
    )
