"""Batches from any iterable: generators, loaders of other libraries, pipelines that know where they stand."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jlayers.core.errors import about, noted
from jlayers.data.batches import Batch, Batches, as_data, form_of, map_arrays, rows_of
from jlayers.data.dataset import fingerprint
from jlayers.data.gate import check_width, convert
from jlayers.data.positions import iterator_from, position

__all__ = ["Iteration", "StreamBatches"]

_END = object()
_MARKS = 256  # batches behind the newest one whose position is known; more than can be on their way


class StreamBatches(Batches):
    """Batches from an iterable, each of its own size.

    A batch is `(x, y)` or `(x, y, sample_weight)`, a `Batch`, or x alone where no targets are needed.

    A resumed run continues an iterable that can tell its position (see `jlayers.data.positions`); for any
    other one, the batches that were used are made once more and skipped. If it has `set_epoch`, as a Hugging
    Face `IterableDataset` has, it receives the number of each round, so
    that its shuffling gives each round an order of its own; `on_epoch_end` of a Keras `PyDataset` is called
    between two rounds.

    Args:
        source: a list, a dataset, a loader: anything that can be iterated once per epoch, or that has a
            length and gives batches by number. A generator can be iterated once in all.
        steps: batches to take for an epoch; the next epoch continues where this one ended. Needed for a
            source that never ends.

    Raises:
        ValueError: a batch without rows, or a source without batches.
        TypeError: something other than such batches.
    """

    def __init__(self, source: Any, steps: int | None = None):
        self._given, self._ended = source, 0
        self.source = _iterable(source)
        self.once = hasattr(self.source, "__next__")
        self.limit = steps
        self.steps = steps if steps is not None else _length(source)
        self._run: Iteration | None = None  # that continues in the next epoch
        self._marks: dict[tuple[int, int], Any] = {}
        self._resumed: Mapping[str, Any] | None = None

    def first(self) -> Batch:
        """A batch for its shapes, which comes again in the first epoch."""
        return self._first

    @functools.cached_property
    def _first(self) -> Batch:
        self._run = self._run or self._begin(0)
        item = self._run.look()
        if item is _END:
            error = ValueError("expected an iterable of batches (x, y), received an empty one")
            raise about(error, x=self._given)
        return self._parse(item, 0)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        limit = self.limit
        before = 0 if limit is None else number * limit  # batches of the run that belong to earlier epochs
        run = self._run_at(number, before, start)
        while limit is None or run.count < before + limit:
            item = run.take()
            if item is _END and limit is not None and not self.once:  # once more from its beginning
                run.rounds += 1
                run.items = self._round(run.rounds)
                item = run.take()
            if item is _END:
                self._check_end(number, run.count - before)
                break
            self._mark(number, run)
            if run.count > before + start:
                yield self._parse(item, run.count - before - 1)
        if limit is None:
            self._end()

    def _begin(self, place: int, number: int = 0) -> Iteration:
        """A run from its beginning, or from `place` on if that costs nothing."""
        return Iteration(self._round(number))

    def _round(self, number: int) -> Iterator[Any]:
        """The source from its beginning, in the order of this round if it has one for each."""
        if hasattr(self._given, "set_epoch"):
            self._given.set_epoch(number)
        elif hasattr(self._given, "on_epoch_end"):
            while self._ended < number:
                self._given.on_epoch_end()
                self._ended += 1
        return iter(self.source)

    def _run_at(self, number: int, before: int, start: int) -> Iteration:
        """A run that stands at a batch of an epoch, or before it."""
        place, run, resumed = before + start, self._run, self._resumed
        ordered = hasattr(self._given, "set_epoch") or hasattr(self._given, "on_epoch_end")
        others = ordered and self._epoch_of(number)  # than the batches of the run that was begun
        known = resumed and resumed["epoch"] == self._epoch_of(number) and resumed["batches"] <= place
        if resumed and known:
            self._end()
            run = Iteration(iterator_from(self.source, resumed["position"]), resumed["batches"])
        elif run is None or others or (run.count > place and not self.once):
            self._end()
            run = self._begin(place, self._epoch_of(number))
        if self.once and resumed is None and (run.count < before or run.count > place):
            run.count = before  # a generator of another call stands where its epoch begins
        self._resumed, self._run = None, run
        return run

    def _epoch_of(self, number: int) -> int:
        """The run that an epoch belongs to: each is one of its own, or all are one."""
        return number if self.limit is None else 0

    def _mark(self, number: int, run: Iteration) -> None:
        if (where := position(run.items)) is not None:
            self._marks[self._epoch_of(number), run.count] = where
            if len(self._marks) > _MARKS:
                del self._marks[next(iter(self._marks))]

    def state(self, number: int = 0, start: int = 0) -> Mapping[str, Any]:
        """The last known position up to that batch: the iterator may be ahead of it."""
        place = start if self.limit is None else number * self.limit + start
        marks = self._marks.copy()  # a thread adds to them
        known = [mark for mark in marks if mark[0] == self._epoch_of(number) and mark[1] <= place]
        if not known:
            return {}
        epoch, batches = max(known)
        return {"epoch": epoch, "batches": batches, "position": marks[epoch, batches]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._resumed = state or {"epoch": -1, "batches": 0}

    def fingerprint(self) -> str:
        """Number and form of the batches, and of a pipeline that can be taken up again the first one."""
        first = self.first()
        forms = f"{super().fingerprint()}, {form_of(first)}"
        exact = self._run is not None and position(self._run.items) is not None
        return f"{forms}, {fingerprint(tuple(first))}" if exact else forms

    def close(self) -> None:
        self._end()

    def _end(self) -> None:
        run, self._run = self._run, None
        if run is None or self.once or getattr(run.items, "gi_running", False):
            return
        if hasattr(run.items, "close"):
            run.items.close()

    def _check_end(self, number: int, taken: int) -> None:
        if self.limit is not None:
            error = ValueError(
                f"expected {self.limit} batches in epoch {number + 1}, received an iterable that ended after "
                f"{max(0, taken)}; ask for fewer steps, or pass one that starts anew"
            )
            raise about(error, x=self._given)
        if not taken:
            error = ValueError(
                f"expected batches in epoch {number + 1}, received none: a generator can be iterated only "
                f"once; pass a list, a dataset, or an object whose __iter__ starts anew"
            )
            raise about(error, x=self._given)

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
            error = TypeError(
                f"expected batches (x, y) or (x, y, sample_weight), received {type(item).__name__} as batch "
                f"{index}; for arrays in memory pass x and y as two arguments"
            )
            raise about(error, x=self._given)
        named = dict(zip(("x", "y", "sample_weight", "mask"), parts, strict=False))
        with noted(f"in batch {index} of the iterable"):
            made = {n: map_arrays(lambda a, n=n: _as_array(n, a), as_data(v)) for n, v in named.items()}
            check_width(**made)
            if _rows(item, made) == 0:
                empty = ValueError("expected at least one row in each batch, received a batch without rows")
                raise about(empty, x=made["x"])
        return Batch(*made.values())


def _rows(item: Any, made: dict[str, Any]) -> int:
    try:
        return rows_of(**made)
    except ValueError as error:
        if not isinstance(item, dict):
            raise
        wrong = ValueError(
            f"{error}; if each item is one sample with names, make batches of them (.batch(32)), or pass "
            f"*jl.data.columns(data, x='...', y='...')"
        )
        raise about(wrong, x=item) from None


class Iteration:
    """One run through a source; it takes `count` batches."""

    def __init__(self, items: Iterator[Any], count: int = 0):
        self.items: Any = items
        self.count = count
        self.rounds = 0
        self._held: list[Any] = []

    def look(self) -> Any:
        """The next batch, which stays the next one."""
        self._held = self._held or list(itertools.islice(self.items, 1))
        return self._held[0] if self._held else _END

    def take(self) -> Any:
        item = self._held.pop() if self._held else next(self.items, _END)
        self.count += item is not _END
        return item


class _ByNumber:
    """Batches by number, `source[0]` to `source[len(source) - 1]`."""

    def __init__(self, source: Any):
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self.source)):
            try:
                batch = self.source[number]
            except IndexError as error:
                raise ValueError(
                    f"expected {len(self.source)} batches, which the length of the source says, received "
                    f"IndexError for source[{number}]: {error}"
                ) from error
            yield batch


def _iterable(source: Any) -> Any:
    by_number = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    return _ByNumber(source) if by_number and not hasattr(source, "__iter__") else source


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def _as_array(name: str, value: Any) -> Any:
    return value if isinstance(value, jax.Array) else convert(name, value)
