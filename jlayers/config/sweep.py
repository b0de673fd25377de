"""The section `sweep`: which values are tried, how they are chosen, and how trials are compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from jlayers.config.derive import Record
from jlayers.core.errors import refused
from jlayers.core.registry import Kind

__all__ = ["PrunerLike", "Range", "SamplerLike", "Sweep"]

SamplerLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("sampler")]
PrunerLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("pruner")]


def _require(condition: bool, expected: str, **received: Any) -> None:
    if not condition:
        raise refused(ValueError, f"expected {expected}", **received)


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers between two bounds, both included; whole ones if the bounds and the step are whole.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether each factor is as likely as any other, as for learning rates.
        step: the distance of neighbors, counted from `low`; null for any number.

    >>> Range(16, 128, log=True).whole, Range(0.0, 0.5).whole
    (True, False)
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            _require(math.isfinite(value := getattr(self, name)), "a finite number", **{name: value})
        _require(self.low < self.high, f"a number above low, {self.low}", high=self.high)
        if self.log:
            _require(self.low > 0, "a number above 0 with log: true", low=self.low)
            if self.step is not None:
                raise refused(ValueError, "expected no step with log: true", step=self.step)
        elif self.step is not None:
            _require(0 < self.step <= self.high - self.low, "a step above 0 within the range", step=self.step)

    @property
    def whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 0))

    @property
    def count(self) -> int | None:
        """The number of values; None for a range without steps."""
        step = self.step or (1 if self.whole and not self.log else None)
        return None if step is None else math.floor((self.high - self.low) / step * (1 + 1e-12)) + 1

    def at(self, index: int) -> int | float:
        """The number at an index, for a range that has a `count`."""
        return self.low + index * (self.step or 1)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Trials of an experiment with other values, for `jlayers sweep FILE`; `jlayers train` does not read it.

    Attributes:
        values: what is tried, by paths such as `optimizer.adam.learning_rate` or
            `model.Sequential.0.Dense.units`, as `--set` takes them: a list of values, or a range such as
            `{low: 0.0001, high: 0.1, log: true}`.
        method: how values are chosen; see `jlayers list samplers`.
        trials: how many there are; may be left out for `grid`, which then tries all.
        seed: seed of the choices. Trial number n is a function of the seed and n, and of the results of
            earlier trials for a method that learns from them.
        metric: the name in the logs by which trials are compared, at the epoch whose weights a run keeps.
        mode: min or max, whichever is better; auto knows it for losses and registered metrics.
        prune: what ends poor trials early; see `jlayers list pruners`. Nothing does if it is left out.
        parallel: the number of trials that do not know of each other, where a trial depends on the results of
            others: trial n is chosen and judged by what trials 0 to n - parallel gave. `--jobs` decides only
            how many of them run at a time, and changes no result.
    """

    values: dict[str, list[Any] | Annotated[Range, Record(Range)]]
    method: SamplerLike = "random"
    trials: int | None = None
    seed: int = 0
    metric: str = "val_loss"
    mode: Literal["auto", "min", "max"] = "auto"
    prune: PrunerLike | None = None
    parallel: int = 4

    def __post_init__(self) -> None:
        _require(bool(self.values), "values to try, such as {optimizer.adam.learning_rate: [0.1, 0.01]}")
        for path, given in self.values.items():
            empty = not isinstance(given, Range) and not given
            _require(not empty, f"at least one value for {path}", values=given)
        _require(self.trials is None or self.trials >= 1, "1 trial or more", trials=self.trials)
        _require(0 <= self.seed < 2**32, "a seed in [0, 2**32)", seed=self.seed)
        _require(self.parallel >= 1, "1 trial or more", parallel=self.parallel)
