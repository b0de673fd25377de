"""Metrics from a curve over all thresholds: its counts and its area.

Scores are counted in buckets between fixed thresholds, as in Keras, so that an accumulator is small and
batches add up. Finer buckets bring the results closer to those of the exact curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.losses.base import EPSILON, aligned, wide
from jlayers.metrics.base import Link, Metric, of_probabilities, ratio, registry, spread
from jlayers.metrics.totals import add_at, value_of, zero

__all__ = ["AUC"]


class Counts(NamedTuple):
    """Counts of decisions at each threshold, rising; `(thresholds,)` or `(thresholds, labels)`."""

    tp: jax.Array
    fp: jax.Array
    tn: jax.Array
    fn: jax.Array

    @property
    def recall(self) -> jax.Array:
        return ratio(self.tp, self.tp + self.fn)

    @property
    def precision(self) -> jax.Array:
        return ratio(self.tp, self.tp + self.fp)

    @property
    def specificity(self) -> jax.Array:
        return ratio(self.tn, self.tn + self.fp)


def evenly(count: int) -> list[float]:
    """The thresholds inside (0, 1) that go with 0 and 1 to make `count`."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 2:
        raise refused(ValueError, "expected at least 2 thresholds", num_thresholds=count)
    return [(i + 1) / (count - 1) for i in range(count - 2)]


def _buckets(p: jax.Array, thresholds: Sequence[float]) -> jax.Array:
    """The number of thresholds that each score exceeds. Even spacing is rounded as in Keras."""
    count = len(thresholds)
    inner = np.clip(np.asarray(thresholds), 0, 1)
    if count > 2 and np.allclose(inner, np.arange(count) / (count - 1), atol=EPSILON):
        above = jnp.ceil(jnp.clip(p, 0.0, 1.0) * (count - 1)).astype(jnp.int32)
        return jnp.maximum(above, 1) if thresholds[0] < 0 else above
    return jnp.searchsorted(jnp.asarray(thresholds, p.dtype), p, side="left").astype(jnp.int32)


def curve_of(
    thresholds: Sequence[float],
    result: Callable[[Counts], jax.Array],
    prepare: Callable[[Any, Any, Any], tuple[Any, Any, Any]],
    labels: Callable[[Any], int] | None = None,
    from_logits: bool = False,
) -> Metric:
    """A metric that `result` computes from the counts at all thresholds.

    Args:
        thresholds: rising.
        result: result of the counts.
        prepare: targets, scores and weights from what the metric is given, all of one shape.
        labels: gives the number of columns that are counted separately; None to count all together.
        from_logits: predictions are logits.
    """
    buckets = len(thresholds) + 1

    def zeros(y_pred: Any) -> jax.Array:
        return zero(((1 if labels is None else labels(y_pred)) * 2 * buckets,))

    def of(link: Link) -> Metric:
        def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
            y, p, weight = prepare(y_true, link(y_pred.astype(wide(y_pred.dtype))), weight)
            place = _buckets(p, thresholds) + jnp.where(y != 0, 0, buckets)
            if labels is not None:
                place += 2 * buckets * jnp.arange(p.shape[1], dtype=jnp.int32)[None, :]
            return add_at(acc, place.reshape(-1), weight.reshape(-1))

        def finish(acc: Any) -> jax.Array:
            shape = (2, buckets) if labels is None else (-1, 2, buckets)
            positives, negatives = jnp.moveaxis(value_of(acc).reshape(shape), (-2, -1), (0, 1))
            return result(Counts(_above(positives), _above(negatives), _below(negatives), _below(positives)))

        return Metric((lambda: zeros(None)) if labels is None else zeros, update, finish)

    return of_probabilities(of, from_logits)


def _above(histogram: jax.Array) -> jax.Array:
    return jnp.cumsum(histogram[::-1], axis=0)[-2::-1]


def _below(histogram: jax.Array) -> jax.Array:
    """A sum of its own: the difference of two large counts has no digits left for a small one."""
    return jnp.cumsum(histogram, axis=0)[:-1]


# ----------------------------------------------------------------------------------------------- area


