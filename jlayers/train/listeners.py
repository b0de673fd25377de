"""The callbacks of a fit together: what they ask for, what they change, and how they hear of its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jlayers.train.callbacks import Callback, Change, Run
from jlayers.train.probes import Probe
from jlayers.train.state import TrainState
from jlayers.train.step import TrainStep
from jlayers.train.trainer import Trainer

__all__ = [
    "change_of",
    "directions_of",
    "expected_run",
    "step_for",
    "tell_end",
    "tell_error",
    "with_rate_factor",
]


def step_for(callbacks: Sequence[Callback], trainer: Trainer) -> TrainStep:
    """The compiled step that measures what the callbacks ask for."""
    probes: dict[str, list[Probe]] = {
        update.name: [probe for callback in callbacks for probe in callback.probes(update)]
        for update in trainer.updates
    }
    return trainer.step_with(probes)


def with_rate_factor(state: TrainState, callbacks: Sequence[Callback]) -> TrainState:
    """The state with a place for changes of the learning rate, if a callback may make some."""
    if state.rate_factor is not None or not any(callback.changes_rate for callback in callbacks):
        return state
    return state.replace(rate_factor=jnp.ones((), jnp.float32))


def directions_of(
    trainer: Trainer, step: TrainStep, params: Any, state: Any, batch: Any, validated: bool
) -> dict[str, str]:
    """The names in the logs of `fit`, each with "min" or "max", whichever is better."""
    own = dict(step.tasks.review(params, state, batch).directions)
    if not validated:
        return own
    evaluated = trainer.tasks.review(params, state, batch).directions
    prefixes = ["val_"] if trainer.ema is None else ["val_", "val_ema_"]
    return own | {f"{prefix}{key}": way for prefix in prefixes for key, way in evaluated.items()}


def expected_run(
    trainer: Trainer,
    callbacks: Sequence[Callback],
    params: Any,
    state: Any,
    batch: Any,
    validated: bool,
    epochs: int,
    steps: int | None = None,
) -> Run:
    """The run that a fit would tell its callbacks of, from specs: to check them before there is any."""
    step = step_for(callbacks, trainer)
    ways = directions_of(trainer, step, params, state, batch, validated)
    return Run(0, epochs, steps, ways, trainer=trainer)


def change_of(callback: Callback, answer: Any) -> Change:
    """The change that a callback's answer to an event asks for.

    Raises:
        TypeError: it changes the learning rate, and has not said so beforehand.
        ValueError: a factor that no learning rate can have.
    """
    change = answer if isinstance(answer, Change) else Change(stop=bool(answer))
    name, factor = type(callback).__name__, change.rate_factor
    if factor is not None and not callback.changes_rate:
        raise TypeError(
            f"{name} changes the learning rate, which must be known beforehand: write changes_rate = True in "
            f"the class"
        )
    if factor is not None and not 0 <= factor < math.inf:
        raise ValueError(f"{name}: expected a finite rate_factor of at least 0, received {factor}")
    return change


def tell_error(callbacks: Sequence[Callback], error: BaseException) -> bool:
    """Tells each callback of an error, whatever another one raises; True if one takes it as the end."""
    taken = False
    for callback in callbacks:
        try:
            taken |= bool(callback.on_error(error))
        except BaseException as second:
            error.add_note(f"{type(callback).__name__}.on_error: {type(second).__name__}: {second}")
    return taken


def tell_end(
    callbacks: Sequence[Callback],
    state: TrainState,
    history: Mapping[str, Any],
    failed: BaseException | None = None,
) -> TrainState:
    """Tells each callback of the end, whatever another one raises; gives the state that `fit` returns."""
    raised: BaseException | None = None
    for callback in callbacks:
        try:
            state = callback.on_fit_end(state) or state
        except BaseException as error:
            if first := failed or raised:
                first.add_note(f"{type(callback).__name__}.on_fit_end: {type(error).__name__}: {error}")
            else:
                raised = error
                vars(error).update(state=state, history=history)
    if raised is not None:
        raise raised
    if failed is None:
        for callback in callbacks:
            state = callback.to_keep(state)
    return state
