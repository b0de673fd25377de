"""A trial that has ended, as a line of the sweep's ledger."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Trial", "better", "running_best"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """The outcome of one trial. Nothing in it depends on the clock, so that equal sweeps have equal lines.

    Attributes:
        number: counted from 0.
        values: what was tried, by path.
        status: `completed`, `pruned` or `failed`.
        value: the metric at the epoch whose weights the run keeps; None for a trial that failed.
        epochs: how many were trained.
        curve: the metric after each epoch; None where it was not finite.
        weights: the SHA-256 of the run's weights.
        reason: reason of a failure.
    """

    number: int
    values: Mapping[str, Any]
    status: str
    value: float | None = None
    epochs: int = 0
    curve: Sequence[float | None] = ()
    weights: str | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"trial-{self.number:03d}"


def better(a: float, b: float, direction: str) -> bool:
    """True if a is better than b, in the direction "min" or "max"."""
    return a < b if direction == "min" else a > b


def running_best(curve: Sequence[float | None], direction: str) -> list[float | None]:
    """The best value up to each epoch.

    >>> running_best([None, 0.5, 0.4, 0.7], "max")
    [None, 0.5, 0.5, 0.7]
    """

    def best(a: float | None, b: float | None) -> float | None:
        return a if b is None or (a is not None and not better(b, a, direction)) else b

    return list(itertools.accumulate(curve, best))
