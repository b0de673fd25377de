"""Intersection over union of regions, from a confusion matrix over all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.losses.base import required_targets, unchanged
from jlayers.metrics.accuracy import check_threshold
from jlayers.metrics.base import Link, Metric, of_probabilities, ratio, registry, spread
from jlayers.metrics.totals import add_at, value_of, zero

__all__ = ["BinaryIoU", "IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU"]


@registry.factory()
def IoU(
    num_classes: int,
    target_class_ids: tuple[int, ...],
    name: str | None = None,
    ignore_class: int | None = None,
    sparse_y_true: bool = True,
    sparse_y_pred: bool = True,
    axis: int = -1,
) -> Metric:
    """The mean of TP / (TP + FP + FN) over some classes; as in Keras.

    Classes that occur neither in the targets nor in the predictions are left out of the mean. Pairs with a
    class number out of range are not counted.

    Args:
        num_classes: number of classes.
        target_class_ids: the classes to average over.
        name: in the history.
        ignore_class: targets of this class do not count.
        sparse_y_true: targets are class numbers; else they have a score per class along `axis`.
        sparse_y_pred: the same for predictions.
        axis: axis of the classes.

    Raises:
        ValueError: a class out of range, or shapes that do not fit.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.IoU(num_classes=2, target_class_ids=(1,))
    >>> float(metric(jnp.array([0, 1, 1, 1]), jnp.array([1, 1, 1, 0])))
    0.5
    """
    return _iou("IoU", num_classes, target_class_ids, ignore_class, sparse_y_true, sparse_y_pred, axis)


@registry.factory()
def MeanIoU(
    num_classes: int,
    name: str | None = None,
    ignore_class: int | None = None,
    sparse_y_true: bool = True,
    sparse_y_pred: bool = True,
    axis: int = -1,
) -> Metric:
    """The mean of `IoU` over all classes; as in Keras.

    For a model that gives a score per class: `sparse_y_pred=False`.

    Args:
        num_classes: number of classes.
        name: in the history.
        ignore_class: targets of this class do not count.
        sparse_y_true: targets are class numbers; else they have a score per class along `axis`.
        sparse_y_pred: the same for predictions.
        axis: axis of the classes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> round(float(jl.metrics.MeanIoU(3)(jnp.array([0, 1, 1, 1]), jnp.array([0, 1, 1, 0]))), 3)
    0.583
    """
    ids = tuple(range(num_classes))
    return _iou("MeanIoU", num_classes, ids, ignore_class, sparse_y_true, sparse_y_pred, axis)


@registry.factory()
def OneHotIoU(
    num_classes: int,
    target_class_ids: tuple[int, ...],
    name: str | None = None,
    ignore_class: int | None = None,
    sparse_y_pred: bool = False,
    axis: int = -1,
) -> Metric:
    """`IoU` with one-hot targets and, unless `sparse_y_pred`, a score per class; as in Keras.

    Args:
        num_classes: number of classes.
        target_class_ids: the classes to average over.
        name: in the history.
        ignore_class: targets of this class do not count.
        sparse_y_pred: predictions are class numbers.
        axis: axis of the classes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.OneHotIoU(num_classes=2, target_class_ids=(1,))
    >>> float(metric(jnp.array([[0, 1], [0, 1]]), jnp.array([[0.3, 0.7], [0.6, 0.4]])))
    0.5
    """
    return _iou("OneHotIoU", num_classes, target_class_ids, ignore_class, False, sparse_y_pred, axis)


@registry.factory()
def OneHotMeanIoU(
    num_classes: int,
    name: str | None = None,
    ignore_class: int | None = None,
    sparse_y_pred: bool = False,
    axis: int = -1,
) -> Metric:
    """`MeanIoU` with one-hot targets and, unless `sparse_y_pred`, a score per class; as in Keras.

    Args:
        num_classes: number of classes.
        name: in the history.
        ignore_class: targets of this class do not count.
        sparse_y_pred: predictions are class numbers.
        axis: axis of the classes.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> metric = jl.metrics.OneHotMeanIoU(num_classes=2)
    >>> float(metric(jnp.array([[1, 0], [0, 1]]), jnp.array([[0.6, 0.4], [0.3, 0.7]])))
    1.0
    """
    ids = tuple(range(num_classes))
    return _iou("OneHotMeanIoU", num_classes, ids, ignore_class, False, sparse_y_pred, axis)


@registry.factory()
def BinaryIoU(
    target_class_ids: tuple[int, ...] = (0, 1),
    threshold: float = 0.5,
    name: str | None = None,
    from_logits: bool = False,
) -> Metric:
    """`IoU` of classes 0 and 1, where scores of at least `threshold` are class 1; as in Keras.

    Args:
        target_class_ids: the classes to average over.
        threshold: between 0 and 1 it is one of probabilities; any other is compared with the predictions as
            they are, such as 0 with logits.
        name: in the history.
        from_logits: predictions are logits. Training knows it from a loss with `from_logits=True`.

    Raises:
        ValueError: `from_logits=True` with a threshold that is not a probability.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> float(jl.metrics.BinaryIoU((1,))(jnp.array([0, 1, 1]), jnp.array([0.1, 0.9, 0.2])))
    0.5
    """
    check_threshold(threshold, from_logits)

    def of(link: Link) -> Metric:
        return _iou("BinaryIoU", 2, target_class_ids, None, True, True, -1, lambda p: link(p) >= threshold)

    return of_probabilities(of, from_logits) if 0 < threshold < 1 else of(unchanged)


def _iou(
    type_name: str,
    num_classes: int,
    target_class_ids: tuple[int, ...],
    ignore_class: int | None,
    sparse_y_true: bool,
    sparse_y_pred: bool,
    axis: int,
    decide: Callable[[Any], Any] = unchanged,
) -> Metric:
    targets = tuple(target_class_ids)
    if not targets or not all(isinstance(i, int) and 0 <= i < num_classes for i in targets):
        raise refused(
            ValueError,
            f"expected classes from 0 to {num_classes - 1}",
            raised_by=type_name,
            target_class_ids=target_class_ids,
            num_classes=num_classes,
        )

    def init() -> jax.Array:
        return zero((num_classes**2,))

    def update(acc: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        y_true = required_targets(y_true, y_pred)
        y = y_true if sparse_y_true else y_true.argmax(axis)
        y_pred = decide(y_pred)
        p = y_pred if sparse_y_pred else y_pred.argmax(axis)
        if y.shape == (*p.shape, 1):
            y = y[..., 0]
        elif p.shape == (*y.shape, 1):
            p = p[..., 0]
        if y.shape != p.shape:
            raise refused(
                ValueError,
                "expected a class for each place in y_true and y_pred",
                y_true,
                y_pred,
                raised_by=type_name,
                sparse_y_true=sparse_y_true,
                sparse_y_pred=sparse_y_pred,
            )
        y, p = y.astype(jnp.int32), p.astype(jnp.int32)
        counts = (y >= 0) & (y < num_classes) & (p >= 0) & (p < num_classes)
        if ignore_class is not None:
            counts &= y != ignore_class
        amount = jnp.where(counts, spread(weight, y), 0.0).reshape(-1)
        return add_at(acc, jnp.where(counts, y * num_classes + p, 0).reshape(-1), amount)

    def result(acc: Any) -> jax.Array:
        pairs = value_of(acc).reshape(num_classes, num_classes)
        both = jnp.diagonal(pairs)
        either = pairs.sum(0) + pairs.sum(1) - both
        both, either = both[jnp.array(targets)], either[jnp.array(targets)]
        return ratio(ratio(both, either).sum(), (either > 0).sum().astype(jnp.float32))

    return Metric(init, update, result)
