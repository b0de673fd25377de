"""Check "overfit": a model that can learn at all learns one batch by heart."""

from __future__ import annotations

import math

import numpy as np

from jlayers.core.tree import count
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.rate import Range
from jlayers.experiments.doctor.trial import trials_of

__all__ = ["check_overfit"]

STEPS = 200
ENOUGH = 0.5  # of the loss of knowing nothing, for targets that can be learned by heart
ANYTHING = (
    0.95  # of it, for a loss whose least value is not known, such as that of a task or of blended targets
)
CAPACITY = 4  # trained numbers for each target of the batch; a model with fewer may be too small to learn it


def check_overfit(case: Case, tested: Range | None) -> list[Finding]:
    """Train on the first batch only, at the rate that learns best, with all that the training does."""
    if tested is None:
        return []
    trials = trials_of(case)
    steps = trials.steps_within(case.seconds, STEPS)
    batch = trials.whole_batches(1)
    known = bool(case.targets) and case.trainer.augment is None
    enough = (ENOUGH if known else ANYTHING) * tested.level
    tried = {}
    for factor in dict.fromkeys((tested.suggested, 1.0)):
        losses, _ = trials.train(batch * steps, factor)
        finite = losses[np.isfinite(losses)]
        tried[factor] = float(np.median(finite[-10:])) if len(finite) == len(losses) else np.inf
        if tried[factor] <= enough:
            break
    factor, least = min(tried.items(), key=lambda pair: pair[1])
    values = {"first": tested.level, "last": least, "steps": steps, "rate": tested.rate_text(factor)}
    if least <= enough or tested.level <= 1e-3:
        learned = "learns one batch by heart" if known else "learns on one batch"
        text = f"{learned}: from {tested.level:.3g} to {least:.3g} in {steps} steps"
        return [Finding("overfit", "note", "", text, values=values)]
    if _capacity(case) < CAPACITY * trials.size * _outputs(case):
        text = (
            f"comes from {tested.level:.3g} to {least:.3g} on one batch; it is too small to learn it by heart"
        )
        return [Finding("overfit", "note", "", text, values=values)]
    return [
        Finding(
            "overfit",
            "warning",
            "",
            f"the model does not learn one batch by heart: after {steps} steps on the same {trials.size} "
            f"samples the loss is {least:.3g}, and that of knowing nothing {tested.level:.3g}",
            "leave dropout and augmentation out to see whether they are too strong; else look for targets "
            "that do not belong to their inputs, layers that get no gradient, and a loss that does not fit",
            values,
        )
    ]


def _capacity(case: Case) -> int:
    """The number of trained numbers."""
    return sum(count(update.split(case.state.params)[0]) for update in case.trainer.updates)


def _outputs(case: Case) -> int:
    """The number of targets of a sample."""
    return sum(math.prod(target.output.shape[1:]) for target in case.targets) or 1
