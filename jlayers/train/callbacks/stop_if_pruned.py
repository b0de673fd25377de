"""Ends a trial of a sweep when a pruner of Optuna's, asked after each epoch, says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from jlayers.core.registry import Kind
from jlayers.train.callbacks._monitor import Mode, Monitor
from jlayers.train.callbacks.base import Callback, Logs, Run, register

__all__ = ["StopIfPruned"]


@register
class StopIfPruned(Callback):
    """Stop after the epoch in which Optuna's pruner would prune the trial.

    `jlayers sweep` gives this callback to its trials. The pruner knows the trials that had ended before this
    one was asked for, and the values of this one; nothing that happens meanwhile changes its answers. In
    `jl.fit_seeds` it looks at the mean over the seeds, and ends all of them.

    Args:
        monitor: name in the logs.
        pruner: one of Optuna's, such as `optuna.MedianPruner`.
        ledger: the file in which the sweep keeps the results of its trials.
        trial: the number of this one.
        parallel: it knows the trials 0 to `trial - parallel`.
        mode: "min" or "max", whichever is better; "auto" knows it for losses and registered metrics.

    Attributes:
        stopped_epoch: the epoch after which it stopped, or None.

    Raises:
        KeyError: the logs do not have `monitor`.
        FileNotFoundError: there is no ledger.
        ValueError: a trial that must have ended is not in the ledger.

    >>> import jlayers as jl
    >>> from jlayers.experiments.sweep.pruners import registry
    >>> pruner = registry.get({"optuna.MedianPruner": {"n_warmup_steps": 2}})
    >>> jl.callbacks.StopIfPruned("val_loss", pruner, "sweeps/digits-1/trials.jsonl", trial=4)
    StopIfPruned('val_loss', optuna.MedianPruner(n_warmup_steps=2), 'sweeps/digits-1/trials.jsonl', 4)
    """

    of_all_seeds = True

    def __init__(
        self,
        monitor: str,
        pruner: Annotated[Any, Kind("pruner")],
        ledger: str | os.PathLike[str],
        trial: int,
        parallel: int = 1,
        mode: Mode = "auto",
    ):
        self._watched = Monitor("StopIfPruned", monitor, mode, 0.0)
        self.monitor, self.pruner, self.mode = monitor, pruner, mode
        self.ledger, self.trial, self.parallel = ledger, trial, parallel
        self.values: list[float] = []
        self.stopped_epoch: int | None = None

    def check(self, run: Run) -> None:
        self._begin(run)

    def on_fit_begin(self, run: Run) -> None:
        self._begin(run)

    def _begin(self, run: Run) -> None:
        self._watched.begin(run)
        self.values, self.stopped_epoch = [], None
        self._judge = self.pruner.judge(self.ledger, self.trial, self.parallel, self._watched.direction)

    def on_epoch_end(self, epoch: int, logs: Logs, state: Any) -> bool | None:
        self.values.append(float(self._watched.read(logs)))
        if not self._judge(self.values[-1]):
            return None
        self.stopped_epoch = epoch
        return True

    def state(self) -> dict[str, Any]:
        return {"values": self.values, "stopped_epoch": self.stopped_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.values, self.stopped_epoch = list(state["values"]), state["stopped_epoch"]
        for value in self.values:  # some pruners keep what they have seen
            self._judge(value)
