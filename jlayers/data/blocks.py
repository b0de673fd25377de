"""Tables in blocks that are read one by one, and their columns as arrays."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.data.lazy import LazyArray

__all__ = ["Blocks"]

HELD = 1 << 26  # bytes of blocks in memory


class Blocks:
    """Rows in blocks; only a few blocks are in memory.

    Args:
        ends: the row behind each block.
        load: reads a block by its number: arrays by the names of the inputs, samples first.
        fingerprint: fingerprint of the files, when it is asked for.
        held: bytes of blocks in memory, at least two of them.

    >>> blocks = Blocks([3, 5], lambda i: {"": np.arange(3 * i, [3, 5][i])[:, None]}, lambda: "ramp")
    >>> blocks.columns()[[4, 0]].tolist()
    [[4], [0]]
    """

    def __init__(
        self,
        ends: Sequence[int],
        load: Callable[[int], Mapping[str, np.ndarray]],
        fingerprint: Callable[[], str],
        held: int = HELD,
    ):
        self.ends = np.asarray(ends, np.int64)
        self.load, self.fingerprint = load, fingerprint
        self.together = 1
        self._kept: collections.OrderedDict[int, Mapping[str, np.ndarray]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self.together = max(1, held // max(1, sum(map(_bytes, self.block(0).values()))))

    def block(self, number: int) -> Mapping[str, np.ndarray]:
        """A block, which stays in memory until others take its place."""
        with self._lock:
            if number not in self._kept:
                self._kept[number] = self.load(number)
                if len(self._kept) > self.together + 1:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            return self._kept[number]

    def columns(self) -> Any:
        """The arrays by name; one without a name stands alone."""
        made = {name: _Column(self, name, array) for name, array in self.block(0).items()}
        return made[""] if list(made) == [""] else made


def _bytes(array: np.ndarray) -> int:
    return sum(map(len, array.ravel().tolist())) if array.dtype == object else array.nbytes


class _Column(LazyArray):
    def __init__(self, blocks: Blocks, name: str, like: np.ndarray):
        super().__init__((int(blocks.ends[-1]), *like.shape[1:]), like.dtype)
        self.blocks, self.name = blocks, name
        self.chunks, self.together = blocks.ends, blocks.together

    def read(self, rows: np.ndarray) -> np.ndarray:
        made = np.empty((len(rows), *self.shape[1:]), self.dtype)
        ends = self.blocks.ends
        place = np.searchsorted(ends, rows, side="right")
        for number in np.unique(place):
            mine = place == number
            begin = ends[number - 1] if number else 0
            made[mine] = self.blocks.block(int(number))[self.name][rows[mine] - begin]
        return made

    def fingerprint(self) -> str:
        return f"{self.name} {self.blocks.fingerprint()}"
