"""Check "rate": short trainings at multiples of the learning rate, and what they say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.cost import time_of
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.trial import Trials, trials_of

__all__ = ["Range", "check_rate", "range_of", "too_slow"]

FACTORS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
MOST_STEPS, LEAST_STEPS = 100, 20


@dataclasses.dataclass(frozen=True)
class Range:
    """The losses of short trainings, by the factor of the learning rate.

    Attributes:
        curves: the loss before each step, by factor.
        level: the loss of someone who has learned nothing: that of the first step, or of a constant
            prediction if this is less.
        rate: the learning rate at factor 1, or None if it is not known.
    """

    curves: Mapping[float, np.ndarray]
    level: float
    rate: float | None

    @property
    def steps(self) -> int:
        return len(self.curves[1.0])

    def loss_at(self, factor: float, steps: float | None = None) -> float:
        """The loss that a factor has come to, the median of a tenth of the steps; infinite if it broke."""
        curve = self.curves[factor]
        end = len(curve) if steps is None else max(1, min(len(curve), round(steps)))
        part = curve[max(0, end - max(3, len(curve) // 10)) : end]
        value = float(np.median(part))
        return value if np.isfinite(curve[:end]).all() else np.inf

    def gain(self, factor: float, steps: float | None = None) -> float:
        """The distance that the loss has come below the level of knowing nothing."""
        return max(0.0, self.level - self.loss_at(factor, steps))

    @property
    def best(self) -> float:
        return max(self.curves, key=lambda factor: (self.gain(factor), -factor))

    @property
    def suggested(self) -> float:
        """The lowest factor that comes most of the way of the best one; high rates fail later."""
        most = self.gain(self.best)
        return min(factor for factor in self.curves if self.gain(factor) >= 0.8 * most)

    def rate_text(self, factor: float) -> str:
        if self.rate is None:
            return f"{factor:g} times the present rate"
        return f"{float(f'{self.rate * factor:.1g}'):g}"


def range_of(case: Case) -> Range | None:
    """The short trainings of a case; None where steps are too slow for them."""
    trials = trials_of(case)
    steps = trials.steps_within(case.seconds / len(FACTORS), MOST_STEPS)
    if steps < LEAST_STEPS:
        return None
    batches = trials.whole_batches(steps)
    curves = {factor: trials.train(batches, factor)[0] for factor in FACTORS}
    first = float(np.median([curve[0] for curve in curves.values()]))
    return Range(curves, min(first, _constant_level(case, trials, first)), trials.rate)


def too_slow(case: Case) -> str:
    """Why there are no short trainings."""
    step = trials_of(case).step_seconds
    return (
        f"a step takes {time_of(step)}, and {LEAST_STEPS} of them at each of {len(FACTORS)} learning rates "
        f"would take {time_of(step * LEAST_STEPS * len(FACTORS))}: allow that many seconds"
    )


def _constant_level(case: Case, trials: Trials, first: float) -> float:
    """The loss of always predicting how often each class occurs; `first` where that is not defined."""
    targets = case.targets
    if len(targets) != 1 or targets[0].labels is None or targets[0].loss.from_logits is None:
        return first
    if "rossentropy" not in targets[0].loss.name:
        return first
    shares = np.unique(targets[0].labels, return_counts=True)[1] / len(targets[0].labels)
    return float(-(shares * np.log(shares)).sum())


def check_rate(case: Case, tested: Range | None) -> list[Finding]:
    """The learning rate against multiples of it, over the same batches from the same weights."""
    if tested is None:
        return []
    values: dict[str, Any] = {
        "rate": tested.rate,
        "steps": tested.steps,
        "losses": {f"{factor:g}": tested.loss_at(factor) for factor in tested.curves},
        "suggested_factor": tested.suggested,
        "suggested": None if tested.rate is None else float(f"{tested.rate * tested.suggested:.1g}"),
    }
    where = "optimizer" if tested.rate is None else f"learning_rate={tested.rate:.3g}"
    if finding := _too_high(tested, where, values) or _too_low(case, tested, where, values):
        return [finding]
    best = tested.best
    least = (
        "the least of the rates tried"
        if best == 1
        else (f"{tested.rate_text(best)} would reach the least, {tested.loss_at(best):.3g}")
    )
    text = f"after {tested.steps} steps the loss is {tested.loss_at(1.0):.3g}; {least}"
    return [Finding("rate", "note", where, text, values=values)]


def _too_high(tested: Range, where: str, values: dict[str, Any]) -> Finding | None:
    """A tenth of the rate, or less, learns clearly more in the same few steps, which favor a high rate."""
    lower = [factor for factor in tested.curves if factor <= 0.1]
    best = max(lower, key=tested.gain)
    now, then = tested.loss_at(1.0), tested.loss_at(best)
    if not np.isfinite(then) or tested.gain(best) < 0.2 * tested.level:
        return None
    if not (now > 2 * then and tested.gain(1.0) < 0.7 * tested.gain(best)):
        return None
    came = (
        f"comes to a loss of {now:.3g}" if np.isfinite(now) else "breaks (the loss becomes NaN or infinite)"
    )
    return Finding(
        "rate",
        "error",
        where,
        f"the learning rate is too high: within {tested.steps} steps the training {came}, and "
        f"{tested.rate_text(best)} comes to {then:.3g} on the same batches",
        f"set the learning rate to about {tested.rate_text(tested.suggested)}",
        values,
    )


def _too_low(case: Case, tested: Range, where: str, values: dict[str, Any]) -> Finding | None:
    """The whole training at this rate goes no further than a few steps at a higher one."""
    if case.is_given("") or tested.gain(1.0) > 0.2 * tested.gain(tested.best):
        return None
    if tested.gain(tested.best) < 0.2 * tested.level:
        return None  # no rate learns in so few steps
    higher = [f for f in tested.curves if f >= 10 and tested.gain(f) >= 0.7 * tested.gain(tested.best)]
    if not higher:
        return None
    factor = min(higher)
    equal = case.steps / factor  # steps at that rate that go as far as all steps at this one
    if equal >= tested.steps or tested.gain(factor, equal) >= 0.5 * tested.gain(factor):
        return None
    return Finding(
        "rate",
        "error",
        where,
        f"the learning rate is too low: within {tested.steps} steps the loss falls to "
        f"{tested.loss_at(1.0):.3g}, and at {tested.rate_text(factor)} to {tested.loss_at(factor):.3g}; all "
        f"{case.steps} steps of this training go about as far as {equal:.0f} steps there",
        f"set the learning rate to about {tested.rate_text(tested.suggested)}",
        values,
    )
