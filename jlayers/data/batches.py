"""Batches from arrays and from iterables; pure NumPy.

The last batch of an epoch has the rows that are left. It is not filled up, so that no loss, statistic or
metric, whatever it looks at, sees a row that is not there. A step is compiled once more for it.

The order of an epoch is a pure function of `(seed, epoch)`: nothing advances, so that a run that is resumed
sees the data of the run that was not interrupted.

>>> import numpy as np
>>> data = ArrayBatches(np.arange(5.0)[:, None], np.arange(5), batch_size=2)
>>> [batch.y.tolist() for batch in data.epoch(0)]
[[0, 1], [2, 3], [4]]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jlayers.core.errors import refused
from jlayers.data.gate import check_width, convert, leaves

__all__ = [
    "ArrayBatches",
    "Batch",
    "Batches",
    "Block",
    "StreamBatches",
    "as_data",
    "map_arrays",
    "order",
    "rows_of",
]


class Batch(NamedTuple):
    """The argument of a step: a pytree of arrays with the same number of rows.

    Attributes:
        x: the input, an array, a tuple of arrays or a dict of arrays.
        y: the targets, in the structure of the model's outputs.
        weight: per sample, `(batch,)`, or None; per output if y is per output.
        mask: float32 `(batch,)`, 0.0 for rows that only fill the batch up; None if all are real, as in all
            batches that jlayers makes.
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
    """The order of the rows in an epoch: a permutation that depends only on `seed` and `epoch`.

    >>> bool((order(10, seed=0, epoch=3) == order(10, seed=0, epoch=3)).all())
    True
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


def _check_size(batch_size: Any) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise refused(
            ValueError, "expected a batch_size that is a whole number of at least 1", batch_size=batch_size
        )
    return int(batch_size)


class Block(NamedTuple):
    """Batches stacked in front, of which the first `steps` are meant."""

    batches: Batch
    steps: int


class Batches:
    """A source of batches: what `fit` and `evaluate` take, and what a source of one's own inherits from.

    A subclass gives `epoch` and, if it can tell, `steps`. `fit` asks for a batch by the number of its epoch
    and its place in it, so a source keeps no position of its own; one that must says so in `state`.

    Attributes:
        steps: batches in an epoch, or None if that is not known.
        checked: whether the values have been looked over; if not, `fit` looks at each batch on its way.
    """

    steps: int | None = None
    checked: bool = False

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        raise NotImplementedError

    def first(self) -> Batch:
        """A batch for its shapes."""
        return next(iter(self.epoch()))

    def blocks(self, size: int, number: int = 0, start: int = 0) -> Iterator[Block]:
        """The batches of an epoch, up to `size` of one form at a time.

        >>> class Sizes(Batches):
        ...     def epoch(self, number=0, start=0):
        ...         yield from (Batch(np.arange(n)) for n in (2, 2, 2, 1))
        >>> [(block.batches.x.tolist(), block.steps) for block in Sizes().blocks(2)]
        [([[0, 1], [0, 1]], 2), ([[0, 1], [0, 1]], 1), ([[0]], 1)]
        """
        group: list[Batch] = []
        full = None  # the form that has filled a block, for which a step over `size` batches is compiled
        for batch in self.epoch(number, start):
            if group and (len(group) == size or _form(batch) != _form(group[0])):
                yield _stack(group, size if full == _form(group[0]) else len(group))
                full = _form(group[0]) if len(group) == size else full
                group = []
            group.append(batch)
        if group:
            yield _stack(group, size if full == _form(group[0]) else len(group))

    def state(self) -> Mapping[str, Any]:
        """What a checkpoint keeps of the source besides epoch and place: nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""


def _form(batch: Batch) -> Any:
    return [None if part is None else map_arrays(lambda a: (a.shape, str(a.dtype)), part) for part in batch]


def _stack(group: list[Batch], size: int) -> Block:
    """The batches as a block of `size`; a short group repeats its last batch."""
    filled = group + group[-1:] * (size - len(group))

    def stacked(*parts: Any) -> Any:
        if parts[0] is None:
            return None
        if isinstance(parts[0], dict):
            return {name: stacked(*(part[name] for part in parts)) for name in parts[0]}
        if isinstance(parts[0], tuple):
            return tuple(map(stacked, *parts))
        return np.stack(parts)

    return Block(Batch(*map(stacked, *filled)), len(group))


