"""Sources of batches, and batches of arrays; pure NumPy.

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

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jlayers.core.errors import about, refused
from jlayers.data.dataset import fingerprint
from jlayers.data.gate import convert, leaves
from jlayers.data.lazy import is_lazy

__all__ = [
    "ArrayBatches",
    "Batch",
    "Batches",
    "Block",
    "Wrapped",
    "as_data",
    "form_of",
    "map_arrays",
    "order",
    "order_by_chunks",
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
                error = ValueError(
                    f"expected arrays with the samples first, received {path}={array!r}; a source of single "
                    f"samples goes into a loader, which makes batches of them"
                )
                raise about(error, **{name: tree})
            rows = array.shape[0]
            if first is None:
                first = (path, rows)
            elif rows != first[1]:
                error = ValueError(
                    f"expected as many rows in {path} as in {first[0]}, received {first[0]} with {first[1]} "
                    f"rows and {path} with {rows}"
                )
                raise about(error, **{name: tree})
    if first is None:
        error = ValueError(f"expected at least one array in {' and '.join(trees)}, received none")
        raise about(error, **trees)
    return first[1]


def order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the rows in an epoch: a permutation that depends only on `seed` and `epoch`.

    >>> bool((order(10, seed=0, epoch=3) == order(10, seed=0, epoch=3)).all())
    True
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)


def order_by_chunks(ends: np.ndarray, together: int, seed: int, epoch: int) -> np.ndarray:
    """An order of rows that are stored in chunks; only a few chunks are held at a time.

    The chunks are put in an order, and the rows of each few of them, which follow each other, too.

    >>> order_by_chunks(np.array([2, 4, 6]), 1, seed=0, epoch=0).tolist()
    [5, 4, 0, 1, 2, 3]
    """
    draw = np.random.default_rng([seed, epoch])
    stored = np.split(np.arange(ends[-1]), ends[:-1])
    chunks = [stored[i] for i in draw.permutation(len(stored))]
    groups = [np.concatenate(chunks[i : i + together]) for i in range(0, len(chunks), together)]
    return np.concatenate([draw.permutation(group) for group in groups])


def _check_size(batch_size: Any) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise refused(
            ValueError, "expected a batch_size that is a whole number of at least 1", batch_size=batch_size
        )
    return int(batch_size)


class Block(NamedTuple):
    """Batches stacked in front; the first `steps` of them count."""

    batches: Batch
    steps: int


class Batches:
    """A source of batches: what `fit` and `evaluate` take, and what your own source inherits from.

    A subclass defines `epoch` and, if it can, `steps`. `fit` asks for a batch by the number of its epoch and
    its place in it, so a source keeps no position of its own; if one has to, it returns that in `state`.

    Attributes:
        steps: batches in an epoch, or None if that is not known.
        checked: whether the values have been checked; if not, `fit` checks each batch.
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
            if group and (len(group) == size or form_of(batch) != form_of(group[0])):
                yield _stack(group, size if full == form_of(group[0]) else len(group))
                full = form_of(group[0]) if len(group) == size else full
                group = []
            group.append(batch)
        if group:
            yield _stack(group, size if full == form_of(group[0]) else len(group))

    def state(self, number: int = 0, start: int = 0) -> Mapping[str, Any]:
        """Plain data for a checkpoint, from which the source continues at batch `start` of an epoch.

        Empty where the two numbers say it all. The source may be ahead of that batch.
        """
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave, before the first epoch of a resumed run."""

    def fingerprint(self) -> str:
        """A text that differs where the data are known to differ: a run continues only with the same ones."""
        return f"batches, {self.steps}"

    def close(self) -> None:
        """Called when the last batch was taken."""


class Wrapped(Batches):
    """A source of batches around another one, which does what is not overridden."""

    def __init__(self, data: Batches):
        self.data, self.steps, self.checked = data, data.steps, data.checked

    def first(self) -> Batch:
        return self.data.first()

    def state(self, number: int = 0, start: int = 0) -> Mapping[str, Any]:
        return self.data.state(number, start)

    def restore(self, state: Mapping[str, Any]) -> None:
        self.data.restore(state)

    def fingerprint(self) -> str:
        return self.data.fingerprint()

    def close(self) -> None:
        self.data.close()


def form_of(batch: Batch) -> Any:
    """The shapes and dtypes of a batch."""
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
    """Batches of arrays, in memory or read when they are needed.

    Args:
        x: arrays with the samples first, in a tuple or dict if there are several; `LazyArray`s among them.
        y: targets.
        weight: per sample.
        batch_size: rows per batch; the last one has those that are left.
        shuffle: put the rows of each epoch in the order that `order(rows, seed, epoch)` gives.
        seed: seed of the shuffling.

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
        lazy = [leaf for leaf in jax.tree.leaves(self.data) if is_lazy(leaf)]
        self.checked = not lazy
        self._stored = next((leaf for leaf in lazy if leaf.chunks is not None), None)
        self.rows = rows_of(x=x, y=y, sample_weight=weight)
        if self.rows == 0:
            raise about(ValueError("expected at least one sample, received arrays with 0 rows"), x=x)
        self.batch_size = min(_check_size(batch_size), self.rows)
        self.shuffle = shuffle
        self.seed = seed
        self.steps = -(-self.rows // self.batch_size)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.rows // self.batch_size)

    def first(self) -> Batch:
        return self._cut(slice(0, self.batch_size)) if self.checked else self._first

    @functools.cached_property
    def _first(self) -> Batch:
        return self._cut(slice(0, self.batch_size))

    def _order(self, epoch: int) -> np.ndarray:
        if self._stored is None:
            return order(self.rows, self.seed, epoch)
        return order_by_chunks(self._stored.chunks, self._stored.together, self.seed, epoch)

    def fingerprint(self) -> str:
        """A hash of all names, shapes, dtypes and bytes."""
        return fingerprint(tuple(self.data[:3]))

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        shuffled = self._order(number) if self.shuffle else None
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
        rows = self._order(number) if self.shuffle else np.arange(self.rows)
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
            if is_lazy(array):
                return convert("x", array[rows] if isinstance(rows, slice) else array.take(rows))
            return array[rows] if isinstance(rows, slice) else array.take(rows, axis=0)

        return Batch(*(map_arrays(cut, part) for part in self.data[:3]))


def as_data(value: Any) -> Any:
    """A list of numbers as one array, in a dict, too; a list with arrays in it, several inputs, stays."""
    if isinstance(value, dict):
        return {name: as_data(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)) and not any(
        hasattr(member, "shape") or hasattr(member, "__array__") or isinstance(member, dict)
        for member in value
    ):
        return np.asarray(value)
    return value
