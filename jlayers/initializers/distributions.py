"""Initial values from a distribution that does not depend on the shape."""

from __future__ import annotations

from typing import Any

from jlayers.core.errors import refused
from jlayers.initializers import base
from jlayers.initializers.base import Initializer, registry, rounded, uniform

__all__ = [
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "random_normal",
    "random_uniform",
    "truncated_normal",
]


@registry.factory("normal")
def random_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Normal with this mean and standard deviation.

    >>> import jax, jlayers as jl
    >>> jl.initializers.random_normal()(jax.random.key(0), (3, 2), "float32").shape
    (3, 2)
    """
    _not_negative("stddev", stddev)
    return rounded(base.normal(mean, stddev))


@registry.factory("uniform")
def random_uniform(minval: float = -0.05, maxval: float = 0.05) -> Initializer:
    """Uniform over [minval, maxval).

    Raises:
        ValueError: `minval` above `maxval`.

    >>> import jax, jlayers as jl
    >>> w = jl.initializers.random_uniform(-1.0, 1.0)(jax.random.key(0), (1000,), "float32")
    >>> bool(w.min() < -0.9), bool(w.max() > 0.9)
    (True, True)
    """
    if minval > maxval:
        raise refused(ValueError, "expected minval <= maxval", minval=minval, maxval=maxval)
    return rounded(uniform(minval, maxval))


@registry.factory()
def truncated_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Normal, drawn again beyond two standard deviations; `stddev` is that before the cut (0.88 of it stays).

    >>> import jax, jlayers as jl
    >>> w = jl.initializers.truncated_normal(stddev=1.0)(jax.random.key(0), (1000,), "float32")
    >>> bool(abs(w).max() < 2)
    True
    """
    _not_negative("stddev", stddev)
    return rounded(base.truncated_normal(mean, stddev))


def _not_negative(name: str, value: float) -> None:
    if value < 0:
        received: dict[str, Any] = {name: value}
        raise refused(ValueError, f"expected {name} >= 0", **received)


# The names of Keras's classes.
RandomNormal = random_normal
RandomUniform = random_uniform
TruncatedNormal = truncated_normal