class ArrayBatches(Batches):
    """Batches of arrays in memory.

    Args:
        x: arrays with the samples first, in a tuple or dict if there are several.
        y: targets.
        weight: per sample.
        batch_size: rows per batch; the last one has those that are left.
        shuffle: put the rows of each epoch in the order that `order(rows, seed, epoch)` gives.
        seed: of the shuffling.

    Raises:
        ValueError: no samples, unequal lengths, or a batch size below 1.
    """

    checked = True

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
        self.steps = -(-self.rows // self.batch_size)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.rows // self.batch_size)

    def first(self) -> Batch:
        return self._cut(slice(0, self.batch_size))

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        shuffled = order(self.rows, self.seed, number) if self.shuffle else None
        for begin in range(start * self.batch_size, self.rows, self.batch_size):
            rows = slice(begin, begin + self.batch_size)
            yield self._cut(rows if shuffled is None else shuffled[rows])

    def blocks(self, size: int, number: int = 0, start: int = 0) -> Iterator[Block]:
        """As `Batches.blocks`, with one look-up for a whole block.

        >>> data = ArrayBatches(np.arange(5), batch_size=2)
        >>> [(block.batches.x.tolist(), block.steps) for block in data.blocks(4)]
        [([[0, 1], [2, 3]], 2), ([[4]], 1)]
        """
        whole = self.rows // self.batch_size
        rows = order(self.rows, self.seed, number) if self.shuffle else np.arange(self.rows)
        full = rows[: whole * self.batch_size].reshape(whole, self.batch_size)
        size = min(size, max(whole, 1))
        for begin in range(start, whole, size):
            count = min(size, whole - begin)
            picked = slice(begin, begin + size) if count == size else np.resize(np.arange(begin, whole), size)
            yield Block(self._cut(full[picked]), count)
        if whole < len(self) and start < len(self):
            yield Block(self._cut(rows[None, whole * self.batch_size :]), 1)

    def _cut(self, rows: Any) -> Batch:
        def cut(array: Any) -> Any:
            return array[rows] if isinstance(rows, slice) else array.take(rows, axis=0)

        return Batch(*(map_arrays(cut, part) for part in self.data[:3]))


class StreamBatches(Batches):
    """Batches from an iterable, each of its own size.

    A batch is `(x, y)` or `(x, y, sample_weight)`, a `Batch`, or x alone where no targets are needed.

    Args:
        source: a list, a dataset, a loader: anything that can be iterated once per epoch, or that has a
            length and gives batches by number. A generator can be iterated once in all.
        steps: batches to take for an epoch; the next epoch goes on where this one ended. Needed for a source
            that never ends.

    Raises:
        ValueError: a batch without rows, or a source without batches.
        TypeError: something else than such batches.
    """

    def __init__(self, source: Any, steps: int | None = None):
        self.source = _iterable(source)
        self.once = iter(self.source) is self.source
        self.limit = steps
        self.steps = steps if steps is not None else _length(source)
        self._held: list[Any] = []
        self._running: tuple[int, Iterator[Any]] | None = None  # how many batches are gone, and the rest

    def first(self) -> Batch:
        """A batch for its shapes; one that cannot be had again is kept for the epoch to come."""
        if not self._held:
            self._held = list(itertools.islice(iter(self.source), 1))
        if not self._held:
            raise ValueError("expected an iterable of batches (x, y), received one without any batch")
        return self._parse(self._held[0], 0)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        held, self._held = (self._held if self.once else []), []
        items = itertools.chain(held, self.source)
        return self._whole(number, start, items) if self.limit is None else self._part(number, start, items)

    def _whole(self, number: int, start: int, items: Iterator[Any]) -> Iterator[Batch]:
        """An epoch that is all of the source."""
        count = 0
        for count, item in enumerate(items, 1):
            if count > start:
                yield self._parse(item, count - 1)
        if count == 0:
            raise ValueError(
                f"the iterable gave no batches in epoch {number + 1}: a generator can be run through once "
                f"only; pass a list, a dataset, or an object whose __iter__ starts anew"
            )

    def _part(self, number: int, start: int, items: Iterator[Any]) -> Iterator[Batch]:
        """An epoch of `limit` batches; what comes before it is skipped."""
        limit = self.limit or 0
        first, end = number * limit + start, (number + 1) * limit
        seen, running = self._running or (number * limit if self.once else 0, items)
        if seen > first:
            seen, running = (first, running) if self.once else (0, iter(self.source))
        while seen < end:
            item = next(running, self)
            if item is self and not self.once:  # it has ended: once more from its beginning
                running = iter(self.source)
                item = next(running, self)
            if item is self:
                raise ValueError(
                    f"expected {limit} batches in epoch {number + 1}, received an iterable that ended after "
                    f"{max(0, seen - number * limit)}; ask for fewer steps, or pass one that starts anew"
                )
            seen += 1
            self._running = (seen, running)
            if seen > first:
                yield self._parse(item, seen - 1 - number * limit)

    def _parse(self, item: Any, index: int) -> Batch:
        if isinstance(item, Batch):
            parts: Any = item
        elif isinstance(item, (tuple, list)):
            parts = item
        elif isinstance(item, dict) or hasattr(item, "shape"):
            parts = (item,)
        else:
            parts = ()
        if not isinstance(item, Batch) and len(parts) not in (1, 2, 3):
            raise TypeError(
                f"expected batches (x, y) or (x, y, sample_weight), received {type(item).__name__} as batch "
                f"{index}; for arrays in memory pass x and y as two arguments"
            )
        named = dict(zip(("x", "y", "sample_weight", "mask"), parts, strict=False))
        try:
            made = {n: map_arrays(lambda a, n=n: _as_array(n, a), as_data(v)) for n, v in named.items()}
            check_width(**made)
            if rows_of(**made) == 0:
                raise ValueError("expected batches of at least one row, received one without any")
        except (ValueError, TypeError) as error:
            error.add_note(f"in batch {index} of the iterable")
            raise
        return Batch(*made.values())


class _ByNumber:
    """Batches by number, `source[0]` to `source[len(source) - 1]`."""

    def __init__(self, source: Any):
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        return (self.source[i] for i in range(len(self.source)))


def _iterable(source: Any) -> Any:
    by_number = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    return _ByNumber(source) if by_number and not hasattr(source, "__iter__") else source


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


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
