"""One array as several named ones: data for models of several inputs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.core.errors import about, refused
from jlayers.data.dataset import Dataset, DatasetLike, get, register
from jlayers.data.lazy import is_lazy

__all__ = ["parts"]


@register
def parts(data: DatasetLike, axis: int, names: list[str]) -> Dataset:
    """The data with x cut along an axis into equal parts, each a named input of the model.

    Args:
        data: a dataset, or its name, or `{name: arguments}`.
        axis: counted with the samples' axis, so 1 is the first axis of a sample.
        names: one for each part.

    Raises:
        ValueError: the axis does not exist or is not divisible.

    >>> from jlayers.data import parts
    >>> halves = parts("digits", axis=2, names=["left", "right"])
    >>> {name: x.shape for name, x in halves.train[0].items()}
    {'left': (1438, 8, 4, 1), 'right': (1438, 8, 4, 1)}
    """
    whole: Dataset = get(data) if not isinstance(data, Dataset) else data
    x = whole.train[0]
    if isinstance(x, Mapping):
        raise ValueError(f"parts: expected data with a single array x, received the inputs {list(x)}")
    if not 1 <= axis < x.ndim or not names or x.shape[axis] % len(names):
        error = ValueError(
            f"parts: expected an axis (1 to {x.ndim - 1}) that divides into {len(names)} equal parts, "
            f"received axis={axis} of x with shape {x.shape}"
        )
        raise about(error, axis=axis)
    if len(set(names)) != len(names):
        raise refused(ValueError, "expected different names", raised_by="parts", names=names)

    def piece(number: int, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.split(x, len(names), axis=axis)[number])

    def cut(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        each = [functools.partial(piece, number) for number in range(len(names))]
        x = pair[0]
        return {n: x.map(p) if is_lazy(x) else p(x) for n, p in zip(names, each, strict=True)}, pair[1]

    test = None if whole.test is None else cut(whole.test)
    return Dataset(whole.name, cut(whole.train), test, whole.class_names)