@registry.factory()
def AUC(
    num_thresholds: int = 200,
    curve: Literal["ROC", "PR", "PRGAIN"] = "ROC",
    summation_method: Literal["interpolation", "minoring", "majoring"] = "interpolation",
    name: str | None = None,
    thresholds: tuple[float, ...] | None = None,
    multi_label: bool = False,
    num_labels: int | None = None,
    label_weights: tuple[float, ...] | None = None,
    from_logits: bool = False,
) -> Metric:
    """The area under the curve of a binary classifier, from scores in buckets; as in Keras.

    `y_true`: 0 or 1, `y_pred`: scores between 0 and 1, of one shape with the batch first.

    Args:
        num_thresholds: number of evenly spaced thresholds, both ends included.
        curve: "ROC", recall over the rate of false positives; "PR", precision over recall; "PRGAIN", gain
            of precision over gain of recall (Flach and Kull 2015).
        summation_method: trapezoids ("PR": the interpolation of Davis and Goadrich 2006), or the lower or the
            higher end of each bucket.
        name: in the history.
        thresholds: between 0 and 1, in place of evenly spaced ones; both ends are added.
        multi_label: the mean of the areas of all columns of `(batch, labels)`; else all are judged together.
        num_labels: number of columns with `multi_label`; taken from the predictions if not given.
        label_weights: weight of each label.
        from_logits: scores are logits. Training knows it from a loss with `from_logits=True`.

    Raises:
        ValueError: an unknown curve or summation, thresholds outside (0, 1), fewer than 2 of them, or
            predictions that do not fit the labels.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> y_true, y_pred = jnp.array([0, 0, 1, 1]), jnp.array([0.1, 0.6, 0.4, 0.9])
    >>> round(float(jl.metrics.AUC()(y_true, y_pred)), 3)
    0.75
    """
    for argument, value, valid in (
        ("curve", curve, ("ROC", "PR", "PRGAIN")),
        ("summation_method", summation_method, ("interpolation", "minoring", "majoring")),
    ):
        if value not in valid:
            raise refused(
                ValueError, f"expected {argument} out of {valid}", raised_by="AUC", **{argument: value}
            )
    if num_labels is not None and not multi_label:
        raise refused(
            ValueError, "expected multi_label=True with num_labels", raised_by="AUC", num_labels=num_labels
        )
    if thresholds is not None and not all(0 <= t <= 1 for t in thresholds):
        raise refused(
            ValueError, "expected thresholds between 0 and 1", raised_by="AUC", thresholds=thresholds
        )
    inner = evenly(num_thresholds) if thresholds is None else sorted(thresholds)
    weights = None if label_weights is None else jnp.asarray(label_weights, jnp.float32)

    def columns(y_pred: Any) -> int:
        expected = num_labels or (len(label_weights) if label_weights else y_pred.shape[-1])
        if len(y_pred.shape) != 2 or y_pred.shape[1] != expected:
            raise refused(
                ValueError,
                "expected predictions (batch, labels) with multi_label=True",
                y_pred,
                raised_by="AUC",
                num_labels=num_labels,
                label_weights=label_weights,
            )
        return expected

    def prepare(y_true: Any, y_pred: Any, weight: Any) -> tuple[Any, Any, Any]:
        y, p = aligned(y_true, y_pred)
        weight = spread(weight, y)
        if weights is not None and not multi_label:
            weight = weight * jnp.broadcast_to(weights, weight.shape[-1:]).reshape(
                (1,) * (p.ndim - 1) + (-1,)
            )
        return y, p, weight

    def area(counts: Counts) -> jax.Array:
        if (curve, summation_method) == ("PR", "interpolation"):
            parts = _interpolated(counts)
        else:
            x, y = _axes(counts, curve)
            heights = {
                "interpolation": lambda: (y[:-1] + y[1:]) / 2.0,
                "minoring": lambda: jnp.minimum(y[:-1], y[1:]),
                "majoring": lambda: jnp.maximum(y[:-1], y[1:]),
            }[summation_method]()
            parts = (x[:-1] - x[1:]) * heights
        areas = parts.sum(0)
        if weights is None or not multi_label:
            return areas.mean()
        return ratio((areas * weights).sum(), weights.sum())

    ends = (-EPSILON, *inner, 1.0 + EPSILON)
    return curve_of(ends, area, prepare, columns if multi_label else None, from_logits)


def _axes(counts: Counts, curve: str) -> tuple[jax.Array, jax.Array]:
    if curve == "ROC":
        return ratio(counts.fp, counts.fp + counts.tn), counts.recall
    if curve == "PR":
        return counts.recall, counts.precision
    odds = ratio(counts.tp + counts.fn, counts.tn + counts.fp)
    none = counts.tp == 0
    recall_gain = jnp.maximum(jnp.where(none, 0.0, 1.0 - odds * ratio(counts.fn, counts.tp)), 0.0)
    return recall_gain, jnp.where(none, 1.0, 1.0 - odds * ratio(counts.fp, counts.tp))


def _interpolated(counts: Counts) -> jax.Array:
    """The area under precision and recall in each bucket, inside which both kinds of positives grow in step.

    With `tp = a + slope * n` for `n` predicted positives, precision is `a / n + slope`; its integral over
    recall has the logarithm of the bucket's ends in it.
    """
    tp, n = counts.tp, counts.tp + counts.fp
    more = tp[:-1] - tp[1:]
    slope = ratio(more, n[:-1] - n[1:])
    offset = tp[1:] - slope * n[1:]
    both = (n[:-1] > 0) & (n[1:] > 0)
    growth = jnp.where(both, n[:-1] / jnp.where(both, n[1:], 1.0), 1.0)
    return ratio(slope * (more + offset * jnp.log(growth)), tp[1:] + counts.fn[1:])
