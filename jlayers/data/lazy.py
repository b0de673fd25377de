"""Arrays whose rows are read when a step needs them: in place of arrays that memory does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jlayers.core.errors import refused

__all__ = ["LazyArray", "is_lazy", "take_rows"]

CHUNK = 1024  # rows that are read at a time by who goes through all of them


class LazyArray:
    """Rows that are read when they are asked for; a subclass says how, in `read`.

    It goes where an array goes as `x` of `fit`, `evaluate` and `predict`: batches are cut, shuffled and split
    by the numbers of the rows. `array[rows]` reads, `array.select(rows)` reads nothing.

    Attributes:
        shape: shape of all rows together, the number of rows first.
        dtype: dtype of the rows.
        chunks: the row behind each chunk, where rows are stored in chunks that are read as a whole; else
            None. Shuffling then keeps to a few chunks at a time.
        together: how many chunks are held in memory.

    >>> class Squares(LazyArray):
    ...     def read(self, rows):
    ...         return (rows * rows).astype(np.float32)
    >>> squares = Squares((5,), np.float32)
    >>> squares[1:3].tolist(), squares.select(np.array([4, 0]))[:].tolist()
    ([1.0, 4.0], [16.0, 0.0])
    """

    chunks: np.ndarray | None = None
    together: int = 1

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these numbers, `(len(rows), *shape[1:])`."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A text that is another one if the rows are known to be others."""
        raise NotImplementedError

    def origin(self, row: int) -> str | None:
        """The file that holds this row and no other; None if there is none."""
        return None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of all rows once they are read."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype}{self.shape})"

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Reads: one row for a number, else several, in any shape of the numbers."""
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: Any, axis: int = 0) -> np.ndarray:
        """Reads the rows of an array of numbers of any shape."""
        if axis != 0:
            raise refused(
                ValueError,
                "expected axis=0, as a LazyArray is read by rows",
                instead="read it whole first: np.asarray(x)",
                raised_by="LazyArray.take",
                axis=axis,
            )
        rows = np.asarray(rows)
        return self.read(rows.reshape(-1)).reshape((*rows.shape, *self.shape[1:]))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Reads everything."""
        array = self.read(np.arange(len(self)))
        return array if dtype is None else array.astype(dtype)

    def select(self, rows: Any) -> LazyArray:
        """Some of the rows, which are not read yet."""
        return _Selected(self, np.arange(len(self))[rows])

    def map(self, function: Callable[[np.ndarray], Any]) -> LazyArray:
        """Rows that a function makes of these, a batch at a time."""
        return _Mapped(self, function)

    def parts(self) -> list[LazyArray]:
        """All rows in their order, some at a time."""
        return [self.select(slice(i, i + CHUNK)) for i in range(0, len(self), CHUNK)]


class _Selected(LazyArray):
    def __init__(self, whole: LazyArray, rows: np.ndarray):
        super().__init__((len(rows), *whole.shape[1:]), whole.dtype)
        self.whole, self.rows = whole, rows
        if whole.chunks is not None and (np.diff(rows) > 0).all():
            self.chunks = np.unique(np.searchsorted(rows, whole.chunks))
            self.together = whole.together

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.whole.read(self.rows[rows])

    def origin(self, row: int) -> str | None:
        return self.whole.origin(self.rows[row])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.rows, np.int64).tobytes())
        return f"{self.whole.fingerprint()} {digest.hexdigest()}"


class _Mapped(LazyArray):
    def __init__(self, whole: LazyArray, function: Callable[[np.ndarray], Any]):
        self.whole, self.function = whole, function
        one = np.asarray(function(whole[:1]))
        super().__init__((len(whole), *one.shape[1:]), one.dtype)
        self.chunks, self.together = whole.chunks, whole.together
        self._one = hashlib.sha256(one.tobytes()).hexdigest()

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(self.whole.read(rows)))

    def origin(self, row: int) -> str | None:
        return self.whole.origin(row)

    def fingerprint(self) -> str:
        return f"{self.whole.fingerprint()} {self._one}"


def is_lazy(value: Any) -> bool:
    return isinstance(value, LazyArray)


def take_rows(array: Any, rows: Any) -> Any:
    """Some rows of an array; of a lazy one, without reading them."""
    return array.select(rows) if is_lazy(array) else array[rows]
