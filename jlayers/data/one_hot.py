"""Labels as rows with a single 1: targets that can be mixed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jlayers.core.errors import about
from jlayers.core.shapes import describe
from jlayers.data.dataset import Dataset, DatasetLike, get, register
from jlayers.data.gate import as_dtype, check_at_least

__all__ = ["one_hot", "to_categorical"]


@register
def one_hot(data: DatasetLike) -> Dataset:
    """The data with each label as float32 `(classes,)`, 1 at the label and 0 elsewhere.

    For augmentation that mixes labels, and for losses such as `categorical_crossentropy`.

    Args:
        data: a dataset, or its name, or `{name: arguments}`.

    Raises:
        ValueError: y holds no labels, one below 0, or one held out that is above those for training.

    >>> from jlayers.data import one_hot
    >>> print(one_hot("digits"))
    digits: 1438 for training, 359 held out; x float32(8, 8, 1), y float32(10,), 10 classes
    """
    whole: Dataset = data if isinstance(data, Dataset) else get(data)
    labels = [pair[1] for pair in (whole.train, whole.test) if pair is not None]
    classes = whole.classes
    if classes is None or not all(isinstance(y, np.ndarray) and y.ndim == 1 for y in labels):
        error = ValueError(f"one_hot: expected data with one whole-number label per sample, received {whole}")
        raise about(error, data=data)

    for part, y in zip(("train", "test"), labels, strict=False):
        if (wrong := (y < 0) | (y >= classes)).any():
            place = int(np.argmax(wrong))
            error = ValueError(
                f"one_hot: expected labels from 0 to {classes - 1}, those of the training data, received "
                f"{y[place]} as label {place} of {whole.name}, {part}"
            )
            raise about(error, data=data)

    def with_one_hot(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        return pair[0], np.eye(classes, dtype=np.float32)[pair[1]]

    test = None if whole.test is None else with_one_hot(whole.test)
    return dataclasses.replace(whole, train=with_one_hot(whole.train), test=test)


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Class numbers as rows with a single 1. As in Keras, float32 where Keras gives float64.

    Args:
        x: whole numbers from 0, of any shape; a last axis of 1 is replaced.
        num_classes: the size of the rows; one more than the greatest number if not given.

    Returns:
        float32 `(..., num_classes)`.

    Raises:
        ValueError: no whole numbers, or one below 0 or not below `num_classes`.

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    given = np.asarray(x)
    if given.dtype.kind not in "biuf" or (not given.size and num_classes is None):
        raise about(ValueError(f"to_categorical: expected whole numbers, received x={describe(given)}"), x=x)
    labels = as_dtype("x", given, np.int64)
    labels = labels[..., 0] if labels.ndim > 1 and labels.shape[-1] == 1 else labels
    if num_classes is None:
        num_classes = int(labels.max()) + 1
    check_at_least("num_classes", num_classes, 1)
    if (wrong := (labels < 0) | (labels >= num_classes)).any():
        place = np.argwhere(wrong)[0].tolist()
        error = ValueError(
            f"to_categorical: expected whole numbers from 0 to {num_classes - 1}, received "
            f"x{place or ''}={labels[tuple(place)]}"
        )
        raise about(error, *place, x=x)
    made = np.zeros((*labels.shape, num_classes), np.float32)
    np.put_along_axis(made, labels[..., None], 1.0, -1)
    return made
