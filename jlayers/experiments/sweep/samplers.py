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
from jlayers.experiments.sweep.trial import Trial

__all__ = ["Sampler", "Space", "registry"]

Space = Mapping[str, Sequence[Any] | Range]
registry = Registry("sampler")


class Sampler:
    """Chooses the values of a trial. It holds nothing but its options.

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
        direction: str,
        known: Sequence[Trial],
        pending: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """The values of trial `number`.

        Args:
            space: lists or ranges, by path.
            seed: of the sweep.
            number: of the trial.
            direction: "min" or "max", whichever is better.
            known: the results of the first trials.
            pending: the values of those between them and this one.
        """
        raise NotImplementedError


@registry.factory()
def grid() -> Any:
    """Every combination of the values; the last path of the file changes fastest.

    A range needs a `step`, or whole bounds.

    >>> [grid()({"a": [1, 2], "b": ["x", "y"]}, 0, number, "min", (), ()) for number in (0, 1, 2)]
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

    def __call__(self, space: Space, seed: int, number: int, *rest: Any) -> dict[str, Any]:
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

    >>> random()({"rate": Range(0.001, 0.1, log=True)}, 0, 0, "min", (), ())
    {'rate': 0.0401...}
    """
    return _Random()


class _Random(Sampler):
    def __call__(self, space: Space, seed: int, number: int, *rest: Any) -> dict[str, Any]:
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
    return _TPE({**options, "multivariate": multivariate})


class _TPE(Sampler):
    learns = store = True

    def __init__(self, options: Mapping[str, Any]):
        self.options = options

    def check(self, space: Space) -> None:
        from jlayers.experiments.sweep.optuna import require_optuna

        require_optuna()

    def __call__(
        self,
        space: Space,
        seed: int,
        number: int,
        direction: str,
        known: Sequence[Trial],
        pending: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        from jlayers.experiments.sweep.optuna import asked, tpe_sampler

        key = int(np.random.default_rng([seed, number]).integers(2**31))
        sampler = tpe_sampler(key, constant_liar=bool(pending), **self.options)
        return asked(sampler, space, direction, known, pending)
