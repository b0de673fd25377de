"""Pruners: which trials end early, and by what callback of their configuration.

A pruner judges a trial by the trials that had ended before it was asked for, and by its own values. The
process that trains it knows both, so a trial that is resumed or trained again ends where it ended before.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.core.spec import to_data
from jlayers.experiments.sweep.ledger import LEDGER, read_ledger
from jlayers.experiments.sweep.optuna import Judge, Study, made
from jlayers.experiments.sweep.optuna_names import enter
from jlayers.experiments.sweep.trial import Trial, better, running_best

__all__ = ["Bounds", "OfOptuna", "Place", "Pruner", "registry"]

Bounds = list[float | None]  # by epoch; None where nothing is judged
registry = Registry("pruner")


@dataclasses.dataclass(frozen=True)
class Place:
    """A trial among the others.

    Attributes:
        number: number of the trial.
        known: the trials 0 to `number - parallel`, which have ended.
        parallel: how many trials do not know of each other.
        epochs: epochs of a trial that is not ended early.
        direction: "min" or "max", whichever is better.
    """

    number: int
    known: Sequence[Trial]
    parallel: int
    epochs: int
    direction: str


class Pruner:
    """Ends poor trials early.

    Attributes:
        of_optuna: Optuna's own pruner, or None.
    """

    of_optuna: Any = None

    def callback(self, place: Place) -> Mapping[str, Mapping[str, Any]]:
        """The callback of a trial's configuration, `{name: arguments}`; empty if nothing ends it early.

        `monitor` and `mode` are added to the arguments.
        """
        raise NotImplementedError

    def ended(self, place: Place, curve: Sequence[float | None]) -> bool:
        """True if it was this callback that ended a trial with these values."""
        raise NotImplementedError


class ByBounds(Pruner):
    """A rule that gives bounds which the best value of a trial has to keep, epoch by epoch.

    Args:
        bounds: returns the bounds for the place of a trial.
    """

    def __init__(self, bounds: Callable[[Place], Bounds]):
        self.bounds = bounds

    def callback(self, place: Place) -> Mapping[str, Mapping[str, Any]]:
        bounds = self.bounds(place)
        return {"StopIfWorse": {"than": bounds}} if any(bound is not None for bound in bounds) else {}

    def ended(self, place: Place, curve: Sequence[float | None]) -> bool:
        bound, last = self.bounds(place)[len(curve) - 1], running_best(curve, place.direction)[-1]
        behind = bound is not None and (last is None or better(bound, last, place.direction))
        return behind and len(curve) < place.epochs


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
    """A trial continues while its best value so far is among the best `percentile` percent of earlier ones.

    Args:
        percentile: the percentage of trials that continue.
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

    def bounds(place: Place) -> Bounds:
        curves = [_best_to_the_end(trial, place) for trial in place.known]
        found: Bounds = [None] * place.epochs
        for epoch in range(after - 1, place.epochs):
            values = _values_at(curves, epoch)
            if len(values) >= trials:
                found[epoch] = float(np.percentile(values, best if place.direction == "min" else 100 - best))
        return found

    return ByBounds(bounds)


@registry.factory()
def halving(first: int = 1, factor: int = 3) -> Any:
    """Successive halving: of the trials that come to an epoch, about one of `factor` continues.

    Trials are judged after `first`, `first * factor`, `first * factor**2`, ... epochs.
    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), where a trial is judged
    by those that came to the epoch before it.

    Args:
        first: epochs before the first judgement.
        factor: one trial of so many continues.
    """
    _check_halving(first, factor)
    return ByBounds(lambda place: _rungs(place, first, factor))


@registry.factory()
def hyperband(first: int = 1, factor: int = 3) -> Any:
    """Hyperband: trials take turns in brackets, each a successive halving that begins later than the last.

    Source: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization".

    Args:
        first: epochs before the first judgement of the first bracket.
        factor: one trial of so many continues; later brackets begin so many times later.
    """
    _check_halving(first, factor)

    def bounds(place: Place) -> Bounds:
        brackets = 1
        while first * factor**brackets <= place.epochs:
            brackets += 1
        bracket = place.number % brackets
        rivals = [trial for trial in place.known if trial.number % brackets == bracket]
        return _rungs(dataclasses.replace(place, known=rivals), first * factor**bracket, factor)

    return ByBounds(bounds)


