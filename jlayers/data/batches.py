"""Batches of one size from arrays and from iterables; pure NumPy.

A compiled step serves one shape, so every batch has the same number of rows. The last, partial one is filled
up with rows of its own, again from its first, and `mask` is 0.0 for those: losses and metrics leave them out.
They are real rows and not zeros because batch normalisation takes its statistics over the whole batch, where
rows of zeros would pull the mean and blow up the variance.

The order of an epoch is a pure function of `(seed, epoch)`: nothing advances, so that a run that is resumed
sees the data of the run that was not interrupted.

>>> import numpy as np
>>> data = ArrayBatches(np.arange(5.0)[:, None], np.arange(5), batch_size=2)
>>> [(batch.y.tolist(), batch.mask.tolist()) for batch in data.epoch(0)]
[([0, 1], [1.0, 1.0]), ([2, 3], [1.0, 1.0]), ([4, 4], [1.0, 0.0])]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jlayers.data.gate import check_width, convert, leaves

__all__ = [
    "ArrayBatches",
    "Batch",
    "StreamBatches",
    "as_data",
    "map_arrays",
    "order",
    "pad",
    "rows_of",
]


class Batch(NamedTuple):
    """What a step takes: a pytree of arrays with the same number of rows.

    Attributes:
        x: the input, an array, a tuple of arrays or a dict of arrays.
        y: the targets, in the structure of the model's outputs.
        weight: per sample, `(batch,)`, or None; per output if y is per output.
        mask: float32 `(batch,)`, 0.0 for rows that only fill the batch up; None if all are real.
    """

    x: Any
    y: Any = None
    weight: Any = None
    mask: Any = None


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """`function` of every array in dicts, lists and tuples; lists become tuples, None stays."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {name: map_arrays(function, value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return tuple(map_arrays(function, value) for value in tree)
    return function(tree)


def rows_of(**trees: Any) -> int:
    """The number of rows that all arrays have.

    Raises:
        ValueError: arrays without a batch dimension, or of different lengths, or none.

    >>> rows_of(x=np.zeros((4, 2)), y=np.zeros(4))
    4
    """
    first: tuple[str, int] | None = None
    for name, tree in trees.items():
        for path, array in leaves(tree, name):
            if np.ndim(array) == 0:
                raise ValueError(f"expected arrays with the samples first, received {path}={array!r}")
            rows = array.shape[0]
            if first is None:
                first = (path, rows)
            elif rows != first[1]:
                raise ValueError(
                    f"expected as many rows in {path} as in {first[0]}, received {first[0]} with "
                    f"{first[1]} and {path} with {rows}"
                )
    if first is None:
        raise ValueError(f"expected at least one array, received {', '.join(trees)} without any")
    return first[1]


def order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in an epoch: a permutation that depends on `seed` and `epoch` alone.

    >>> bool((order(10, seed=0, epoch=3) == order(10, seed=0, epoch=3)).all())
    True
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


def pad(batch: Batch, size: int) -> Batch:
    """The batch with `size` rows: its own again from the first, masked out.

    >>> pad(Batch(np.array([7, 8])), 5).x.tolist()
    [7, 8, 7, 8, 7]
    """
    rows = rows_of(x=batch.x, y=batch.y, weight=batch.weight)
    picked = np.resize(np.arange(rows), size)
    x, y, weight = (map_arrays(lambda a: np.asarray(a)[picked], part) for part in batch[:3])
    mask = (np.arange(size) < rows).astype(np.float32)
    return Batch(x, y, weight, mask if batch.mask is None else mask * np.asarray(batch.mask)[picked])


def _check_size(batch_size: Any) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(
            f"expected a batch_size that is a whole number of at least 1, received batch_size={batch_size!r}"
        )
    return int(batch_size)


