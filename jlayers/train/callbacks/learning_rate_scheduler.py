"""A learning rate for each epoch, from a schedule or a function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from jlayers import optimizers
from jlayers.core.errors import refused
from jlayers.optimizers import ScheduleLike
from jlayers.train.callbacks._rate import own_rate
from jlayers.train.callbacks.base import Callback, Change, Run, register

__all__ = ["LearningRateScheduler"]


@register
class LearningRateScheduler(Callback):
    """Set the learning rate at the beginning of each epoch; as in Keras.

    A schedule by steps needs no callback: it goes into the optimizer, as in
    `adam(learning_rate={"cosine_decay_schedule": ...})`. Nothing is compiled anew.

    Args:
        schedule: schedule of the number of the epoch, from 0: a schedule by name, or a function `f(epoch)` or
            `f(epoch, rate)`, which is given the rate of the epoch before.

    Raises:
        ValueError: an optimizer whose learning rate is not one number; a rate that is negative or not finite.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((8, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.5), loss="mse")
    >>> halved = jl.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    >>> state, _ = jl.fit(trainer, x, x[:, :1], epochs=3, callbacks=[halved])
    >>> float(state.rate_factor)
    0.25
    """

    changes_rate = True

    def __init__(self, schedule: ScheduleLike):
        self.schedule = optimizers.get_schedule(schedule)
        if not callable(self.schedule):
            raise refused(
                TypeError, "expected a schedule by name or a function of the epoch", schedule=schedule
            )
        takes = _positional(self.schedule)
        if takes not in (1, 2):
            raise refused(TypeError, "expected a function f(epoch) or f(epoch, rate)", schedule=schedule)
        self._takes_rate = takes == 2

    def check(self, run: Run) -> None:
        own_rate("LearningRateScheduler", run)

    def on_fit_begin(self, run: Run) -> None:
        self._own = own_rate("LearningRateScheduler", run)
        self._rate = self._own * run.rate_factor

    def on_epoch_begin(self, epoch: int) -> Change:
        given = (epoch, self._rate) if self._takes_rate else (epoch,)
        rate = float(self.schedule(*given))
        if not 0 <= rate < math.inf:
            raise ValueError(
                f"LearningRateScheduler: expected a finite learning rate of at least 0 from the schedule, "
                f"received {rate} for epoch {epoch}"
            )
        self._rate = rate
        return Change(rate_factor=rate / self._own)

    def state(self) -> dict[str, Any]:
        return {"rate": self._rate}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._rate = state["rate"]


def _positional(function: Any) -> int:
    """The number of arguments that a function needs; one if its signature is not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return max(
        1,
        sum(
            p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in parameters
        ),
    )
