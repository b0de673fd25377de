"""Batches of sequences of unequal length, each filled up to one of a few lengths; pure NumPy.

A compiled step serves one shape. Filled up to its own longest sequence, almost every batch would be compiled
anew; filled up to the longest of all, a batch of short ones would be mostly padding. With a few lengths to
choose from there is one compilation for each of them, and little padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.core.shapes import describe
from jlayers.data.batches import Batch, Batches, order, rows_of
from jlayers.data.gate import as_dtype, convert

__all__ = ["BucketBatches", "bucket_lengths"]


def bucket_lengths(sequences: Sequence[Any], count: int) -> tuple[int, ...]:
    """At most `count` lengths, up to the longest, that split the sequences into parts of about one size.

    >>> bucket_lengths([np.zeros(n) for n in (2, 3, 3, 4, 5, 9)], 3)
    (3, 4, 9)
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise refused(
            ValueError,
            "expected count to be a positive whole number",
            raised_by="bucket_lengths",
            count=count,
        )
    lengths = [len(sequence) for sequence in sequences]
    if not lengths:
        raise refused(ValueError, "expected at least one sequence", raised_by="bucket_lengths", sequences=[])
    shares = np.arange(1, count + 1) / count
    return tuple(np.unique(np.quantile(lengths, shares, method="inverted_cdf")).astype(int).tolist())


class BucketBatches(Batches):
    """Batches in which all sequences are filled up behind to the least of `lengths` that holds them.

    Goes where `fit` and `evaluate` take batches, for `x` and for `validation_data`. Padding is told from data
    by its value: begin the model with `Masking()`, or with `Embedding(..., mask_zero=True)` for words. The
    order of an epoch follows only from `seed` and the epoch. A bucket's last batch has the rows that are
    left.

    Args:
        sequences: one array `(time, ...)` for each sample.
        y: targets, samples first.
        weight: per sample, or None.
        lengths: the lengths to fill up to; see `bucket_lengths`.
        batch_size: rows per batch.
        shuffle: a new order in every epoch.
        seed: seed of the shuffling.
        fill: what padding holds.

    Raises:
        ValueError: a sequence longer than all lengths, samples without targets, or sizes below 1.

    >>> words = [np.array([5, 3]), np.array([4]), np.array([1, 2, 6, 7])]
    >>> batches = BucketBatches(words, np.arange(3), lengths=(2, 4), batch_size=2)
    >>> [batch.x.tolist() for batch in batches.epoch()]
    [[[5, 3], [4, 0]], [[1, 2, 6, 7]]]
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        y: Any,
        weight: Any = None,
        *,
        lengths: Sequence[int],
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        fill: float = 0,
    ):
        self.sequences = [convert(f"sequences[{i}]", sequence) for i, sequence in enumerate(sequences)]
        self.y = convert("y", y)
        self.weight = None if weight is None else convert("weight", weight)
        self.lengths = tuple(sorted({_positive("lengths", length) for length in lengths}))
        self.batch_size = _positive("batch_size", batch_size)
        self.shuffle, self.seed = shuffle, seed
        if not self.lengths:
            raise refused(ValueError, "expected at least one length", raised_by="BucketBatches", lengths=())
        rows = rows_of(y=self.y, weight=self.weight)
        if not self.sequences or rows != len(self.sequences):
            raise ValueError(
                f"BucketBatches: expected at least one sequence and one target for each, received "
                f"{len(self.sequences)} sequences and {rows} targets"
            )
        self.fill = as_dtype("fill", np.asarray(fill), self.sequences[0].dtype)
        self.buckets = [self._length_for(i) for i in range(rows)]
        self.steps = len(self)

    def _length_for(self, row: int) -> int:
        """The length that the sequence is filled up to."""
        sequence, first = self.sequences[row], self.sequences[0]
        if sequence.ndim < 1 or sequence.shape[1:] != first.shape[1:] or sequence.dtype != first.dtype:
            raise ValueError(
                f"BucketBatches: expected sequences (time, ...) that differ only in time, received "
                f"sequences[0]={describe(first)}, sequences[{row}]={describe(sequence)}"
            )
        found = next((length for length in self.lengths if length >= len(sequence)), None)
        if found is None:
            raise ValueError(
                f"BucketBatches: expected sequences of at most {self.lengths[-1]} steps, received "
                f"sequences[{row}] with {len(sequence)}; cut it or add a length to lengths={self.lengths}"
            )
        return found

    def __len__(self) -> int:
        """Batches per epoch."""
        return sum(-(-self.buckets.count(length) // self.batch_size) for length in self.lengths)

    @property
    def padding(self) -> float:
        """The share of steps that are padding."""
        return 1 - sum(map(len, self.sequences)) / sum(self.buckets)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on: each as soon as its bucket has enough rows."""
        return map(self._batch, itertools.islice(self._rows(number), start, None))

    def _rows(self, epoch: int) -> Iterator[list[int]]:
        count = len(self.sequences)
        waiting: dict[int, list[int]] = {}
        for row in order(count, self.seed, epoch) if self.shuffle else range(count):
            rows = waiting.setdefault(self.buckets[row], [])
            rows.append(row)
            if len(rows) == self.batch_size:
                yield waiting.pop(self.buckets[row])
        yield from waiting.values()

    def _batch(self, rows: list[int]) -> Batch:
        like = self.sequences[0]
        shape = (len(rows), self.buckets[rows[0]], *like.shape[1:])
        x = np.full(shape, self.fill, like.dtype)
        for i, row in enumerate(rows):
            x[i, : len(self.sequences[row])] = self.sequences[row]
        weight = None if self.weight is None else self.weight[rows]
        return Batch(x, self.y[rows], weight)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise refused(
            ValueError,
            f"expected {name} of positive whole numbers",
            raised_by="BucketBatches",
            **{name: value},
        )
    return int(value)
