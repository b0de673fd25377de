"""The learning rate in the logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jlayers import optimizers
from jlayers.train.callbacks.base import Callback, Run, register
from jlayers.train.probes import Moment, Probe
from jlayers.train.update import Update

__all__ = ["LearningRateMonitor"]


@dataclasses.dataclass(frozen=True)
class _Rate:
    """One of the learning rates of an optimizer at a step."""

    optimizer: Any
    name: str

    def __call__(self, moment: Moment) -> Any:
        return optimizers.rates_at(self.optimizer, moment.opt_state, moment.rate_factor)[self.name]


@register
class LearningRateMonitor(Callback):
    """Write the learning rate of the last step into the logs and the history, as `learning_rate`.

    The rates of `multi_optimizer` are named by their patterns: that of "encoder/**" is
    `learning_rate_encoder`.

    Raises:
        ValueError: an optimizer from outside of `jl.optimizers`, which does not tell its learning rate.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((8, 2), np.float32)
    >>> schedule = {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": 4}}
    >>> trainer = jl.compile(jl.Dense(1), {"sgd": {"learning_rate": schedule}}, loss="mse")
    >>> callback = jl.callbacks.LearningRateMonitor()
    >>> _, history = jl.fit(trainer, x, x[:, :1], epochs=3, callbacks=[callback])
    >>> history["learning_rate"]
    [1.0, 0.75, 0.5]
    """

    def check(self, run: Run) -> None:
        for update in [] if run.trainer is None else run.trainer.updates:
            if not optimizers.learning_rates(update.optimizer):
                raise ValueError(
                    f"LearningRateMonitor: expected an optimizer of jl.optimizers with a learning rate, "
                    f"received {update.optimizer!r}"
                )

    def probes(self, update: Update) -> Sequence[Probe]:
        rates = optimizers.learning_rates(update.optimizer)
        return [Probe(name, _Rate(update.optimizer, name), over="last") for name in rates]
