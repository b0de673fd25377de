"""Samplers choose the values of a trial, as a function of the seed, its number and earlier results."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.config.sweep import Range
from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.experiments.sweep.optuna import Study, made
from jlayers.experiments.sweep.optuna_names import enter
from jlayers.experiments.sweep.trial import Trial

__all__ = ["OfOptuna", "Sampler", "Space", "extremes", "registry"]

Space = Mapping[str, Sequence[Any] | Range]
registry = Registry(
    "sampler",
    instead={
        "optuna.BruteForceSampler": "grid",
        "optuna.GridSampler": "grid",
        "optuna.GPSampler": "optuna.TPESampler or optuna.CmaEsSampler; GPSampler needs PyTorch",
    },
)


class Sampler:
    """Chooses the values of a trial.

    Attributes:
        learns: whether the results of earlier trials change what it chooses.
        store: whether Optuna's store of the trials is kept beside them.
    """

    learns = False
    store = False

    def check(self, space: Space) -> None:
        """Raise a ValueError if it cannot choose from these values."""

    def count(self, space: Space) -> int | None:
        """The number of different trials; None if there is no end to them."""
        return None

    def __call__(
        self,
        space: Space,
        seed: int,
        number: int,
        direction: str = "min",
        known: Sequence[Trial] = (),
        parallel: int = 1,
        pruner: Any = None,
    ) -> dict[str, Any]:
        """The values of trial `number`.

        Args:
            space: lists or ranges, by path.
            seed: seed of the sweep.
            number: number of the trial.
            direction: "min" or "max", whichever is better.
            known: the trials 0 to `number - parallel`, which have ended.
            parallel: how many trials do not know of each other.
            pruner: of Optuna's, if it ends trials; Hyperband changes which trials count.
        """
        raise NotImplementedError


@registry.factory()
def grid() -> Any:
    """Every combination of the values; the last path of the file changes fastest.

    A range needs a `step`, or whole bounds.

    >>> [grid()({"a": [1, 2], "b": ["x", "y"]}, 0, number) for number in (0, 1, 2)]
    [{'a': 1, 'b': 'x'}, {'a': 1, 'b': 'y'}, {'a': 2, 'b': 'x'}]
    """
    return _Grid()


class _Grid(Sampler):
    def check(self, space: Space) -> None:
        for path, given in space.items():
            if isinstance(given, Range) and given.count is None:
                raise refused(
                    ValueError,
                    f"expected a list of values for {path}, or a range with a step",
                    instead="a grid needs a last value; write a list, or choose method: random",
                    values=given,
                )

    def count(self, space: Space) -> int:
        return math.prod(_count(given) for given in space.values())

    def __call__(self, space: Space, seed: int, number: int, *rest: Any, **more: Any) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for path, given in reversed(list(space.items())):
            number, index = divmod(number, _count(given))
            chosen[path] = given.at(index) if isinstance(given, Range) else given[index]
        return {path: chosen[path] for path in space}


def _count(given: Sequence[Any] | Range) -> int:
    return (given.count or 0) if isinstance(given, Range) else len(given)


@registry.factory()
def random() -> Any:
    """Values drawn evenly, each on its own; evenly in the logarithm for a range with `log: true`.

    What is drawn for a path depends on the seed, the path and the trial's number only.

    >>> random()({"rate": Range(0.001, 0.1, log=True)}, 0, 0)
    {'rate': 0.0401...}
    """
    return _Random()


class _Random(Sampler):
    def __call__(self, space: Space, seed: int, number: int, *rest: Any, **more: Any) -> dict[str, Any]:
        return {
            path: _drawn(given, [seed, number, zlib.crc32(path.encode())]) for path, given in space.items()
        }


def _drawn(given: Sequence[Any] | Range, key: list[int]) -> Any:
    rng = np.random.default_rng(key)
    if not isinstance(given, Range):
        return given[int(rng.integers(len(given)))]
    if given.count is not None:
        return given.at(int(rng.integers(given.count)))
    if not given.log:
        return float(rng.uniform(given.low, given.high))
    half = 0.5 if given.whole else 0.0  # each whole number has its neighborhood
    value = math.exp(rng.uniform(math.log(given.low - half), math.log(given.high + half)))
    return min(max(round(value) if given.whole else value, given.low), given.high)


def extremes(space: Space) -> list[dict[str, Any]]:
    """Values of one path each that a sampler may choose: all of a list, both ends of a range."""
    ends = {p: [g.low, g.high] if isinstance(g, Range) else g for p, g in space.items()}
    return [{path: value} for path, values in ends.items() for value in values]


@registry.factory()
def tpe(n_startup_trials: int = 10, n_ei_candidates: int = 24, multivariate: bool = False) -> Any:
    """Optuna's tree-structured Parzen estimator: values like those of good trials (extra `optuna`).

    Args:
        n_startup_trials: how many trials are drawn at random first.
        n_ei_candidates: how many candidates are drawn for each value, of which the best is taken.
        multivariate: whether values are chosen together instead of one by one.
    """
    if n_startup_trials < 1:
        raise refused(ValueError, "expected 1 trial or more", n_startup_trials=n_startup_trials)
    if n_ei_candidates < 1:
        raise refused(ValueError, "expected 1 candidate or more", n_ei_candidates=n_ei_candidates)
    options = {"n_startup_trials": n_startup_trials, "n_ei_candidates": n_ei_candidates}
    return OfOptuna("TPESampler", {**options, "multivariate": multivariate})


class OfOptuna(Sampler):
    """A sampler of Optuna's."""

    learns = store = True

    def __init__(self, cls: str, options: Mapping[str, Any]):
        self.cls, self.options = cls, dict(options)
        self._study: tuple[Any, Study] | None = None  # the last one, which most calls only bring forward

    def check(self, space: Space) -> None:
        made(self.cls, **self.options)
        if self.cls in _FOR_RANGES and not any(isinstance(given, Range) for given in space.values()):
            raise refused(
                ValueError,
                f"expected a range to try by {self.cls}, which draws values of lists at random",
                instead="choose method: tpe, which learns of lists, too",
                values=dict(space),
            )

    def __call__(
        self,
        space: Space,
        seed: int,
        number: int,
        direction: str = "min",
        known: Sequence[Trial] = (),
        parallel: int = 1,
        pruner: Any = None,
    ) -> dict[str, Any]:
        key = repr((space, seed, direction, parallel))
        if self._study is None or self._study[0] != key or not self._study[1].follows(known):
            sampler = made(self.cls, seed=seed, **self.options)
            self._study = key, Study(direction, parallel, sampler, pruner, space)
        return self._study[1].values(number, known)


_FOR_RANGES = ("CmaEsSampler",)
_OPTUNAS = (
    "CmaEsSampler",
    "NSGAIISampler",
    "NSGAIIISampler",
    "QMCSampler",
    "RandomSampler",
    "TPESampler",
)
registry.add_group("optuna", lambda: enter(registry, _OPTUNAS, OfOptuna))
