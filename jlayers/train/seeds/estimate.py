"""An estimate of a mean from a few values, such as the accuracies of some seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.core.errors import refused

__all__ = ["Estimate", "estimate", "estimates", "student_quantile"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty.

    Attributes:
        mean: mean of the values.
        std: their standard deviation, with n - 1 in the denominator; NaN for a single value.
        low: the lower end of the confidence interval of the mean.
        high: the upper end.
        confidence: the share of such intervals that hold the true mean.
        values: the values.
    """

    mean: float
    std: float
    low: float
    high: float
    confidence: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        share = f"{100 * self.confidence:g} %"
        return f"{self.mean:.4g} ± {self.std:.2g} [{share}: {self.low:.4g} to {self.high:.4g}]"


def estimate(values: Any, confidence: float = 0.95) -> Estimate:
    """The mean of some values, their standard deviation, and a confidence interval of the mean.

    The interval is Student's: `mean ± t std / sqrt(n)`, for independent values that vary about as a normal
    distribution does (Student 1908, https://doi.org/10.2307/2331554).

    Args:
        values: numbers, such as one for each seed; one NaN makes all of it NaN.
        confidence: between 0 and 1.

    Raises:
        ValueError: no values, or a confidence that is not between 0 and 1.

    >>> import jlayers as jl
    >>> print(jl.estimate([0.97, 0.98, 0.975]))
    0.975 ± 0.005 [95 %: 0.9626 to 0.9874]
    """
    if not 0 < confidence < 1:
        raise refused(
            ValueError, "expected a confidence between 0 and 1", raised_by="estimate", confidence=confidence
        )
    given = np.asarray(values, np.float64).reshape(-1)
    if not given.size:
        raise refused(ValueError, "expected at least one value", raised_by="estimate", values=values)
    mean = float(given.mean())
    std, half = math.nan, math.nan
    if given.size > 1:
        std = float(given.std(ddof=1))
        half = student_quantile((1 + confidence) / 2, given.size - 1) * std / math.sqrt(given.size)
    return Estimate(mean, std, mean - half, mean + half, float(confidence), tuple(given.tolist()))


def estimates(
    values: Mapping[str, Sequence[float] | np.ndarray], confidence: float = 0.95
) -> dict[str, Estimate]:
    """An estimate for each name."""
    return {name: estimate(each, confidence) for name, each in values.items()}


def student_quantile(p: float, degrees: int) -> float:
    """The value below which Student's t lies with probability p.

    The distribution for whole degrees of freedom is a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4),
    which grows with the angle of t; the angle is found by bisection.

    >>> round(student_quantile(0.975, 7), 4), round(student_quantile(0.975, 10**4), 3)
    (2.3646, 1.96)
    """
    if p < 0.5:
        return -student_quantile(1 - p, degrees)
    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _within(middle, degrees) < 2 * p - 1 else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """The probability that |t| lies below `sqrt(degrees) tan(angle)`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):  # each term is the one before times (k - 1)/k cos², or k/(k + 1)
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