class ArrayBatches:
    """Batches of arrays in memory.

    Args:
        x: arrays with the samples first, in a tuple or dict if there are several.
        y: targets.
        weight: per sample.
        batch_size: rows per batch; fewer if there are fewer samples.
        shuffle: put the rows of each epoch in the order that `order(rows, seed, epoch)` gives.
        seed: of the shuffling.

    Raises:
        ValueError: no samples, unequal lengths, or a batch size below 1.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        weight: Any = None,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
    ):
        self.data = Batch(x, y, weight)
        self.rows = rows_of(x=x, y=y, sample_weight=weight)
        if self.rows == 0:
            raise ValueError("expected at least one sample, received arrays with 0 rows")
        self.batch_size = min(_check_size(batch_size), self.rows)
        self.shuffle = shuffle
        self.seed = seed
        self._full = np.ones(self.batch_size, np.float32)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.rows // self.batch_size)

    def first(self) -> Batch:
        """A batch for its shapes."""
        return next(iter(self.epoch(0, ordered=True)))

    def epoch(self, number: int = 0, start: int = 0, *, ordered: bool = False) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        size, data = self.batch_size, self.data
        shuffled = order(self.rows, self.seed, number) if self.shuffle and not ordered else None

        def cut(array: Any, begin: int, end: int) -> Any:
            return array[begin:end] if shuffled is None else array.take(shuffled[begin:end], axis=0)

        for begin in range(start * size, self.rows, size):
            end = begin + size
            x, y, weight = (map_arrays(lambda a, at=(begin, end): cut(a, *at), part) for part in data[:3])
            if end <= self.rows:
                yield Batch(x, y, weight, self._full)
            else:
                yield pad(Batch(x, y, weight), size)

    def blocks(self, size: int, number: int = 0, start: int = 0) -> Iterator[tuple[Batch, int]]:
        """The batches of an epoch, `size` of them at a time, stacked: `(size, batch, ...)`.

        Beside each block stands how many of its batches count: fewer in the last one, which is filled up.

        >>> data = ArrayBatches(np.arange(5), batch_size=2)
        >>> [(block.x.tolist(), count) for block, count in data.blocks(2)]
        [([[0, 1], [2, 3]], 2), ([[4, 4], [4, 4]], 1)]
        """
        steps, last = len(self), (len(self) - 1) * self.batch_size
        rows = order(self.rows, self.seed, number) if self.shuffle else np.arange(self.rows)
        rows = np.append(rows[:last], np.resize(rows[last:], self.batch_size)).reshape(steps, -1)
        mask = (np.arange(rows.size) < self.rows).astype(np.float32).reshape(steps, -1)
        for begin in range(start, steps, size):
            count = min(size, steps - begin)
            picked = slice(begin, begin + size) if count == size else np.resize(np.arange(begin, steps), size)
            x, y, weight = (
                map_arrays(lambda a, at=rows[picked]: a.take(at, axis=0), part) for part in self.data[:3]
            )
            yield Batch(x, y, weight, mask[picked]), count


class StreamBatches:
    """Batches from an iterable of `(x, y)` or `(x, y, sample_weight)`, in its own order.

    The first batch sets the size; smaller ones are filled up.

    Args:
        source: a list, a dataset, a loader: anything that can be iterated once per epoch. A generator can be
            iterated once in all, and serves one epoch.

    Raises:
        ValueError: a batch larger than the first, an empty one, or none at all.
        TypeError: something else than such tuples.
    """

    def __init__(self, source: Iterable[Any]):
        self.source = source
        self.once = iter(source) is source
        self.batch_size: int | None = None
        self._held: list[Any] = []

    def __len__(self) -> int:
        """Batches per epoch; a TypeError if the source does not tell."""
        return len(self.source)  # type: ignore[arg-type]

    def first(self) -> Batch:
        """A batch for its shapes; from a generator it is kept for the epoch to come."""
        found = list(itertools.islice(iter(self.source), 1)) if not self._held else self._held
        if not found:
            raise ValueError("expected an iterable of batches (x, y), received one without any batch")
        if self.once:
            self._held = found
        batch = self._parse(found[0], 0)
        self.batch_size = self.batch_size or rows_of(x=batch.x, y=batch.y, sample_weight=batch.weight)
        return pad(batch, self.batch_size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        held, self._held = self._held, []
        count = 0
        for count, item in enumerate(itertools.chain(held, self.source), 1):
            if count > start:
                yield self._fill(self._parse(item, count - 1), count - 1)
        if count == 0:
            raise ValueError(
                f"the iterable gave no batches in epoch {number + 1}: a generator can be run through once "
                f"only; pass a list, a dataset, or an object whose __iter__ starts anew"
            )

    def _parse(self, item: Any, index: int) -> Batch:
        mask = item.mask if isinstance(item, Batch) else None
        item = item[:3] if isinstance(item, Batch) else item
        if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
            raise TypeError(
                f"expected batches (x, y) or (x, y, sample_weight), received {type(item).__name__} as batch "
                f"{index}; for arrays in memory pass x and y as two arguments"
            )
        named = dict(zip(("x", "y", "sample_weight"), item, strict=False))
        try:
            made = {n: map_arrays(lambda a, n=n: _as_array(n, a), as_data(v)) for n, v in named.items()}
            check_width(**made)
        except (ValueError, TypeError) as error:
            error.add_note(f"in batch {index} of the iterable")
            raise
        return Batch(**{"weight" if n == "sample_weight" else n: v for n, v in made.items()}, mask=mask)

    def _fill(self, batch: Batch, index: int) -> Batch:
        rows = rows_of(x=batch.x, y=batch.y, sample_weight=batch.weight)
        size = self.batch_size = self.batch_size or rows
        if rows == 0 or rows > size:
            raise ValueError(
                f"expected batches of 1 to {size} rows, the size of the first, received batch {index} with "
                f"{rows}; let the first batch be the largest"
            )
        if rows < size:
            return pad(batch, size)
        return batch if batch.mask is not None else batch._replace(mask=np.ones(size, np.float32))


def as_data(value: Any) -> Any:
    """A list of numbers as one array; a list with arrays in it stays, for it is several inputs."""
    if isinstance(value, (list, tuple)) and not any(
        hasattr(member, "shape") or hasattr(member, "__array__") or isinstance(member, dict)
        for member in value
    ):
        return np.asarray(value)
    return value


def _as_array(name: str, value: Any) -> Any:
    return value if isinstance(value, jax.Array) else convert(name, value)
