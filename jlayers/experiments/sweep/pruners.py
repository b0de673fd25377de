"""Pruners: which trials end early, as bounds that a trial's metric has to keep, epoch by epoch.

The bounds follow from the curves of earlier trials and are known before a trial begins. They become an
ordinary callback of its configuration, `StopIfWorse`, so that a trial that is resumed or trained again ends
where it ended before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.experiments.sweep.trial import Trial, running_best

__all__ = ["Bounds", "registry"]

Bounds = list[float | None]  # by epoch; None where nothing is judged
registry = Registry("pruner")


@registry.factory()
def median(after: int = 1, trials: int = 4) -> Any:
    """A trial ends if its best value so far is worse than the median of the earlier trials' at that epoch.

    Args:
        after: epochs after which a trial is judged for the first time.
        trials: earlier trials that must have come to an epoch before anything is judged there.
    """
    return _percentile(50.0, after, trials)


@registry.factory()
def percentile(percentile: float = 25.0, after: int = 1, trials: int = 4) -> Any:
    """A trial goes on only while its best value so far is among the best so many percent of earlier trials'.

    Args:
        percentile: how many percent go on.
        after: epochs after which a trial is judged for the first time.
        trials: earlier trials that must have come to an epoch before anything is judged there.
    """
    if not 0 < percentile < 100:
        raise refused(ValueError, "expected a percentage between 0 and 100", percentile=percentile)
    return _percentile(percentile, after, trials)


def _percentile(best: float, after: int, trials: int) -> Any:
    if after < 1:
        raise refused(ValueError, "expected 1 epoch or more", after=after)
    if trials < 1:
        raise refused(ValueError, "expected 1 trial or more", trials=trials)

    def bounds(number: int, known: Sequence[Trial], epochs: int, direction: str) -> Bounds:
        curves = [_lasting(trial, epochs, direction) for trial in known]
        found: Bounds = [None] * epochs
        for epoch in range(after - 1, epochs):
            values = _at(curves, epoch)
            if len(values) >= trials:
                found[epoch] = float(np.percentile(values, best if direction == "min" else 100 - best))
        return found

    return bounds


@registry.factory()
def halving(first: int = 1, factor: int = 3) -> Any:
    """Successive halving: of the trials that come to an epoch, about one of `factor` goes on.

    Trials are judged after `first`, `first * factor`, `first * factor**2`, ... epochs.
    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), where a trial is judged
    by those that came to the epoch before it.

    Args:
        first: epochs before the first judgement.
        factor: one trial of so many goes on.
    """
    _check_halving(first, factor)

    def bounds(number: int, known: Sequence[Trial], epochs: int, direction: str) -> Bounds:
        return _rungs(known, first, factor, epochs, direction)

    return bounds


@registry.factory()
def hyperband(first: int = 1, factor: int = 3) -> Any:
    """Hyperband: trials take turns in brackets, each a successive halving that begins later than the last.

    Source: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization".

    Args:
        first: epochs before the first judgement of the first bracket.
        factor: one trial of so many goes on; later brackets begin so many times later.
    """
    _check_halving(first, factor)

    def bounds(number: int, known: Sequence[Trial], epochs: int, direction: str) -> Bounds:
        brackets = 1
        while first * factor**brackets <= epochs:
            brackets += 1
        bracket = number % brackets
        rivals = [trial for trial in known if trial.number % brackets == bracket]
        return _rungs(rivals, first * factor**bracket, factor, epochs, direction)

    return bounds


def _check_halving(first: int, factor: int) -> None:
    if first < 1:
        raise refused(ValueError, "expected 1 epoch or more", first=first)
    if factor < 2:
        raise refused(ValueError, "expected a factor of 2 or more", factor=factor)


def _rungs(known: Sequence[Trial], first: int, factor: int, epochs: int, direction: str) -> Bounds:
    curves = [_lasting(trial, epochs, direction) for trial in known]
    found: Bounds = [None] * epochs
    rung = first
    while rung < epochs:  # after the last epoch there is nothing to spare
        values = sorted(_at(curves, rung - 1), reverse=direction == "max")
        keep = (len(values) + 1) // factor
        if keep:
            found[rung - 1] = values[keep - 1]
        rung *= factor
    return found


def _lasting(trial: Trial, epochs: int, direction: str) -> Bounds:
    """The best value up to each epoch; a trial that was not ended by a pruner keeps its last to the end."""
    best = running_best(trial.curve, direction)
    if trial.status == "completed" and best:
        best += [best[-1]] * (epochs - len(best))
    return best


def _at(curves: Sequence[Bounds], epoch: int) -> list[float]:
    return [
        v for curve in curves if epoch < len(curve) and (v := curve[epoch]) is not None and math.isfinite(v)
    ]