def _check_halving(first: int, factor: int) -> None:
    if first < 1:
        raise refused(ValueError, "expected 1 epoch or more", first=first)
    if factor < 2:
        raise refused(ValueError, "expected a factor of 2 or more", factor=factor)


def _rungs(place: Place, first: int, factor: int) -> Bounds:
    curves = [_best_to_the_end(trial, place) for trial in place.known]
    found: Bounds = [None] * place.epochs
    rung = first
    while rung < place.epochs:  # after the last epoch there is nothing to spare
        values = sorted(_values_at(curves, rung - 1), reverse=place.direction == "max")
        keep = (len(values) + 1) // factor
        if keep:
            found[rung - 1] = values[keep - 1]
        rung *= factor
    return found


def _best_to_the_end(trial: Trial, place: Place) -> Bounds:
    """The best value up to each epoch; a trial that was not ended by a pruner keeps its last to the end."""
    best = running_best(trial.curve, place.direction)
    if trial.status == "completed" and best:
        best += [best[-1]] * (place.epochs - len(best))
    return best


def _values_at(curves: Sequence[Bounds], epoch: int) -> list[float]:
    return [
        v for curve in curves if epoch < len(curve) and (v := curve[epoch]) is not None and math.isfinite(v)
    ]


class OfOptuna(Pruner):
    """A pruner of Optuna's. It is asked by the process that trains the trial, after each epoch."""

    def __init__(self, cls: str, options: Mapping[str, Any]):
        self.cls, self.options = cls, options
        _ = self.of_optuna  # which refuses what is wrong

    @property
    def of_optuna(self) -> Any:
        """A new one: some keep what they have seen."""
        return made(self.cls, **{name: _unwrapped(value) for name, value in self.options.items()})

    def callback(self, place: Place) -> Mapping[str, Mapping[str, Any]]:
        rule = to_data({f"optuna.{self.cls}": self.options})
        ledger = {"ledger": LEDGER, "trial": place.number, "parallel": place.parallel}
        return {"StopIfPruned": {"pruner": rule, **ledger}}

    def judge(self, ledger: str | os.PathLike[str], number: int, parallel: int, direction: str) -> Judge:
        """Judges a trial of the sweep that keeps this ledger; see `Study.judge`.

        Raises:
            FileNotFoundError: there is no ledger.
            ValueError: a trial that must have ended is not in it.
        """
        known = max(0, number - parallel + 1)
        return self._judge(number, parallel, direction, read_ledger(ledger, known) if known else [])

    def _judge(self, number: int, parallel: int, direction: str, known: Sequence[Trial]) -> Judge:
        return Study(direction, parallel, pruner=self.of_optuna).judge(number, known)

    def ended(self, place: Place, curve: Sequence[float | None]) -> bool:
        judge = self._judge(place.number, place.parallel, place.direction, place.known)
        return [judge(value) for value in curve][-1]


def _unwrapped(value: Any) -> Any:
    """An argument that is a pruner, as Optuna's own object."""
    inner = getattr(value, "function", value)
    if isinstance(inner, Pruner):
        if inner.of_optuna is None:
            what = "expected a pruner of Optuna's, such as optuna.MedianPruner"
            raise refused(ValueError, what, wrapped_pruner=value)
        return inner.of_optuna
    return value


_OPTUNAS = (
    "HyperbandPruner",
    "MedianPruner",
    "NopPruner",
    "PatientPruner",
    "PercentilePruner",
    "SuccessiveHalvingPruner",
    "ThresholdPruner",
    "WilcoxonPruner",
)
registry.add_group("optuna", lambda: enter(registry, _OPTUNAS, OfOptuna))
