"""Weights of classes as weights of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.core.errors import about, concerning, refused
from jlayers.core.shapes import describe
from jlayers.core.spelling import nearest
from jlayers.data.gate import entry

__all__ = ["by_number", "class_weights"]


def class_weights(weights: Any, y: Any, sample_weight: Any = None, whole: bool = True) -> np.ndarray:
    """Weights per sample from weights per class, times `sample_weight`; a class that is not named weighs 1.

    Args:
        weights: a mapping from class numbers to factors, a list with one factor for each class, or
            "balanced" for `samples / (classes * samples of the class)`, as scikit-learn counts.
        y: one class per sample: whole numbers `(samples,)` or `(samples, 1)`, or one-hot rows.
        sample_weight: further factors, samples first, or None.
        whole: y are all targets; False for those of a batch, which need not have all classes.

    Returns:
        float32 in the shape of `sample_weight`, else `(samples,)`.

    Raises:
        ValueError: targets that are not one class per sample, a key that is not a class of the data, or a
            factor that is negative or not finite.
        TypeError: weights of another form.

    >>> class_weights({1: 4.0}, np.array([0, 1, 1])).tolist()
    [1.0, 4.0, 4.0]
    >>> class_weights("balanced", np.array([0, 1, 1, 1, 1])).tolist()
    [2.5, 0.625, 0.625, 0.625, 0.625]
    """
    with concerning(class_weight=weights):
        labels = _labels(y)
    present, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    factors = np.array(_factors(weights, present, counts, whole), np.float32)
    per_sample = factors[places.reshape(-1)]
    if sample_weight is None:
        return per_sample
    given = np.asarray(sample_weight, np.float32)
    return per_sample.reshape(-1, *[1] * (given.ndim - 1)) * given


def by_number(weights: Any, names: Sequence[str] | None) -> Any:
    """Class weights of a file, whose keys are texts: by the names of the classes, or by their numbers.

    >>> by_number({"cat": 2.0}, ("ant", "cat")), by_number({"1": 2.0}, None)
    ({1: 2.0}, {1: 2.0})
    """
    if not isinstance(weights, Mapping):
        return weights
    numbers = {name: i for i, name in enumerate(names or ())}
    for key in weights:
        if key not in numbers and not (isinstance(key, str) and key.isdecimal()):
            error = ValueError(
                f"expected names or numbers of classes as the keys of class_weight, received {key!r}: "
                f"{nearest(key, numbers)}"
            )
            raise about(error, key, class_weight=weights)
    return {numbers[key] if key in numbers else int(key): factor for key, factor in weights.items()}


def _labels(y: Any) -> np.ndarray:
    """One whole number per sample."""
    if not hasattr(y, "shape"):
        raise ValueError(
            "class_weight works for a single output, received targets for several; use sample_weight"
        )
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        hot = ((labels == 0) | (labels == 1)).all(1) & (labels.sum(1) == 1)
        if not hot.all():
            row = int(np.argmin(hot))
            raise ValueError(
                f"class_weight needs one class per sample, received y[{row}]={labels[row].tolist()}, which "
                f"is not a one-hot row; use sample_weight"
            )
        labels = labels.argmax(1)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(
            f"class_weight needs one class per sample, received y of shape {np.shape(y)}; use sample_weight"
        )
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"class_weight needs whole numbers as classes, received y={describe(labels)}")
    if labels.dtype.kind == "f" and (fractions := labels != np.round(labels)).any():
        raise ValueError(
            f"class_weight needs whole numbers as classes, received {entry('y', labels, fractions)}"
        )
    return labels


def _factors(weights: Any, present: np.ndarray, counts: np.ndarray, whole: bool) -> list[float]:
    """One factor for each class that is present."""
    classes = [int(label) for label in present]
    if isinstance(weights, str):
        if weights != "balanced":
            raise refused(
                ValueError, "expected class_weight as a mapping, a list or 'balanced'", class_weight=weights
            )
        if not whole:
            raise refused(
                ValueError,
                "expected factors of the classes for batches, whose classes nobody has counted",
                class_weight=weights,
            )
        return [float(f) for f in counts.sum() / (len(classes) * counts)]
    if isinstance(weights, (list, tuple, np.ndarray)):
        if not 0 <= min(classes) <= max(classes) < len(weights):
            raise refused(
                ValueError,
                f"expected one class weight for each of the classes {_range(classes)}",
                class_weight=list(weights),
            )
        weights = dict(enumerate(weights))
    elif not isinstance(weights, Mapping):
        raise refused(
            TypeError, "expected class_weight as a mapping, a list or 'balanced'", class_weight=weights
        )
    else:
        for label in weights:
            number = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
            if not number or (whole and label not in classes):
                error = ValueError(
                    f"expected class numbers as the keys of class_weight, here {_range(classes)}, "
                    f"received class_weight[{label!r}]={weights[label]!r}, a class that no sample has"
                    + (f": write {label} without quotes" if str(label) in map(str, classes) else "")
                )
                raise about(error, str(label), class_weight=weights)
    for label, factor in weights.items():
        number = isinstance(factor, (int, float, np.number)) and not isinstance(factor, bool)
        if not number or not np.isfinite(factor) or factor < 0:
            error = ValueError(
                f"expected class weights of at least 0, received class_weight[{label!r}]={factor!r}"
            )
            raise about(error, str(label), class_weight=weights)
    return [float(weights.get(label, 1.0)) for label in classes]


def _range(classes: list[int]) -> str:
    return ", ".join(map(str, classes)) if len(classes) < 9 else f"{classes[0]} to {classes[-1]}"
