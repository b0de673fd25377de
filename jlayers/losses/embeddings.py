"""Losses of embeddings: they pull samples of one class together and push classes apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.shapes import describe
from jlayers.losses.base import Loss, Values, registry, wide

__all__ = ["Circle"]


@registry.factory()
def Circle(gamma: float = 80.0, margin: float = 0.4, remove_diagonal: bool = True) -> Loss:
    """Circle loss over the pairs of a batch, where harder pairs weigh more (Sun et al. 2020), as in Keras.

    `y_true`: class numbers `(batch,)`; `y_pred`: `(batch, features)`, of norm 1 (end the model in
    `UnitNormalization`). Rows that only fill the batch up are not partners. The mean is over the samples with
    a loss above 0: a sample without a partner of its class has none.

    Args:
        gamma: scale of the similarities.
        margin: below this distance pairs of a class weigh less, and those of two classes more.
        remove_diagonal: a sample is not its own partner.

    Raises:
        TypeError: class numbers of a floating dtype.
        ValueError: other shapes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> points = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> [round(v, 3) for v in jl.losses.Circle(gamma=2.0)(jnp.array([0, 0, 1]), points).tolist()]
    [0.423, 0.423, 0.0]
    """

    def values(y_true: Any, y_pred: Any, mask: Any) -> Values:
        labels = _labels(y_true, y_pred)
        points = y_pred.astype(wide(y_pred.dtype))
        distances = jnp.maximum(1.0 - points @ points.T, 0.0)
        same = labels[:, None] == labels[None, :]
        partners = jnp.ones_like(same) if mask is None else jnp.broadcast_to(mask[None, :] > 0, same.shape)
        near = same & partners & ~(jnp.eye(len(labels), dtype=bool) & remove_diagonal)
        far = ~same & partners
        pull = -gamma * jnp.maximum(margin + distances, 0.0) * (margin - distances)
        push = gamma * jnp.maximum(1.0 + margin - distances, 0.0) * (1.0 - margin - distances)
        return jax.nn.softplus(_log_sum(pull, near) + _log_sum(push, far))

    def counts(y_true: Any, y_pred: Any, mask: Any) -> Any:
        return values(y_true, y_pred, mask) > 0

    return Loss(values, counts, across_rows=True)


def _log_sum(values: Any, chosen: Any) -> Any:
    """`log(sum(exp(values)))` over the chosen in each row; of none, minus infinity, with a gradient of 0."""
    return jax.nn.logsumexp(jnp.where(chosen, values, -jnp.inf), axis=1)


def _labels(y_true: Any, y_pred: Any) -> Any:
    if jnp.issubdtype(y_true.dtype, jnp.floating):
        raise TypeError(
            f"Circle: expected class numbers of an integer dtype, received y_true={describe(y_true)}; "
            f"convert them with y.astype('int32')"
        )
    if y_pred.ndim != 2 or y_true.shape not in ((y_pred.shape[0],), (y_pred.shape[0], 1)):
        raise ValueError(
            f"Circle: expected y_true (batch,) and y_pred (batch, features), received "
            f"y_true={describe(y_true)} and y_pred={describe(y_pred)}"
        )
    return y_true.reshape(-1)
