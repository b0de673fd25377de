"""What may listen to a fit: a small protocol, and early stopping."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from jlayers import optimizers
from jlayers.core.errors import refused
from jlayers.core.spelling import nearest
from jlayers.data.prefetch import Waiting
from jlayers.train.state import HostCopy, TrainState, copied

__all__ = ["Callback", "EarlyStopping", "Run", "as_callback"]

Logs = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a fit is about to do, for `Callback.on_fit_begin`.

    Attributes:
        first_epoch: number of the first epoch; 0 for a new run.
        epochs: how many epochs at most.
        steps: batches per epoch, or None if the data do not tell.
        directions: by name in the logs, "min" or "max", whichever is better.
        note: a sentence for the user, or None.
        waiting: grows while the device waits for the batches of a stream; `waiting.share` of the time so far.
    """

    first_epoch: int
    epochs: int
    steps: int | None
    directions: Mapping[str, str]
    note: str | None = None
    waiting: Waiting = dataclasses.field(default_factory=Waiting)


class Callback:
    """Override what you need. A plain function `f(epoch, logs, state)` serves as `on_epoch_end`, too.

    The states that callbacks get are views of the one live state: the next step takes their arrays away. Keep
    `state.copy()`.

    Attributes:
        every: how many steps there are between two calls of `on_step`; None for no calls. Counted over the
            whole run, so that a run that is resumed calls at the same steps.

    >>> import jlayers as jl
    >>> class Stop(jl.Callback):
    ...     def on_epoch_end(self, epoch, logs, state):
    ...         return logs["accuracy"] > 0.99
    """

    every: int | None = None

    def on_fit_begin(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before the first batch of epoch `epoch`, counted from 0."""

    def on_step(self, step: int, logs: Logs, state: TrainState) -> bool | None:
        """After each `every` steps, with the logs of the epoch so far; return True to stop."""

    def on_progress(self, epoch: int, step: int, logs: Logs) -> None:
        """A few times per second: the device has finished `step` batches of the epoch. For display only.

        The logs are those of that step, and empty before the first.
        """

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> bool | None:
        """After the epoch and its validation; return True to stop."""

    def on_fit_end(self, state: TrainState) -> TrainState | None:
        """At the end, also after an error; return a state to have `fit` return that one."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the callback, as plain data and arrays."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave, after `on_fit_begin`."""


EVENTS = [name for name in vars(Callback) if name.startswith("on_")]
_KERAS = {
    "on_train_begin": "on_fit_begin",
    "on_train_end": "on_fit_end",
    "on_train_batch_begin": "on_step, with every = 1",
    "on_train_batch_end": "on_step, with every = 1",
    "on_batch_begin": "on_step, with every = 1",
    "on_batch_end": "on_step, with every = 1",
    "on_test_end": "on_epoch_end, whose logs hold those of the validation",
}


def as_callback(value: Any) -> Callback:
    """A callback from itself or from a function `f(epoch, logs, state)`.

    Raises:
        TypeError: something else, or a class with an event that does not exist.
    """
    if isinstance(value, Callback):
        for name in dir(value):
            if name.startswith("on_") and name not in EVENTS:
                raise TypeError(
                    f"{type(value).__name__} has {name!r}, which is never called: override "
                    f"{_KERAS.get(name) or nearest(name, EVENTS)}; the events are {', '.join(EVENTS)}"
                )
        return value
    if isinstance(value, type) or not callable(value):
        raise TypeError(
            f"expected a jl.Callback or a function f(epoch, logs, state), received {value!r}"
            + ("; call it first" if isinstance(value, type) else "")
        )
    return _OnEpochEnd(value)


class _OnEpochEnd(Callback):
    def __init__(self, function: Any):
        self.function = function

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> bool | None:
        return self.function(epoch, logs, state)


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
        weights_on: where the best weights wait: "host", or "device", which is faster and takes its memory.

    Attributes:
        stopped_epoch: the epoch after which it stopped, or None.
        best: the best value.
        best_epoch: its epoch.

    Raises:
        KeyError: the logs do not have `monitor`.
        ValueError: arguments out of range.

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
        weights_on: Literal["host", "device"] = "host",
    ):
        if mode not in ("auto", "min", "max"):
            raise refused(
                ValueError, "expected mode 'auto', 'min' or 'max'", raised_by="EarlyStopping", mode=mode
            )
        if weights_on not in ("host", "device"):
            raise refused(
                ValueError,
                "expected weights_on 'host' or 'device'",
                raised_by="EarlyStopping",
                weights_on=weights_on,
            )
        if patience < 0:
            raise refused(
                ValueError, "expected patience of at least 0", raised_by="EarlyStopping", patience=patience
            )
        if not math.isfinite(min_delta):
            raise refused(
                ValueError, "expected a finite number", raised_by="EarlyStopping", min_delta=min_delta
            )
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.weights_on = weights_on
        self._begin("min")

    def _begin(self, direction: str) -> None:
        self.direction = direction
        self.wait = 0
        self.stopped_epoch: int | None = None
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._weights: Any = None

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
        weights, self._weights = self._weights, None
        if weights is None:
            return None
        params, model_state = weights.back() if isinstance(weights, HostCopy) else weights
        opt_state = optimizers.restarted(state.opt_state, params)
        return state.replace(params=params, state=model_state, opt_state=opt_state)

    def state(self) -> dict[str, Any]:
        names = ("wait", "best", "best_epoch", "stopped_epoch")
        kept = {name: getattr(self, name) for name in names}
        weights = self._weights.back() if isinstance(self._weights, HostCopy) else self._weights
        return kept if weights is None else kept | {"weights": weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.wait, self.best, self.best_epoch = state["wait"], state["best"], state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        if "weights" in state:
            self._hold(tuple(state["weights"]))

    def _keep(self, epoch: int, state: TrainState) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            state = state.to_evaluate()
            self._hold((state.params, state.state))

    def _hold(self, weights: Any) -> None:
        self._weights = None  # so that not two are held at a time
        self._weights = HostCopy(weights) if self.weights_on == "host" else copied(weights)

    def _improves(self, value: float, reference: float | None) -> bool:
        if reference is None:
            return not math.isnan(value)
        if self.direction == "min":
            return value + self.min_delta < reference
        return value - self.min_delta > reference
