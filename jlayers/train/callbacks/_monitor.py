"""A value in the logs that is watched: which way is better, and what counts as an improvement."""

from __future__ import annotations

import math
from typing import Literal

from jlayers.core.errors import about, refused
from jlayers.core.spelling import nearest
from jlayers.train.callbacks.base import Logs, Run

__all__ = ["Mode", "Monitor"]

Mode = Literal["auto", "min", "max"]


class Monitor:
    """The value called `name`, for a callback called `owner`.

    Attributes:
        direction: "min" or "max", once a run has begun.
    """

    def __init__(self, owner: str, name: str, mode: Mode, min_delta: float):
        if mode not in ("auto", "min", "max"):
            raise refused(ValueError, "expected mode 'auto', 'min' or 'max'", mode=mode)
        if not math.isfinite(min_delta):
            raise refused(ValueError, "expected a finite number", min_delta=min_delta)
        self.owner, self.name, self.mode, self.min_delta = owner, name, mode, abs(min_delta)
        self.direction = "min"

    def begin(self, run: Run) -> None:
        """Raises a KeyError if the logs of the run will not have the value."""
        if self.name not in run.directions:
            error = KeyError(
                f"{self.owner} watches {self.name!r}, which is not in the logs: "
                f"{nearest(self.name, run.directions)}"
                + (" (give fit validation data)" if self.name.startswith("val_") else "")
            )
            raise about(error, monitor=self.name)
        self.direction = run.directions[self.name] if self.mode == "auto" else self.mode

    def read(self, logs: Logs) -> float:
        """The value."""
        if self.name not in logs:
            raise KeyError(
                f"{self.owner} watches {self.name!r}, which is not in the logs: {nearest(self.name, logs)}"
            )
        return logs[self.name]

    def improves(self, value: float, reference: float | None) -> bool:
        """True if a value is better than the reference; any number is better than none."""
        if reference is None:
            return not math.isnan(value)
        if self.direction == "min":
            return value + self.min_delta < reference
        return value - self.min_delta > reference
