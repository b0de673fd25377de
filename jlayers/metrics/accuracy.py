"""Accuracies: the share of samples that the model gets right."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.losses.base import Loss, aligned, class_numbers, elementwise, unchanged
from jlayers.metrics.base import Link, Metric, mean_of, of_probabilities, registry

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
]


def _same(a: Any, b: Any) -> Any:
    return (a == b).astype(jnp.float32)


def _binary(threshold: float, link: Link = unchanged) -> Loss:
    return elementwise(lambda y, p: _same(y, (link(p) > threshold).astype(y.dtype)))


def _categorical(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = aligned(y_true, y_pred)
    return _same(y_true.argmax(-1), y_pred.argmax(-1))


def _sparse(y_true: Any, y_pred: Any) -> Any:
    return _same(class_numbers(y_true, y_pred), y_pred.argmax(-1).astype(jnp.int32))


def _top_k(labels: Any, y_pred: Any, k: int) -> Any:
    """1 where fewer than k scores exceed the label's score. Ties count as hits, as in Keras."""
    classes = y_pred.shape[-1]
    picked = jax.nn.one_hot(labels, classes, dtype=y_pred.dtype)
    own = (picked * jnp.where(picked > 0, y_pred, 0)).sum(-1, keepdims=True)
    above = (y_pred > own).sum(-1)
    return ((above < k) & (labels >= 0) & (labels < classes)).astype(jnp.float32)


@registry.factory("acc")
def Accuracy(name: str | None = None) -> Metric:
    """The share of right predictions. The shapes tell how to compare, as with Keras's `"accuracy"`.

    - predictions of one number per sample, `(batch, 1)` or `(batch,)`: above 0.5 means 1 (in training beside
      a loss with `from_logits=True`: above 0);
    - integer targets without the axis of the classes, `(batch, ...)`: the class of the highest score;
    - targets of the predictions' shape: one-hot, against the class of the highest score (in training beside
      a binary cross-entropy: each number above 0.5, as `BinaryAccuracy`);
    - integer predictions in the targets' shape: equality.

    Args:
        name: in the history; "accuracy" if not given.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.Accuracy()(jnp.array([[1], [0]]), jnp.array([[0.7], [0.6]])))
    0.5
    """
    return dataclasses.replace(_accuracy(unchanged), of_logits=_accuracy, of_binary=BinaryAccuracy())


def _accuracy(link: Link) -> Metric:
    binary = _binary(0.5, link)

    def hits(y_true: Any, y_pred: Any) -> Any:
        if not jnp.issubdtype(y_pred.dtype, jnp.floating) and y_true.shape == y_pred.shape:
            return _same(y_true.astype(y_pred.dtype), y_pred)
        if y_pred.ndim == 1 or y_pred.shape[-1] == 1:
            return binary(y_true, y_pred)
        if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            return _sparse(y_true, y_pred)
        return _categorical(y_true, y_pred)

    return mean_of(Loss(hits))


@registry.factory()
def BinaryAccuracy(threshold: float = 0.5, name: str | None = None, from_logits: bool = False) -> Metric:
    """The share of numbers on the right side of `threshold`. `y_true`, `y_pred`: `(batch, ..., d)`.

    Args:
        threshold: predictions above it are 1. Between 0 and 1 it is one of probabilities; any other is
            compared with the predictions as they are, such as 0 with logits.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    Raises:
        ValueError: `from_logits=True` with a threshold that is not a probability.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.BinaryAccuracy(from_logits=True)(jnp.array([[1.0]]), jnp.array([[0.2]])))
    1.0
    """
    check_threshold(threshold, from_logits)
    if not 0 < threshold < 1:
        return mean_of(_binary(threshold))
    return of_probabilities(lambda link: mean_of(_binary(threshold, link)), from_logits)


def check_threshold(threshold: float, from_logits: bool) -> None:
    """Refuse a threshold of logits for predictions that become probabilities first."""
    if from_logits and not 0 < threshold < 1:
        raise refused(
            ValueError,
            "expected a threshold between 0 and 1 with from_logits=True",
            instead="leave from_logits out to compare the logits themselves with it",
            threshold=threshold,
        )


@registry.factory()
def CategoricalAccuracy(name: str | None = None) -> Metric:
    """The share of samples whose highest score is that of the one-hot target. `(batch, ..., classes)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.CategoricalAccuracy()(jnp.array([[0.0, 1.0]]), jnp.array([[0.3, 0.7]])))
    1.0
    """
    return mean_of(Loss(_categorical))


@registry.factory()
def SparseCategoricalAccuracy(name: str | None = None) -> Metric:
    """The share of samples whose highest score is that of the class number in `y_true`, `(batch, ...)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.SparseCategoricalAccuracy()(jnp.array([1]), jnp.array([[0.3, 0.7]])))
    1.0
    """
    return mean_of(Loss(_sparse))


def _check_k(k: int) -> None:
    if not isinstance(k, int) or k < 1:
        raise refused(ValueError, "expected a whole number k of at least 1", k=k)


@registry.factory()
def TopKCategoricalAccuracy(k: int = 5, name: str | None = None) -> Metric:
    """The share of samples whose one-hot target is among the `k` highest scores. `(batch, ..., classes)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.TopKCategoricalAccuracy(k=2)
    >>> float(metric(jnp.array([[0.0, 1.0, 0.0]]), jnp.array([[0.5, 0.3, 0.2]])))
    1.0
    """
    _check_k(k)

    def hits(y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = aligned(y_true, y_pred)
        return _top_k(y_true.argmax(-1), y_pred, k)

    return mean_of(Loss(hits))


@registry.factory()
def SparseTopKCategoricalAccuracy(k: int = 5, name: str | None = None) -> Metric:
    """The share of samples whose class number in `y_true`, `(batch, ...)`, is among the `k` highest scores.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.SparseTopKCategoricalAccuracy(k=2)(jnp.array([1]), jnp.array([[0.5, 0.3, 0.2]])))
    1.0
    """
    _check_k(k)
    return mean_of(Loss(lambda y_true, y_pred: _top_k(class_numbers(y_true, y_pred), y_pred, k)))
