"""Short trainings from one state over the same batches, each with its own multiple of the learning rate."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jlayers.data.batches import Batch
from jlayers.experiments.doctor.case import Case
from jlayers.optimizers import lenient
from jlayers.optimizers.rate import learning_rates, with_rates
from jlayers.train.probes import Moment, Probe
from jlayers.train.state import TrainState
from jlayers.train.trainer import Trainer

__all__ = ["Trials", "trials_of"]

LOSS = "_doctor_loss"
WARM = 10  # steps over which the rate rises, so that a high one is not judged by its first step


def _loss(moment: Moment) -> Any:
    return moment.loss


_PROBE = Probe(LOSS, _loss, over="last")


class Trials:
    """The training step of a case at a constant rate, compiled once.

    A schedule stands still at its highest rate, since that is where a rate does harm.

    Attributes:
        rate: the highest learning rate of the training; None if the optimizer does not tell it.
        compiled: the program, for its cost.
        step_seconds: what a step takes.
    """

    def __init__(self, case: Case):
        self.case = case
        steps = max(case.steps, 1)
        rates = list(learning_rates(case.trainer.optimizer).values())
        self.rate = max(_highest_rate(rate, steps) for rate in rates) if rates else None
        self.trainer: Trainer = dataclasses.replace(
            case.trainer, optimizer=_at_highest(case.trainer.optimizer, steps), unfreeze=None
        )
        state = self.trainer.adopt(case.state).replace(rate_factor=np.float32(1.0))
        self.step = self.trainer.step_with({update.name: [_PROBE] for update in self.trainer.updates})
        self.start: TrainState = self.step.prepare(state.copy(), case.first)
        form = jax.tree.map(np.asarray, case.first)
        self.compiled = self.step.lower(self.start, form).compile()
        self.size = jax.tree.leaves(form)[0].shape[0]
        self.step_seconds = self._seconds_of_a_step()

    def _seconds_of_a_step(self) -> float:
        """The time of the fastest of some steps: the others waited for something else."""
        flat, key_data = self.start.copy().flat, self.start.key_data
        taken = []
        for batch in self.whole_batches(8):
            begun = time.perf_counter()
            flat, _ = jax.block_until_ready(self.compiled(flat, key_data, batch))
            taken.append(time.perf_counter() - begun)
            if sum(taken) > self.case.seconds:
                break
        return min(taken)

    def whole_batches(self, count: int) -> list[Batch]:
        """So many batches of one size, in the order of the training."""
        return list(itertools.islice(self._endless(), count))

    def _endless(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            for batch in self.case.batches.epoch(epoch):
                if jax.tree.leaves(batch)[0].shape[0] == self.size:
                    yield batch

    def steps_within(self, seconds: float, most: int) -> int:
        """The number of steps that fit into the time."""
        return int(min(most, seconds / max(self.step_seconds, 1e-6)))

    def train(self, batches: list[Batch], factor: float) -> tuple[np.ndarray, TrainState]:
        """Train on each of the batches; returns the loss before each step, and the state.

        Args:
            batches: batches of one size.
            factor: factor of the learning rate.
        """
        state, losses = self.start.copy(), []
        flat, key_data = state.flat, state.key_data
        warm = min(WARM, max(len(batches) // 5, 1))
        for number, batch in enumerate(batches):
            if number <= warm:
                part = np.float32(factor * min(1.0, (number + 1) / warm))
                flat = state.replace(flat=flat).replace(rate_factor=part).flat
            flat, logs = self.compiled(flat, key_data, batch)
            losses.append(next(value for name, value in logs.items() if name.endswith(LOSS)))
        return np.array([float(loss) for loss in losses]), state.replace(flat=flat)


def _highest_rate(rate: Any, steps: int) -> float:
    """The highest rate of a schedule."""
    if not callable(rate):
        return float(rate)
    schedule: Any = rate
    counts = np.unique(np.linspace(0, steps - 1, num=min(steps, 64)).astype(np.int32))
    with lenient():
        return max(float(schedule(np.int32(count))) for count in counts)


def _at_highest(optimizer: Any, steps: int) -> Any:
    """The optimizer with numbers in place of schedules; one that does not tell its rates stays."""
    if not learning_rates(optimizer):
        return optimizer
    return with_rates(optimizer, lambda rate: _highest_rate(rate, steps))


@functools.lru_cache(maxsize=4)
def trials_of(case: Case) -> Trials:
    """The trials of a case, compiled once for all checks that train."""
    return Trials(case)
