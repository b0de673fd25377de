"""The callbacks of a fit together: what they ask for, checked before the training begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jlayers.train.callbacks import Callback, Run
from jlayers.train.probes import Probe
from jlayers.train.state import TrainState
from jlayers.train.step import TrainStep
from jlayers.train.trainer import Trainer

__all__ = ["directions_of", "expected_run", "step_for", "with_rate_factor"]


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
