"""A lower learning rate when a value has not improved for some time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jlayers.core.errors import refused
from jlayers.train.callbacks._monitor import Mode, Monitor
from jlayers.train.callbacks._rate import own_rate
from jlayers.train.callbacks.base import Callback, Change, Logs, Run, register
from jlayers.train.state import TrainState

__all__ = ["ReduceLROnPlateau"]


@register
class ReduceLROnPlateau(Callback):
    """Lower the learning rate when a value has not improved for `patience` epochs; as in Keras.

    The rate is multiplied, so the optimizer may also have a schedule, which continues at the lower level.
    Nothing is compiled again. `LearningRateMonitor` writes the rate into the logs.

    Args:
        monitor: name in the logs.
        factor: by which the learning rate is multiplied; below 1.
        patience: epochs without improvement before it does so.
        mode: "min" or "max", whichever is better; "auto" knows it for losses and registered metrics.
        min_delta: smallest change that counts as an improvement.
        cooldown: epochs after a reduction that are not counted.
        min_lr: the rate is not reduced below this. It needs an optimizer whose learning rate is one number.

    Attributes:
        best: the best value.
        wait: epochs without improvement.

    Raises:
        KeyError: the logs do not have `monitor`.
        ValueError: arguments out of range; `min_lr` beside a schedule, or without a known learning rate.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((8, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.5), loss="mse")
    >>> plateau = jl.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e3)
    >>> state, _ = jl.fit(trainer, x, x[:, :1], epochs=4, callbacks=[plateau])
    >>> float(state.rate_factor)
    0.125
    """

    changes_rate = True

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: Mode = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        if not 0 < factor < 1:
            raise refused(ValueError, "expected a factor above 0 and below 1", factor=factor)
        for name, epochs in (("patience", patience), ("cooldown", cooldown)):
            if epochs < 0:
                raise refused(ValueError, f"expected a {name} of at least 0 epochs", **{name: epochs})
        if not 0 <= min_lr < float("inf"):
            raise refused(ValueError, "expected a finite learning rate of at least 0", min_lr=min_lr)
        self._watched = Monitor("ReduceLROnPlateau", monitor, mode, min_delta)
        self.monitor = monitor
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooling = 0  # epochs of the cooldown that are left

    def check(self, run: Run) -> None:
        self._watched.begin(run)
        if self.min_lr:
            own_rate("ReduceLROnPlateau: min_lr", run)

    def on_fit_begin(self, run: Run) -> None:
        self.check(run)
        self._begin()
        self._least = self.min_lr / own_rate("", run) if self.min_lr else 0.0  # as a factor

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> Change | None:
        current = self._watched.read(logs)
        if self.cooling > 0:
            self.cooling -= 1
            self.wait = 0
        if self._watched.improves(current, self.best):
            self.best = current
            self.wait = 0
        elif self.cooling == 0:
            self.wait += 1
            now = 1.0 if state.rate_factor is None else float(state.rate_factor)
            if self.wait >= self.patience and now > self._least:
                self.wait, self.cooling = 0, self.cooldown
                return Change(rate_factor=max(now * self.factor, self._least))
        return None

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "cooling": self.cooling}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best, self.wait, self.cooling = state["best"], state["wait"], state["cooling"]
