"""The record of a loss, the registry, and what losses share: shapes, dtypes, the mean over the last axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jlayers.core.registry import Configured, Kind, Registry
from jlayers.core.shapes import describe, shape_text

__all__ = [
    "EPSILON",
    "Loss",
    "LossLike",
    "Values",
    "aligned",
    "along_last",
    "as_loss",
    "class_numbers",
    "elementwise",
    "match_axis",
    "required_targets",
    "unchanged",
    "wide",
]

EPSILON = 1e-7  # Keras's `backend.epsilon()`

Values = Float[Array, "batch *rest"]
LossLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("loss")]

registry = Registry("loss", "losses")
get = registry.get
register = registry.factory()


def unchanged(x: Any) -> Any:
    """The link of predictions that are probabilities already."""
    return x


@dataclasses.dataclass(frozen=True)
class Loss:
    """One value per sample, and what training has to know besides; calling it gives the values.

    A plain function `f(y_true, y_pred)` is a loss, too. Use the record to say more about it.

    Attributes:
        values: `values(y_true, y_pred)`, of shape `(batch, ...)`. If `across_rows`, it also takes `mask`.
        counts: which of the values count in the mean, as booleans; takes what `values` takes. None for all.
        check: `check(y_true, y_pred)` raises on targets that cannot be meant. It sees all targets as a NumPy
            array, before training starts; of the predictions only shape and dtype are known.
        across_rows: the value of a row depends on other rows of the batch. `values` and `counts` then take
            `mask` as a third argument: None, or `(batch,)` with 0 for rows that only fill the batch up.
        from_logits: True if predictions are logits, False if they are probabilities, None if neither.
        link: makes probabilities of the predictions.
        binary: each number of a prediction answers a yes-or-no question of its own.
        name: for messages.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> known = jl.losses.Loss(
    ...     values=lambda y_true, y_pred: jnp.abs(y_true - y_pred).mean(-1),
    ...     counts=lambda y_true, y_pred: (y_true >= 0).all(-1),
    ... )
    >>> known(jnp.array([[1.0], [-1.0]]), jnp.zeros((2, 1))).tolist()
    [1.0, 1.0]
    >>> float(jl.metrics.mean_of(known)(jnp.array([[3.0], [-1.0]]), jnp.zeros((2, 1))))
    3.0
    """

    values: Callable[..., Any]
    counts: Callable[..., Any] | None = None
    check: Callable[[np.ndarray, Any], None] | None = None
    across_rows: bool = False
    from_logits: bool | None = None
    link: Callable[[Any], Any] = unchanged
    binary: bool = False
    name: str = "loss"

    def __call__(self, y_true: Any, y_pred: Any, mask: Any = None) -> Any:
        return self.values(y_true, y_pred, mask) if self.across_rows else self.values(y_true, y_pred)

    def counted(self, y_true: Any, y_pred: Any, mask: Any = None) -> Any:
        """True for the values that count; None if all do."""
        if self.counts is None:
            return None
        return self.counts(y_true, y_pred, mask) if self.across_rows else self.counts(y_true, y_pred)


def as_loss(value: Any) -> Loss:
    """The record of a loss: of one that is registered, of a record, or of a plain function."""
    function = value.function if isinstance(value, Configured) else value
    if isinstance(function, Loss):
        return dataclasses.replace(function, name=repr(value)) if isinstance(value, Configured) else function
    name = getattr(value, "__name__", None) or repr(value)
    return Loss(lambda y_true, y_pred: _own(value, name, y_true, y_pred), name=name)


# --------------------------------------------------------------------------------------------- shapes


def match_axis(y_true: Any, y_pred: Any) -> Any:
    """The targets with the last axis of the predictions, where they differ by one axis of one entry only.

    `(batch,)` and `(batch, 1)` broadcast to `(batch, batch)`, which is never intended.

    >>> import numpy as np
    >>> match_axis(np.zeros(4), np.zeros((4, 1))).shape, match_axis(np.zeros((4, 1)), np.zeros(4)).shape
    ((4, 1), (4,))
    """
    if not (hasattr(y_true, "shape") and hasattr(y_pred, "shape")):
        return y_true
    if (*y_true.shape, 1) == y_pred.shape:
        return y_true[..., None]
    return y_true[..., 0] if y_true.shape == (*y_pred.shape, 1) else y_true


def _own(function: Callable[..., Any], name: str, y_true: Any, y_pred: Any) -> Any:
    """The values of a user's function; refused if it broadcasts targets and predictions over the batch."""
    y_true = match_axis(y_true, y_pred)
    values = function(y_true, y_pred)
    if jnp.ndim(values) == 0 or not (hasattr(y_true, "shape") and hasattr(y_pred, "shape")):
        return values
    rows = y_pred.shape[0]
    fits = values.shape[0] == rows
    if fits and y_true.shape != y_pred.shape and rows in (*y_true.shape[1:], *y_pred.shape[1:]):
        # Another axis is as long as the batch. Would the function take a batch of another length?
        other = 1 + sum((*y_true.shape, *y_pred.shape))
        longer = [jax.ShapeDtypeStruct((other, *y.shape[1:]), y.dtype) for y in (y_true, y_pred)]
        try:
            fits = jax.eval_shape(function, *longer).shape == (other, *values.shape[1:])
        except (TypeError, ValueError):
            fits = False
    if not fits:
        raise ValueError(
            f"expected a value per sample from {name}, received {describe(values)} for y_true="
            f"{describe(y_true)} and y_pred={describe(y_pred)}; give both one shape, such as by "
            f"y_true[..., None], so that they do not broadcast"
        )
    return values


def wide(dtype: Any) -> Any:
    """The dtype in which values of `dtype` are judged: floating, at least float32."""
    return dtype if dtype == jnp.float64 else jnp.dtype(jnp.float32)


def required_targets(y_true: Any, y_pred: Any) -> Any:
    """The targets; None is refused."""
    if y_true is None:
        raise ValueError(
            f"expected targets for the predictions {describe(y_pred)}, received y_true=None; give "
            f"the targets of this output, or leave its losses and metrics out"
        )
    return y_true


def aligned(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets and predictions in one floating dtype, at least float32; unequal shapes are refused."""
    y_true = required_targets(y_true, y_pred)
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
    y_true = required_targets(y_true, y_pred)
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
            f"output use 'binary_crossentropy'"
        )
    return y_true.astype(jnp.int32)


def elementwise(function: Callable[[Any, Any], Any], axis: int = -1, **facts: Any) -> Loss:
    """The loss that averages `function(y_true, y_pred)` over an axis; rows stay apart."""

    def values(y_true: Any, y_pred: Any) -> Values:
        each = function(*aligned(y_true, y_pred))
        return each.mean(axis) if each.ndim > 1 else each

    return Loss(values, **facts)


def along_last(function: Callable[[Any, Any], Any], **facts: Any) -> Loss:
    """The loss whose values `function(y_true, y_pred)` gives, without a mean."""
    return Loss(lambda y_true, y_pred: function(*aligned(y_true, y_pred)), **facts)
