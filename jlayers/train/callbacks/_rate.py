"""The learning rate that an optimizer was made with, for callbacks that speak of rates and not of factors."""

from __future__ import annotations

from jlayers import optimizers
from jlayers.train.callbacks.base import Run

__all__ = ["own_rate"]


def own_rate(name: str, run: Run) -> float:
    """The one number that is the learning rate of the optimizer of a run.

    Args:
        name: name of what needs it, for the message.
        run: with its trainer.

    Raises:
        ValueError: there are several rates, a schedule, or none that is known.
    """
    updates = [] if run.trainer is None else run.trainer.updates
    rates = [rate for update in updates for rate in optimizers.learning_rates(update.optimizer).values()]
    if len(rates) == 1 and not callable(rates[0]) and float(rates[0]) > 0:
        return float(rates[0])
    found = ", ".join(repr(update.optimizer) for update in updates)
    raise ValueError(
        f"{name}: expected an optimizer of jl.optimizers whose learning rate is one number above 0, received "
        f"{found or 'none'}"
    )
