"""F-scores: the harmonic mean of precision and recall, per class or over classes."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.losses.base import EPSILON, aligned, unchanged
from jlayers.metrics.base import Link, Metric, of_probabilities, registry, spread
from jlayers.metrics.totals import add_sum, value_of, zero

__all__ = ["F1Score", "FBetaScore"]

Average = Literal["micro", "macro", "weighted"]


@registry.factory()
def FBetaScore(
    average: Average | None = None,
    beta: float = 1.0,
    threshold: float | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """`(1 + beta**2) * precision * recall / (beta**2 * precision + recall)`; as in Keras.

    `y_true`: zeros and ones, `y_pred`: scores, `(batch, ..., classes)`.

    Args:
        average: None gives a score per class; "macro" their mean, "weighted" their mean by the classes'
            numbers of positives, "micro" the score of all decisions together. In training it must be given.
        beta: how much more recall weighs than precision.
        threshold: scores above it are positive; if not given, the highest of a sample is. Scores of one
            column need a threshold.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    Raises:
        ValueError: another average, a beta of 0 or less, a threshold outside (0, 1], or predictions of one
            column without a threshold.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> y_true = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> y_pred = jnp.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    >>> [round(score, 3) for score in jl.metrics.FBetaScore()(y_true, y_pred).tolist()]
    [0.667, 0.667]
    """
    return _score("FBetaScore", average, beta, threshold, from_logits)


@registry.factory()
def F1Score(
    average: Average | None = None,
    threshold: float | None = None,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """The harmonic mean of precision and recall: `FBetaScore` with `beta=1`; as in Keras.

    Args:
        average: as in `FBetaScore`.
        threshold: as in `FBetaScore`.
        name: in the history.
        from_logits: as in `FBetaScore`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.F1Score(average="macro")
    >>> round(float(metric(jnp.array([[1.0, 0.0]]), jnp.array([[0.9, 0.1]]))), 4)
    0.5
    """
    return _score("F1Score", average, 1.0, threshold, from_logits)


def _score(type_name: str, average: Any, beta: float, threshold: float | None, from_logits: bool) -> Metric:
    if average not in (None, "micro", "macro", "weighted"):
        raise refused(
            ValueError,
            "expected average None, 'micro', 'macro' or 'weighted'",
            raised_by=type_name,
            average=average,
        )
    if not beta > 0:
        raise refused(ValueError, "expected beta above 0", raised_by=type_name, beta=beta)
    if threshold is not None and not 0 < threshold <= 1:
        raise refused(
            ValueError, "expected a threshold above 0 and up to 1", raised_by=type_name, threshold=threshold
        )

    def init(y_pred: Any) -> dict[str, jax.Array]:
        if len(y_pred.shape) < 2:
            raise refused(
                ValueError,
                "expected predictions (batch, ..., classes)",
                y_pred,
                instead="for one score per sample give targets and predictions an axis: y[..., None]",
                raised_by=type_name,
            )
        if threshold is None and y_pred.shape[-1] == 1:
            raise refused(
                ValueError,
                "expected a threshold for predictions of one column",
                y_pred,
                instead="without one the highest score of each sample counts as positive, so write "
                f"{type_name}(threshold=0.5)",
                raised_by=type_name,
                threshold=None,
            )
        return {key: zero((y_pred.shape[-1],)) for key in ("right", "predicted", "actual")}

    def of(link: Link) -> Metric:
        def is_predicted(p: Any) -> Any:
            if threshold is not None:
                return link(p) > threshold
            highest = p >= p.max(-1, keepdims=True)
            # A sample in which all probabilities are 0 has no positive.
            return highest & (jnp.abs(p) > 1e-9) if link is unchanged else highest

        def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
            y, p = aligned(y_true, y_pred)
            weight = spread(weight, y)
            predicted = is_predicted(p).astype(jnp.float32) * weight
            y = y.astype(jnp.float32)
            new = {"right": predicted * y, "predicted": predicted, "actual": y * weight}
            return {key: add_sum(acc[key], value, value.ndim - 1) for key, value in new.items()}

        return Metric(init, update, result)

    def result(acc: Any) -> jax.Array:
        right, predicted, actual = (value_of(acc[key]) for key in ("right", "predicted", "actual"))
        if average == "micro":
            right, predicted, actual = right.sum(), predicted.sum(), actual.sum()
        precision, recall = right / (predicted + EPSILON), right / (actual + EPSILON)
        scores = (1 + beta**2) * precision * recall / (beta**2 * precision + recall + EPSILON)
        if average == "weighted":
            return (scores * actual).sum() / (actual.sum() + EPSILON)
        return scores.mean() if average else scores

    return of_probabilities(of, from_logits)
