"""What may listen to a fit: a small protocol, and early stopping."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from jlayers.core.registry import nearest
from jlayers.train.state import TrainState

__all__ = ["Callback", "EarlyStopping", "Run"]

Logs = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a fit is about to do, for `Callback.on_fit_begin`.

    Attributes:
        first_epoch: number of the first epoch; 0 for a new run.
        epochs: how many epochs at most.
        steps: batches per epoch, or None if the data do not tell.
        directions: by name in the logs, "min" or "max", whichever is better.
    """

    first_epoch: int
    epochs: int
    steps: int | None
    directions: Mapping[str, str]


class Callback:
    """Override what you need. A plain function `f(epoch, logs, state)` serves as `on_epoch_end`, too.

    The state that `on_epoch_end` gets may be kept: no later step takes its arrays away.

    >>> import jlayers as jl
    >>> class Stop(jl.Callback):
    ...     def on_epoch_end(self, epoch, logs, state):
    ...         return logs["accuracy"] > 0.99
    """

    def on_fit_begin(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before the first batch of epoch `epoch`, counted from 0."""

    def on_progress(self, epoch: int, step: int, logs: Logs) -> None:
        """A few times per second: `step` batches of the epoch are on their way.

        The logs are the newest that the device has finished, and empty before the first.
        """

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> bool | None:
        """After the epoch and its validation; return True to stop."""

    def on_fit_end(self, state: TrainState) -> TrainState | None:
        """At the end, also after an error; return a state to have `fit` return that one."""


class EarlyStopping(Callback):
    """Stop when a value in the logs has not improved for `patience` epochs; as in Keras.

    Args:
        monitor: name in the logs.
        min_delta: smallest change that counts as an improvement.
        patience: epochs without improvement before it stops.
        mode: "min" or "max", whichever is better; "auto" knows it for losses and registered metrics.
        baseline: the count of epochs starts anew only with values better than this.
        restore_best_weights: return the parameters and the model's state of the best epoch.
        start_from_epoch: epochs before this one are not looked at.

    Attributes:
        stopped_epoch: the epoch after which it stopped, or None.
        best: the best value.
        best_epoch: its epoch.

    Raises:
        KeyError: the logs do not have `monitor`.

    >>> import jlayers as jl
    >>> jl.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True).patience
    3
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"EarlyStopping: expected mode 'auto', 'min' or 'max', received mode={mode!r}")
        if patience < 0:
            raise ValueError(
                f"EarlyStopping: expected patience of at least 0, received patience={patience!r}"
            )
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._begin("min")

    def _begin(self, direction: str) -> None:
        self.direction = direction
        self.wait = 0
        self.stopped_epoch: int | None = None
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._best_state: TrainState | None = None

    def on_fit_begin(self, run: Run) -> None:
        direction = run.directions.get(self.monitor) if self.mode == "auto" else self.mode
        if direction is None:
            raise KeyError(
                f"EarlyStopping watches {self.monitor!r}, which is not in the logs: "
                f"{nearest(self.monitor, run.directions)}"
                + (" (give fit validation data)" if self.monitor.startswith("val_") else "")
            )
        self._begin(direction)

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> bool | None:
        if self.monitor not in logs:
            raise KeyError(
                f"EarlyStopping watches {self.monitor!r}, which is not in the logs: "
                f"{nearest(self.monitor, logs)}"
            )
        current = logs[self.monitor]
        if epoch < self.start_from_epoch:
            return None
        if self.best_epoch is None:  # should no epoch ever improve, the first one stands
            self._keep(epoch, state)
        self.wait += 1
        if self._improves(current, self.best):
            self.best = current
            self._keep(epoch, state)
            if self._improves(current, self.baseline):
                self.wait = 0
            return None
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            return True
        return None

    def on_fit_end(self, state: TrainState) -> TrainState | None:
        best, self._best_state = self._best_state, None
        if not self.restore_best_weights or best is None:
            return None
        return state.replace(params=best.params, state=best.state)

    def _keep(self, epoch: int, state: TrainState) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self._best_state = state

    def _improves(self, value: float, reference: float | None) -> bool:
        if reference is None:
            return not math.isnan(value)
        if self.direction == "min":
            return value + self.min_delta < reference
        return value - self.min_delta > reference
