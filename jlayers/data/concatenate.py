"""Several datasets as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import about, refused
from jlayers.core.shapes import describe
from jlayers.data.dataset import Dataset, DatasetLike, fingerprint, get, register
from jlayers.data.lazy import LazyArray, is_lazy

__all__ = ["concatenate"]


@register
def concatenate(datasets: list[DatasetLike], test: list[DatasetLike] | None = None) -> Dataset:
    """Several datasets one after the other, such as the recordings of several hospitals.

    Classes are matched by their names, and numbered in the order in which the datasets name them. What the
    datasets hold out themselves is held out here, too.

    Args:
        datasets: to train on; each a dataset, or its name, or `{name: arguments}`.
        test: datasets that are held out as a whole, in place of what those to train on hold out.

    Raises:
        ValueError: an empty list; inputs or targets whose names, shapes or dtypes differ; or a held-out class
            that no dataset to train on has.

    >>> from jlayers.data import concatenate
    >>> print(concatenate(["digits", {"digits": {"test_fraction": 0.2, "seed": 1}}]))
    digits and 1 more: 2876 for training, 718 held out; x float32(8, 8, 1), y int32(), 10 classes
    """
    if not datasets:
        raise refused(ValueError, "expected at least one dataset", raised_by="concatenate", datasets=datasets)
    given = [one if isinstance(one, Dataset) else get(one) for one in datasets]
    held = None if test is None else [one if isinstance(one, Dataset) else get(one) for one in test]
    first, names = given[0], _class_names(given, held or [])
    like = jax.tree.map(_kind, first.train)

    def join_pairs(pairs: Sequence[tuple[Dataset, Any]]) -> Any:
        for one, pair in pairs:
            if jax.tree.map(_kind, pair) != like:
                error = ValueError(
                    f"concatenate: expected datasets whose samples have one shape and dtype, received "
                    f"{first.name} with x={describe(first.train[0])}, y={describe(first.train[1])} and "
                    f"{one.name} with x={describe(pair[0])}, y={describe(pair[1])}; only the number of "
                    f"samples may differ"
                )
                raise _about(one, error, given, held or [])
        parts = [(pair[0], _labels_of_all(pair[1], one.class_names, names)) for one, pair in pairs]
        return jax.tree.map(lambda *leaves: _chain(leaves), *parts) if parts else None

    train = join_pairs([(one, one.train) for one in given])
    if held is None:
        rest = join_pairs([(one, one.test) for one in given if one.test is not None])
    else:
        rest = join_pairs([(one, pair) for one in held for pair in (one.train, one.test) if pair is not None])
    alike = {name: getattr(first, name) for name in ("table", "form")}
    if any(_reading_rules(one) != _reading_rules(first) for one in given):
        alike = dict.fromkeys(alike)
    name = first.name if len(given) == 1 else f"{first.name} and {len(given) - 1} more"
    return dataclasses.replace(first, name=name, train=train, test=rest, class_names=names, **alike)


def _about(
    one: Dataset, error: ValueError, datasets: Sequence[Dataset], test: Sequence[Dataset]
) -> ValueError:
    """The error, about the entry that is this dataset."""
    for argument, listed in (("datasets", datasets), ("test", test)):
        for place, other in enumerate(listed):
            if other is one:
                return about(error, place, **{argument: listed})
    return error


def _kind(array: Any) -> tuple[Any, ...]:
    return array.shape[1:], str(array.dtype)


def _reading_rules(data: Dataset) -> Any:
    """The rules by which further files are read, without what may differ between files of the same rules."""
    table = data.table and (data.table.names, data.table.targets, data.table.text, data.table.header)
    return table, data.form


def _class_names(train: list[Dataset], test: list[Dataset]) -> tuple[str, ...] | None:
    """The names of the classes of all datasets; None if they have none."""
    if all(one.class_names is None for one in [*train, *test]):
        return None
    if unnamed := [one for one in [*train, *test] if one.class_names is None]:
        error = ValueError(
            f"concatenate: expected class names in all datasets or in none, received {unnamed[0].name} "
            f"without them"
        )
        raise _about(unnamed[0], error, train, test)
    names = dict.fromkeys(name for one in train for name in one.class_names or ())
    for one in test:
        if new := [name for name in one.class_names or () if name not in names]:
            error = ValueError(
                f"concatenate: expected test data with classes of the training data only, received the class "
                f"{new[0]!r}; add samples of it to the training data, or remove it"
            )
            raise _about(one, error, train, test)
    return tuple(names)


def _labels_of_all(y: Any, own: tuple[str, ...] | None, names: tuple[str, ...] | None) -> Any:
    """Labels by the numbers that their classes have in all datasets together."""
    if own is None or names is None or own == names[: len(own)]:
        return y
    if isinstance(y, Mapping) or y.ndim != 1:
        raise ValueError(
            f"concatenate: expected datasets with the same classes {list(names)}, received {list(own)}"
        )
    return np.array([names.index(name) for name in own], y.dtype)[y]


def _chain(leaves: Sequence[Any]) -> Any:
    return _Chain(leaves) if any(map(is_lazy, leaves)) else np.concatenate(leaves)


class _Chain(LazyArray):
    """Lazy arrays one after the other."""

    def __init__(self, arrays: Sequence[Any]):
        super().__init__((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
        self.arrays = arrays
        self.ends = np.cumsum([len(array) for array in arrays])
        if any(is_lazy(array) and array.chunks is not None for array in arrays):
            begins = [0, *self.ends[:-1].tolist()]
            self.chunks = np.concatenate(
                [_chunks(a) + begin for a, begin in zip(arrays, begins, strict=True)]
            )
            self.together = min(getattr(array, "together", 1) for array in arrays)

    def read(self, rows: np.ndarray) -> np.ndarray:
        made = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self.ends, rows, side="right")
        for number in np.unique(which):
            mine = which == number
            begin = self.ends[number - 1] if number else 0
            made[mine] = self.arrays[number][rows[mine] - begin]
        return made

    def origin(self, row: int) -> str | None:
        number = int(np.searchsorted(self.ends, row, side="right"))
        array = self.arrays[number]
        return array.origin(row - (int(self.ends[number - 1]) if number else 0)) if is_lazy(array) else None

    def fingerprint(self) -> str:
        return fingerprint(list(self.arrays))


def _chunks(array: Any) -> np.ndarray:
    """The row behind each chunk of an array; one that has none is a chunk as a whole."""
    chunks = getattr(array, "chunks", None)
    return np.array([len(array)]) if chunks is None else np.asarray(chunks)
