"""Early stopping: no further epoch when a value has not improved for some time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jlayers import optimizers
from jlayers.core.errors import refused
from jlayers.train.callbacks._monitor import Mode, Monitor
from jlayers.train.callbacks.base import Callback, Logs, Run, register
from jlayers.train.state import HostCopy, TrainState, copied

__all__ = ["EarlyStopping"]


@register
class EarlyStopping(Callback):
    """Stop when a value in the logs has not improved for `patience` epochs; as in Keras.

    Args:
        monitor: name in the logs.
        min_delta: smallest change that counts as an improvement.
        patience: epochs without improvement before it stops.
        mode: "min" or "max", whichever is better; "auto" knows it for losses and registered metrics.
        baseline: only values better than this restart the count of epochs.
        restore_best_weights: return the parameters and the model's state of the best epoch.
        start_from_epoch: epochs before this one are ignored.
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
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        weights_on: Literal["host", "device"] = "host",
    ):
        if weights_on not in ("host", "device"):
            raise refused(ValueError, "expected weights_on 'host' or 'device'", weights_on=weights_on)
        if patience < 0:
            raise refused(ValueError, "expected patience of at least 0", patience=patience)
        self._watched = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.monitor = monitor
        self.min_delta = self._watched.min_delta
        self.patience = patience
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.weights_on = weights_on
        self._begin()

    @property
    def direction(self) -> str:
        """Whichever is better, "min" or "max", once a fit has begun."""
        return self._watched.direction

    def _begin(self) -> None:
        self.wait = 0
        self.stopped_epoch: int | None = None
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._weights: Any = None

    def check(self, run: Run) -> None:
        self._watched.begin(run)

    def on_fit_begin(self, run: Run) -> None:
        self._watched.begin(run)
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> bool | None:
        current = self._watched.read(logs)
        if epoch < self.start_from_epoch:
            return None
        if self.best_epoch is None:  # should no epoch ever improve, the first one stands
            self._keep(epoch, state)
        self.wait += 1
        if self._watched.improves(current, self.best):
            self.best = current
            self._keep(epoch, state)
            if self._watched.improves(current, self.baseline):
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
        params, model_state, *average = weights.back() if isinstance(weights, HostCopy) else weights
        opt_state = optimizers.restarted(state.opt_state, params)
        kept = state.replace(params=params, state=model_state, opt_state=opt_state)
        return kept.replace(average=average[0]) if average else kept

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
            average = () if state.average is None else (state.average,)
            state = state.to_evaluate()
            self._hold((state.params, state.state, *average))

    def _hold(self, weights: Any) -> None:
        self._weights = None  # so that not two are held at a time
        self._weights = HostCopy(weights) if self.weights_on == "host" else copied(weights)
