"""Data whose columns have names, such as Hugging Face datasets, as inputs and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jlayers.core.spelling import nearest
from jlayers.data.lazy import LazyArray

__all__ = ["columns", "named"]

Names = str | Sequence[str]


def named(source: Any, x: Names, y: Names | None = None, weight: str | None = None) -> Any:
    """Batches `(x, y, weight)` out of batches that are dicts: the columns by their names.

    Args:
        source: an iterable of dicts of arrays, such as a Hugging Face dataset after `.batch(32)`.
        x: the column of the inputs; several give a dict, for a model of named inputs.
        y: the column of the targets, or several.
        weight: the column of the sample weights.

    Returns:
        an iterable for `fit`, `evaluate` and `predict`.

    Raises:
        KeyError: a batch has no such column.

    >>> import numpy as np, jlayers as jl
    >>> rows = [{"pixels": np.ones((2, 3)), "label": np.array([0, 1])}]
    >>> [(x.shape, y.tolist()) for x, y in jl.data.named(rows, x="pixels", y="label")]
    [((2, 3), [0, 1])]
    """
    kind = _InRounds if hasattr(source, "set_epoch") else _Named
    return kind(source, [name for name in (x, y, weight) if name is not None])


class _Named:
    def __init__(self, source: Any, names: Sequence[Names]):
        self.source, self.names = source, names

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.source:
            yield tuple(_columns_of(batch, name) for name in self.names)

    def __len__(self) -> int:
        return len(self.source)


class _InRounds(_Named):
    def set_epoch(self, number: int) -> None:
        self.source.set_epoch(number)


def _columns_of(batch: Any, name: Names) -> Any:
    if not isinstance(name, str):
        return {one: _columns_of(batch, one) for one in name}
    if name not in batch:
        raise KeyError(f"the batches have no column {name!r}: {nearest(name, batch)}")
    return np.asarray(batch[name])


def columns(source: Any, x: Names, y: Names) -> tuple[Any, Any]:
    """Inputs and targets out of a dataset whose rows are found by number, such as a Hugging Face `Dataset`.

    The inputs are read when a step needs them, and the targets are in memory. So `batch_size`, `shuffle`,
    `validation_split` and `class_weight` of `fit` work as for arrays.

    Args:
        source: `source[[4, 0]]` is a dict of columns, `len(source)` the number of rows.
        x: the column of the inputs; several give a dict, for a model of named inputs.
        y: the column of the targets, or several.

    Returns:
        x, a `LazyArray` or a dict of them, and y, an array or a dict of them.

    Raises:
        KeyError: no such column.

    >>> import numpy as np, jlayers as jl
    >>> class Rows:
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, rows):
    ...         return {"size": [[float(row)] for row in rows], "label": [row % 2 for row in rows]}
    >>> x, y = jl.data.columns(Rows(), x="size", y="label")
    >>> x[:2].tolist(), y.tolist()
    ([[0.0], [1.0]], [0, 1, 0])
    """

    def each(name: Names, make: Any) -> Any:
        return make(name) if isinstance(name, str) else {one: make(one) for one in name}

    inputs = each(x, lambda name: _Column(source, name))
    return inputs, each(y, lambda name: _Column(source, name)[:])


class _Column(LazyArray):
    def __init__(self, source: Any, name: str):
        self.source, self.name = source, name
        first = self._values([0])
        super().__init__((len(source), *first.shape[1:]), first.dtype)

    def _values(self, rows: list[int]) -> np.ndarray:
        return np.asarray(_columns_of(self.source[rows], self.name))

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self._values(rows.tolist())

    def fingerprint(self) -> str:
        """The dataset's own, as Hugging Face's have one; else of up to 256 rows, evenly chosen."""
        own = getattr(self.source, "_fingerprint", None)
        if own is None:
            rows = np.unique(np.linspace(0, len(self) - 1, 256).astype(int))
            own = hashlib.sha256(np.ascontiguousarray(self.read(rows)).tobytes()).hexdigest()
        return f"{self.name} {own}"
