"""Losses of label sequences whose timing is not known."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from jlayers.core.shapes import describe
from jlayers.losses.base import Loss, Values, registry, wide

__all__ = ["CTC"]


@registry.factory()
def CTC() -> Loss:
    """Connectionist temporal classification (Graves et al. 2006): minus the log-likelihood of each sequence.

    As in Keras. `y_true`: `(batch, length)` of labels from 1, filled up with 0 at the end; `y_pred`: logits
    `(batch, frames, classes)`, in which class 0 is the blank. A sequence that does not fit into the frames
    has a loss of about 1e5. `jl.losses.ctc_decode` turns logits into labels.

    Raises:
        TypeError: labels of a floating dtype.
        ValueError: other shapes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.CTC()(jnp.array([[1, 0]]), jnp.zeros((1, 2, 2)))
    >>> round(float(jnp.exp(-loss[0])), 3)  # three of the four paths: 01, 10, 11
    0.75
    """

    def values(y_true: Any, y_pred: Any) -> Values:
        if jnp.issubdtype(y_true.dtype, jnp.floating):
            raise TypeError(
                f"CTC: expected labels of an integer dtype, received y_true={describe(y_true)}; convert them "
                f"with y.astype('int32')"
            )
        if y_true.ndim != 2 or y_pred.ndim != 3 or y_true.shape[0] != y_pred.shape[0]:
            raise ValueError(
                f"CTC: expected y_true (batch, length) and y_pred (batch, frames, classes), received "
                f"y_true={describe(y_true)} and y_pred={describe(y_pred)}"
            )
        logits = y_pred.astype(wide(y_pred.dtype))
        count = (y_true != 0).sum(1, keepdims=True)
        behind = (jnp.arange(y_true.shape[1])[None, :] >= count).astype(logits.dtype)
        frames = jnp.zeros(logits.shape[:2], logits.dtype)
        return optax.losses.ctc_loss(logits, frames, y_true.astype(jnp.int32), behind)

    return Loss(values)
