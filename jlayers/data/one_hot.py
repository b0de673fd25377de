"""Labels as rows with a single 1: targets that can be mixed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jlayers.data.dataset import Dataset, DatasetLike, get, register

__all__ = ["one_hot"]


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
        raise ValueError(f"one_hot: expected data with one whole-number label per sample, received {whole}")

    for part, y in zip(("train", "test"), labels, strict=False):
        if (wrong := (y < 0) | (y >= classes)).any():
            place = int(np.argmax(wrong))
            raise ValueError(
                f"one_hot: expected labels from 0 to {classes - 1}, those of the training data, received "
                f"{y[place]} as label {place} of {whole.name}, {part}"
            )

    def changed(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        return pair[0], np.eye(classes, dtype=np.float32)[pair[1]]

    test = None if whole.test is None else changed(whole.test)
    return dataclasses.replace(whole, train=changed(whole.train), test=test)
