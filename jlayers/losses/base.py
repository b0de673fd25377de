"""What all losses share: the registry, the demand for equal shapes, and the mean over the last axis.

Besides its values a loss may say more about itself, by attributes that the training step reads:

- `counts(y_true, y_pred)`: which values count in the mean;
- `check(y_true, y_pred)`: raises, before training starts, on targets that cannot be meant;
- `joint`: see the function of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.registry import Kind, Registry
from jlayers.core.shapes import describe, shape_text

__all__ = [
    "EPSILON",
    "Loss",
    "LossLike",
    "Values",
    "aligned",
    "along_last",
    "class_numbers",
    "elementwise",
    "joint",
    "wide",
]

EPSILON = 1e-7  # Keras's `backend.epsilon()`

Values = Float[Array, "batch *rest"]
Loss = Callable[[Any, Any], Values]
LossLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("loss")]

registry = Registry("loss", "losses")
get = registry.get
register = registry.factory()


def wide(dtype: Any) -> Any:
    """The dtype in which values of `dtype` are judged: floating, at least float32."""
    return dtype if dtype == jnp.float64 else jnp.dtype(jnp.float32)


def aligned(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets and predictions in one floating dtype, at least float32; unequal shapes are refused."""
    if y_true.shape != y_pred.shape:
        if (*y_true.shape, 1) == y_pred.shape:
            fix = "give y the axis that the predictions have: y[..., None]"
        elif y_true.shape == (*y_pred.shape, 1):
            fix = "take the axis away that the predictions do not have: y[..., 0]"
        elif y_true.shape == y_pred.shape[:-1] and not jnp.issubdtype(y_true.dtype, jnp.floating):
            fix = "for class numbers as targets use 'sparse_categorical_crossentropy'"
        else:
            fix = "change the model's last layer or the targets"
        raise ValueError(
            f"expected y_true and y_pred of equal shapes, received y_true={describe(y_true)} and "
            f"y_pred={describe(y_pred)}; {fix}"
        )
    dtype = wide(y_pred.dtype)
    return y_true.astype(dtype), y_pred.astype(dtype)


def class_numbers(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Targets as whole numbers in the shape of the predictions without their class axis, int32."""
    if jnp.issubdtype(y_true.dtype, jnp.floating):
        raise TypeError(
            f"expected class numbers of an integer dtype, received y_true={describe(y_true)}; convert them "
            f"with y.astype('int32'), or use 'categorical_crossentropy' if they are one-hot"
        )
    axis = axis % y_pred.ndim
    expected = y_pred.shape[:axis] + y_pred.shape[axis + 1 :]
    if y_true.shape == (*expected, 1):
        y_true = y_true[..., 0]
    if y_true.shape != expected:
        hint = "; one-hot targets go with 'categorical_crossentropy'" if y_true.shape == y_pred.shape else ""
        raise ValueError(
            f"expected class numbers of shape {shape_text(expected)} for y_pred={describe(y_pred)}, received "
            f"y_true={describe(y_true)}{hint}"
        )
    if y_pred.shape[axis] == 1:
        raise ValueError(
            f"expected scores for at least two classes, received y_pred={describe(y_pred)}; for a single "
            f"output use 'binary_crossentropy' with targets of the same shape, y[..., None]"
        )
    return y_true.astype(jnp.int32)


def elementwise(function: Callable[[Any, Any], Any]) -> Loss:
    """The loss that averages `function(y_true, y_pred)` over the last axis; rows stay apart."""

    def loss(y_true: Any, y_pred: Any) -> Values:
        values = function(*aligned(y_true, y_pred))
        return values.mean(-1) if values.ndim > 1 else values

    return loss


def along_last(function: Callable[[Any, Any], Any]) -> Loss:
    def loss(y_true: Any, y_pred: Any) -> Values:
        return function(*aligned(y_true, y_pred))

    return loss


def joint(loss: Callable[..., Any]) -> Loss:
    """Marks a loss that sees the rows of a batch together: it, and its `counts`, then also take `mask`.

    The mask is None or `(batch,)`, 0 for rows that only fill the batch up.
    """
    loss.joint = True  # type: ignore[attr-defined]
    return loss
