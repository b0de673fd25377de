"""Losses of classes: cross-entropies of probabilities or logits, and the Kullback-Leibler divergence."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jlayers.core.errors import about, refused
from jlayers.losses.base import (
    EPSILON,
    Loss,
    Values,
    along_last,
    class_numbers,
    elementwise,
    registry,
    wide,
)
from jlayers.ops.cross_entropy import log_softmax_at, pick

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "KLDivergence",
    "SparseCategoricalCrossentropy",
]


def _log_probabilities(y_pred: Any, from_logits: bool, axis: int) -> Any:
    if from_logits:
        return jax.nn.log_softmax(y_pred, axis)
    return _log_clipped(y_pred / _floored(y_pred.sum(axis, keepdims=True)))


def _log_normalized_at(y_pred: Any, labels: Any, axis: int) -> Any:
    return _log_clipped(pick(y_pred, labels, axis) / _floored(y_pred.sum(axis)))


def _floored(total: Any) -> Any:
    """A sum to divide by: the gradient of a division by next to nothing overflows."""
    return jnp.maximum(total, EPSILON)


def _log_clipped(p: Any) -> Any:
    return jnp.log(jnp.clip(p, EPSILON, 1.0 - EPSILON))


def _weighed(t: Any, log_p: Any) -> Any:
    """`t * log_p`, and 0 where a class of no probability is not wanted: 0 times minus infinity is NaN."""
    return t * jnp.where((t == 0) & (log_p == -jnp.inf), 0.0, log_p)


def _focus(wrong: Any, gamma: float) -> Any:
    """`wrong**gamma` with a finite gradient at 0, which a power below 1 does not have."""
    return jnp.maximum(wrong, EPSILON) ** gamma


def _sigmoid_link(from_logits: bool) -> dict[str, Any]:
    """The function from the predictions of a loss of yes-or-no targets to probabilities."""
    return {"from_logits": from_logits, "binary": True} | ({"link": jax.nn.sigmoid} if from_logits else {})


def _softmax_link(from_logits: bool, axis: int = -1) -> dict[str, Any]:
    """The function from the predictions of a loss of classes to probabilities."""
    softmax = functools.partial(jax.nn.softmax, axis=axis)
    return {"from_logits": from_logits} | ({"link": softmax} if from_logits else {})


def _check_smoothing(name: str, label_smoothing: float) -> None:
    if not 0.0 <= label_smoothing <= 1.0:
        raise refused(
            ValueError,
            "expected label_smoothing between 0 and 1",
            raised_by=name,
            label_smoothing=label_smoothing,
        )


@registry.factory("bce")
def BinaryCrossentropy(from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1) -> Loss:
    """Cross-entropy of yes-or-no targets, averaged over `axis`, as in Keras.

    Args:
        from_logits: predictions are logits, not probabilities. Probabilities are clipped to
            [1e-7, 1 - 1e-7], so that the gradient is 0 outside; logits have no such edge.
        label_smoothing: `s` moves the targets toward one half: `y * (1 - s) + s / 2`.
        axis: over which the mean is taken.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.BinaryCrossentropy(from_logits=True)
    >>> [round(float(value), 4) for value in loss(jnp.array([[1.0], [0.0]]), jnp.zeros((2, 1)))]
    [0.6931, 0.6931]
    """
    _check_smoothing("BinaryCrossentropy", label_smoothing)

    def values(t: Any, p: Any) -> Any:
        return _binary(_smoothed(t, label_smoothing), p, from_logits)

    return elementwise(values, axis, check=_check_shares, **_sigmoid_link(from_logits))


def _smoothed(t: Any, label_smoothing: float) -> Any:
    return t * (1.0 - label_smoothing) + 0.5 * label_smoothing if label_smoothing else t


def _binary(t: Any, p: Any, from_logits: bool) -> Any:
    if from_logits:
        return optax.losses.sigmoid_binary_cross_entropy(p, t)
    return -(t * _log_clipped(p) + (1.0 - t) * _log_clipped(1.0 - p))


@registry.factory()
def BinaryFocalCrossentropy(
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Loss:
    """Binary cross-entropy times `(1 - p_right)**gamma`, so that easy samples weigh little (Lin et al. 2017).

    Args:
        apply_class_balancing: weigh class 1 by `alpha` and class 0 by `1 - alpha`.
        alpha: weight of class 1.
        gamma: 0 gives plain cross-entropy.
        from_logits: predictions are logits, not probabilities.
        label_smoothing: as in `BinaryCrossentropy`.
        axis: over which the mean is taken.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.BinaryFocalCrossentropy(gamma=0.0)
    >>> round(float(loss(jnp.array([[1.0]]), jnp.array([[0.5]]))[0]), 4)
    0.6931
    """
    _check_smoothing("BinaryFocalCrossentropy", label_smoothing)

    def values(t: Any, p: Any) -> Any:
        t = _smoothed(t, label_smoothing)
        if from_logits:  # 1 - sigmoid(x) has no digits left for large x, sigmoid(-x) has all of them
            wrong = t * jax.nn.sigmoid(-p) + (1.0 - t) * jax.nn.sigmoid(p)
        else:
            wrong = t * (1.0 - p) + (1.0 - t) * p
        each = _focus(wrong, gamma) * _binary(t, p, from_logits)
        return each * (t * alpha + (1.0 - t) * (1.0 - alpha)) if apply_class_balancing else each

    return elementwise(values, axis, check=_check_shares, **_sigmoid_link(from_logits))


@registry.factory()
def CategoricalCrossentropy(from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1) -> Loss:
    """Cross-entropy of one-hot (or soft) targets, as in Keras. `y_true`, `y_pred`: `(batch, ..., classes)`.

    Args:
        from_logits: predictions are logits. Otherwise they are divided by their sum and clipped to
            [1e-7, 1 - 1e-7], so that the gradient is 0 outside; logits have no such edge.
        label_smoothing: `s` gives every class its share: `y * (1 - s) + s / classes`.
        axis: axis of the classes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.CategoricalCrossentropy()
    >>> loss(jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 0.5]])).round(4).tolist()
    [0.0]
    """
    _check_smoothing("CategoricalCrossentropy", label_smoothing)

    def values(t: Any, p: Any) -> Any:
        t = _smoothed_shares(t, label_smoothing, axis)
        return -_weighed(t, _log_probabilities(p, from_logits, axis)).sum(axis)

    return along_last(values, check=_check_shares, **_softmax_link(from_logits, axis))


def _smoothed_shares(t: Any, label_smoothing: float, axis: int) -> Any:
    return t * (1.0 - label_smoothing) + label_smoothing / t.shape[axis] if label_smoothing else t


@registry.factory()
def CategoricalFocalCrossentropy(
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Loss:
    """Categorical cross-entropy times `alpha * (1 - p_right)**gamma` (Lin et al. 2017), as in Keras.

    Args:
        alpha: weight of all classes.
        gamma: 0 gives plain cross-entropy times `alpha`.
        from_logits: predictions are logits.
        label_smoothing: as in `CategoricalCrossentropy`.
        axis: axis of the classes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.CategoricalFocalCrossentropy(alpha=1.0)
    >>> round(float(loss(jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 0.5]]))[0]), 3)
    0.173
    """
    _check_smoothing("CategoricalFocalCrossentropy", label_smoothing)

    def values(t: Any, p: Any) -> Any:
        t = _smoothed_shares(t, label_smoothing, axis)
        log_p = _log_probabilities(p, from_logits, axis)
        focus = _focus(-jnp.expm1(log_p), gamma)
        return -(alpha * focus * _weighed(t, log_p)).sum(axis)

    return along_last(values, check=_check_shares, **_softmax_link(from_logits, axis))


@registry.factory()
def SparseCategoricalCrossentropy(
    from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Loss:
    """Cross-entropy of class numbers. `y_true`: integers `(batch, ...)`; `y_pred`: `(batch, ..., classes)`.

    As in Keras, except that a number out of range gives NaN and not 0. `fit` names it before it starts.

    Args:
        from_logits: predictions are logits. Otherwise they are divided by their sum and clipped to
            [1e-7, 1 - 1e-7], so that the gradient is 0 outside; logits have no such edge.
        ignore_class: targets of this number count neither in the loss nor in the mean.
        axis: axis of the classes.

    Raises:
        TypeError: targets of a floating dtype.
        ValueError: targets that do not have the shape of the predictions without `axis`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> [round(float(value), 4) for value in loss(jnp.array([1, 0]), jnp.zeros((2, 10)))]
    [2.3026, 2.3026]
    """

    def values(y_true: Any, y_pred: Any) -> Values:
        labels = class_numbers(y_true, y_pred, axis)
        p = y_pred.astype(wide(y_pred.dtype))
        each = -log_softmax_at(p, labels, axis) if from_logits else -_log_normalized_at(p, labels, axis)
        each = jnp.where((labels >= 0) & (labels < y_pred.shape[axis]), each, jnp.nan)
        return each if ignore_class is None else jnp.where(labels == ignore_class, 0.0, each)

    def counts(y_true: Any, y_pred: Any) -> Any:
        return class_numbers(y_true, y_pred, axis) != ignore_class

    def check(y_true: np.ndarray, y_pred: Any) -> None:
        _check_labels(y_true, y_pred.shape[axis], ignore_class)

    return Loss(
        values,
        counts=None if ignore_class is None else counts,
        check=check,
        **_softmax_link(from_logits, axis),
    )


@registry.factory()
def CategoricalGeneralizedCrossEntropy(q: float = 0.5) -> Loss:
    """`(1 - p**q) / q` of the right class's `p`, robust to wrong labels (Zhang and Sabuncu 2018).

    As in Keras, except that probabilities below 1e-7 count as 1e-7, and that a class number out of range
    gives NaN. `y_true`: integers `(batch, ...)`; `y_pred`: probabilities `(batch, ..., classes)`.

    Args:
        q: between 0, the cross-entropy, and 1, the mean absolute error.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.CategoricalGeneralizedCrossEntropy()(jnp.array([1]), jnp.array([[0.75, 0.25]])).tolist()
    [1.0]
    """
    if not 0 < q < 1:
        raise refused(
            ValueError, "expected q between 0 and 1", raised_by="CategoricalGeneralizedCrossEntropy", q=q
        )

    def values(y_true: Any, y_pred: Any) -> Values:
        labels = class_numbers(y_true, y_pred)
        right = pick(y_pred.astype(wide(y_pred.dtype)), labels)
        each = (1.0 - jnp.maximum(right, EPSILON) ** q) / q
        return jnp.where((labels >= 0) & (labels < y_pred.shape[-1]), each, jnp.nan)

    def check(y_true: np.ndarray, y_pred: Any) -> None:
        _check_labels(y_true, y_pred.shape[-1], None)

    return Loss(values, check=check, from_logits=False)


@registry.factory("kld", "kullback_leibler_divergence")
def KLDivergence() -> Loss:
    """The sum of `y_true * log(y_true / y_pred)` over the last axis, both clipped to [1e-7, 1], as in Keras.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> jl.losses.KLDivergence()(jnp.array([[0.5, 0.5]]), jnp.array([[0.5, 0.5]])).tolist()
    [0.0]
    """

    def divergence(t: Any, p: Any) -> Any:
        t, p = jnp.clip(t, EPSILON, 1.0), jnp.clip(p, EPSILON, 1.0)
        return (t * jnp.log(t / p)).sum(-1)

    return along_last(divergence, from_logits=False)


def _check_labels(y_true: np.ndarray, classes: int, ignore_class: int | None) -> None:
    bad = (y_true < 0) | (y_true >= classes)
    if ignore_class is not None:
        bad &= y_true != ignore_class
    if bad.any():
        where = np.argwhere(bad)[0].tolist()
        error = refused(
            ValueError,
            f"expected class numbers from 0 to {classes - 1}, as the model has {classes} outputs",
            instead="number the classes from 0, or give the last layer more units",
            **{f"y{where}": int(y_true[tuple(where)])},
        )
        raise about(error, *where, y=y_true)


def _check_shares(y_true: np.ndarray, y_pred: Any) -> None:
    bad = (y_true < 0) | (y_true > 1)
    if bad.any():
        where = np.argwhere(bad)[0].tolist()
        error = refused(
            ValueError,
            "expected targets between 0 and 1 for a cross-entropy of shares",
            instead="for class numbers use 'sparse_categorical_crossentropy'",
            **{f"y{where}": y_true[tuple(where)].item()},
        )
        raise about(error, *where, y=y_true)
