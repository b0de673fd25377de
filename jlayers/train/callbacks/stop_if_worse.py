"""Ends a training that has fallen behind others: a value must stay within bounds, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.core.errors import refused
from jlayers.train.callbacks._monitor import Mode, Monitor
from jlayers.train.callbacks.base import Callback, Logs, Run, register

__all__ = ["StopIfWorse"]


@register
class StopIfWorse(Callback):
    """Stop after an epoch in which the best value so far is worse than that epoch's bound.

    `jlayers sweep` gives this callback to its trials: the bounds come from earlier trials. In
    `jl.fit_seeds` it looks at the mean over the seeds, and ends all of them.

    Args:
        monitor: name in the logs.
        than: a bound for each epoch, beginning with the first; null for an epoch that is not judged. Epochs
            behind the last bound are not judged either.
        mode: "min" or "max", whichever is better; "auto" knows it for losses and registered metrics.

    Attributes:
        best: the best value.
        stopped_epoch: the epoch after which it stopped, or None.

    Raises:
        KeyError: the logs do not have `monitor`.
        ValueError: there are no bounds.

    >>> import jlayers as jl
    >>> jl.callbacks.StopIfWorse("val_accuracy", than=[None, 0.5, 0.7])
    StopIfWorse('val_accuracy', [None, 0.5, 0.7])
    """

    of_all_seeds = True

    def __init__(self, monitor: str, than: Sequence[float | None], mode: Mode = "auto"):
        if not than:
            raise refused(ValueError, "expected a bound for at least one epoch", than=than)
        self._watched = Monitor("StopIfWorse", monitor, mode, 0.0)
        self.monitor, self.than, self.mode = monitor, list(than), mode
        self.best: float | None = None
        self.stopped_epoch: int | None = None

    def check(self, run: Run) -> None:
        self._watched.begin(run)

    def on_fit_begin(self, run: Run) -> None:
        self._watched.begin(run)
        self.best = self.stopped_epoch = None

    def on_epoch_end(self, epoch: int, logs: Logs, state: Any) -> bool | None:
        value = self._watched.read(logs)
        if self._watched.improves(value, self.best):
            self.best = value
        bound = self.than[epoch] if epoch < len(self.than) else None
        if bound is None or (self.best is not None and not self._watched.improves(bound, self.best)):
            return None
        self.stopped_epoch = epoch
        return True

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "stopped_epoch": self.stopped_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best, self.stopped_epoch = state["best"], state["stopped_epoch"]
