"""The order of the samples for each seed, as numbers of rows: the order that a single run has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jlayers.data.batches import ArrayBatches, Batches, order

__all__ = ["SeedRows"]


class SeedRows(Batches):
    """The batches of arrays in memory, as `(seeds, batch)` numbers of rows, or `(batch,)` without shuffling.

    >>> data = SeedRows(ArrayBatches(np.arange(5), batch_size=2, shuffle=True), seeds=[0, 1])
    >>> [rows.shape for rows in data.epoch(0)]
    [(2, 2), (2, 2), (2, 1)]
    """

    def __init__(self, data: ArrayBatches, seeds: Sequence[int]):
        self.data, self.seeds = data, list(seeds)
        self.steps, self.checked = data.steps, True

    def first(self) -> Any:
        return self._rows(0)[..., : self.data.batch_size]

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Any]:
        rows, size = self._rows(number), self.data.batch_size
        for begin in range(start * size, self.data.rows, size):
            yield rows[..., begin : begin + size]

    def blocks(self, size: int, number: int = 0, start: int = 0) -> Iterator[Any]:
        """As `ArrayBatches.blocks`."""
        rows, length = self._rows(number), self.data.batch_size
        whole = self.data.rows // length
        full = rows[..., : whole * length].reshape(*rows.shape[:-1], whole, length)
        full = np.moveaxis(full, -2, 0)
        size = min(size, max(whole, 1))
        for begin in range(start, whole, size):
            count = min(size, whole - begin)
            yield full[np.resize(np.arange(begin, begin + count), size)], count
        if whole * length < self.data.rows and start <= whole:
            yield rows[None, ..., whole * length :], 1

    def _rows(self, epoch: int) -> np.ndarray:
        rows = self.data.rows
        if not self.data.shuffle:
            return np.arange(rows, dtype=np.int32)
        return np.stack([order(rows, seed, epoch) for seed in self.seeds]).astype(np.int32)
