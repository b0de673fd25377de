"""Metrics of how well predictions follow targets: explained variance, correlation, perplexity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers import losses
from jlayers.core.errors import refused
from jlayers.losses.base import EPSILON, aligned
from jlayers.metrics.base import Metric, mean_of, ratio, registry, spread
from jlayers.metrics.totals import add, add_sum, value_of, zero

__all__ = ["ConcordanceCorrelation", "PearsonCorrelation", "Perplexity", "R2Score"]


@registry.factory()
def R2Score(
    class_aggregation: Literal["uniform_average", "variance_weighted_average"] | None = "uniform_average",
    num_regressors: int = 0,
    name: str | None = None,
) -> Metric:
    """The share of the targets' variance that is explained: 1 is perfect, 0 is no better than their mean.

    As in Keras, for `(batch, outputs)`, with two differences. Sums are kept about the mean, so that targets
    far from 0 lose no digits. Targets without variance score 1 if they are met, else 0, as in scikit-learn.

    Args:
        class_aggregation: the mean over the outputs, or their mean by variance; None gives each.
        num_regressors: number of inputs of the model, for the adjusted score; 0 for the plain one. The
            adjustment is left out if there are no more samples than inputs.
        name: in the history.

    Raises:
        ValueError: another aggregation, fewer than 0 regressors, or predictions of another rank.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.R2Score()(jnp.array([[1.0], [2.0], [3.0]]), jnp.array([[1.0], [2.0], [2.0]])))
    0.5
    """
    if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
        raise refused(
            ValueError,
            "expected class_aggregation None, 'uniform_average' or 'variance_weighted_average'",
            raised_by="R2Score",
            class_aggregation=class_aggregation,
        )
    if num_regressors < 0:
        raise refused(
            ValueError, "expected num_regressors >= 0", raised_by="R2Score", num_regressors=num_regressors
        )

    def init(y_pred: Any) -> dict[str, jax.Array]:
        if len(y_pred.shape) != 2:
            raise refused(ValueError, "expected predictions (batch, outputs)", y_pred, raised_by="R2Score")
        sums = {key: zero(y_pred.shape[1:]) for key in ("weight", "mean", "total", "residual")}
        return sums | {"rows": zero()}

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        y, p = (v.astype(jnp.float32) for v in aligned(y_true, y_pred))
        w = spread(weight, y)
        real = w > 0
        y, p = jnp.where(real, y, 0.0), jnp.where(real, p, 0.0)
        # Batches are merged by means and squares about them (Chan et al. 1979).
        own = w.sum(0)
        mean = ratio((y * w).sum(0), own)
        total = (jnp.square(y - mean[None, :]) * w).sum(0)
        weight = add(acc["weight"], own)
        step, share = mean - value_of(acc["mean"]), ratio(own, value_of(weight))
        return {
            "weight": weight,
            "mean": add(acc["mean"], step * share),
            "total": add(acc["total"], total + jnp.square(step) * value_of(acc["weight"]) * share),
            "residual": add_sum(acc["residual"], jnp.square(y - p) * w, 1),
            "rows": add_sum(acc["rows"], real.any(1).astype(jnp.float32)),
        }

    def result(acc: Any) -> jax.Array:
        total, residual, rows = (value_of(acc[key]) for key in ("total", "residual", "rows"))
        flat = (residual == 0).astype(jnp.float32)
        scores = jnp.where(total > 0, 1.0 - ratio(residual, total), flat)
        if class_aggregation == "uniform_average":
            scores = scores.mean()
        elif class_aggregation == "variance_weighted_average":
            scores = ratio((total * scores).sum(), total.sum())
        if not num_regressors:
            return scores
        free = rows - num_regressors - 1.0
        return jnp.where(free > 0, 1.0 - (1.0 - scores) * ratio(rows - 1.0, free), scores)

    return Metric(init, update, result)


def _along(axis: int, function: Callable[..., Any]) -> Metric:
    """The mean over samples of `function(y, p, mean)` with `mean` along the axis, kept."""

    def values(y_true: Any, y_pred: Any) -> Any:
        y, p = aligned(y_true, y_pred)
        return function(y, p, lambda v: v.mean(axis, keepdims=True)).squeeze(axis)

    return mean_of(losses.Loss(values))


@registry.factory()
def PearsonCorrelation(axis: int = -1, name: str | None = None) -> Metric:
    """The linear correlation of target and prediction along `axis`, between -1 and 1, averaged over samples.

    As in Keras, except that values without variance give 0.

    Args:
        axis: along which values are compared; not the batch.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.PearsonCorrelation()
    >>> round(float(metric(jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[1.0, 3.0, 5.0]]))), 4)
    1.0
    """

    def correlation(y: Any, p: Any, mean: Callable[[Any], Any]) -> Any:
        y, p = y - mean(y), p - mean(p)
        return ratio(mean(y * p), jnp.sqrt(mean(y * y)) * jnp.sqrt(mean(p * p)))

    return _along(axis, correlation)


@registry.factory()
def ConcordanceCorrelation(axis: int = -1, name: str | None = None) -> Metric:
    """Agreement along `axis` (Lin 1989): the correlation, less where location or scale differ; as in Keras.

    Args:
        axis: along which values are compared; not the batch.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.ConcordanceCorrelation()
    >>> round(float(metric(jnp.array([[0.0, 1.0, 2.0]]), jnp.array([[0.0, 1.0, 2.0]]))), 4)
    1.0
    """

    def concordance(y: Any, p: Any, mean: Callable[[Any], Any]) -> Any:
        my, mp = mean(y), mean(p)
        y, p = y - my, p - mp
        return 2.0 * mean(y * p) / (mean(y * y) + mean(p * p) + jnp.square(my - mp) + EPSILON)

    return _along(axis, concordance)


@registry.factory()
def Perplexity(
    from_logits: bool = False, ignore_class: int | None = None, axis: int = -1, name: str | None = None
) -> Metric:
    """`exp` of the mean cross-entropy over all tokens: as uncertain as a choice among that many classes.

    Args:
        from_logits: predictions are logits.
        ignore_class: targets of this class do not count, such as padding.
        axis: axis of the classes.
        name: in the history.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.Perplexity(from_logits=True)
    >>> round(float(metric(jnp.array([[0, 3, 1]]), jnp.zeros((1, 3, 4)))), 3)
    4.0
    """
    loss = losses.SparseCategoricalCrossentropy(from_logits, ignore_class, axis)
    return mean_of(loss, jnp.exp, "min")
