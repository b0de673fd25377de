"""F-scores: the harmonic mean of precision and recall, per class or over classes."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.shapes import describe
from jlayers.losses.base import EPSILON, aligned
from jlayers.metrics.base import Metric, registry, spread

__all__ = ["F1Score", "FBetaScore"]

Average = Literal["micro", "macro", "weighted"]


@registry.factory()
def FBetaScore(
    average: Average | None = None, beta: float = 1.0, threshold: float | None = None, name: str | None = None
) -> Metric:
    """`(1 + beta**2) * precision * recall / (beta**2 * precision + recall)`; as in Keras.

    `y_true`: zeros and ones, `y_pred`: scores, `(batch, ..., classes)`.

    Args:
        average: None gives a score per class; "macro" their mean, "weighted" their mean by the classes'
            numbers of positives, "micro" the score of all decisions together. In training it must be given.
        beta: how much more recall weighs than precision.
        threshold: scores above it are positive; if not given, the highest of a sample is.
        name: in the history.

    Raises:
        ValueError: another average, a beta of 0 or less, a threshold outside (0, 1].

    >>> import jax.numpy as jnp, jlayers as jl
    >>> y_true = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> y_pred = jnp.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    >>> [round(score, 3) for score in jl.metrics.FBetaScore()(y_true, y_pred).tolist()]
    [0.667, 0.667]
    """
    return _score("FBetaScore", average, beta, threshold)


@registry.factory()
def F1Score(
    average: Average | None = None, threshold: float | None = None, name: str | None = None
) -> Metric:
    """The harmonic mean of precision and recall: `FBetaScore` with `beta=1`; as in Keras.

    Args:
        average: as in `FBetaScore`.
        threshold: as in `FBetaScore`.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.F1Score(average="macro")
    >>> round(float(metric(jnp.array([[1.0, 0.0]]), jnp.array([[0.9, 0.1]]))), 4)
    0.5
    """
    return _score("F1Score", average, 1.0, threshold)


def _score(type_name: str, average: Any, beta: float, threshold: float | None) -> Metric:
    if average not in (None, "micro", "macro", "weighted"):
        raise ValueError(
            f"{type_name}: expected average None, 'micro', 'macro' or 'weighted', received "
            f"average={average!r}"
        )
    if not beta > 0:
        raise ValueError(f"{type_name}: expected beta above 0, received beta={beta!r}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(
            f"{type_name}: expected a threshold above 0 and up to 1, received threshold={threshold!r}"
        )

    def init(y_pred: Any) -> dict[str, jax.Array]:
        if len(y_pred.shape) < 2:
            raise ValueError(
                f"{type_name}: expected predictions (batch, ..., classes), received {describe(y_pred)}; "
                f"for one score per sample give both an axis: y[..., None]"
            )
        zeros = jnp.zeros(y_pred.shape[-1], jnp.float32)
        return {"right": zeros, "predicted": zeros, "actual": zeros}

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        y, p = aligned(y_true, y_pred)
        if threshold is None:
            # A sample without any score has no positive.
            chosen = (p >= p.max(-1, keepdims=True)) & (jnp.abs(p) > 1e-9)
        else:
            chosen = p > threshold
        weight = spread(weight, y)
        chosen = chosen.astype(jnp.float32) * weight
        y = y.astype(jnp.float32)
        new = {"right": chosen * y, "predicted": chosen, "actual": y * weight}
        return {k: acc[k] + v.sum(tuple(range(v.ndim - 1))) for k, v in new.items()}

    def result(acc: Any) -> jax.Array:
        right, predicted, actual = acc["right"], acc["predicted"], acc["actual"]
        if average == "micro":
            right, predicted, actual = right.sum(), predicted.sum(), actual.sum()
        precision, recall = right / (predicted + EPSILON), right / (actual + EPSILON)
        scores = (1 + beta**2) * precision * recall / (beta**2 * precision + recall + EPSILON)
        if average == "weighted":
            return (scores * actual).sum() / (actual.sum() + EPSILON)
        return scores.mean() if average else scores

    return Metric(init, update, result)
