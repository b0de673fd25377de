"""Batch renormalization: a batch's own statistics, corrected towards running ones (Ioffe, 2017)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.spelling import nearest
from jlayers.layers._arguments import fraction

__all__ = ["Renorm", "make_renorm"]

_BOUNDS = {"rmin": 0.0, "rmax": math.inf, "dmax": math.inf}


@dataclasses.dataclass(frozen=True)
class Renorm:
    """The bounds of the correction `r`, `d`, and the momentum of the statistics that it aims at."""

    momentum: float
    rmin: float
    rmax: float
    dmax: float

    def initial_state(self, mean: jax.Array, variance: jax.Array) -> dict[str, jax.Array]:
        """The state besides the moving mean and variance, from their first values."""
        deviation = jnp.sqrt(variance)
        return {"moving_stddev": deviation, "renorm_mean": mean, "renorm_stddev": deviation}

    def factors(
        self, state: Mapping[str, Any], mean: jax.Array, variance: jax.Array, epsilon: float
    ) -> tuple[jax.Array, jax.Array]:
        """`r` and `d`, of the shape of `mean`, constant to the gradient; `y * r + d` then replaces `y`."""
        running_mean, running_stddev = (
            state[name].reshape(mean.shape) for name in ("renorm_mean", "renorm_stddev")
        )
        running_stddev = jnp.maximum(running_stddev, math.sqrt(epsilon))
        r = jnp.clip(jnp.sqrt(variance + epsilon) / running_stddev, self.rmin, self.rmax)
        d = jnp.clip((mean - running_mean) / running_stddev, -self.dmax, self.dmax)
        return jax.lax.stop_gradient(r), jax.lax.stop_gradient(d)

    def next_state(
        self, state: Mapping[str, Any], mean: jax.Array, variance: jax.Array, momentum: float, epsilon: float
    ) -> dict[str, jax.Array]:
        """The state after a batch of that mean and variance, but for the moving mean."""
        mean, deviation = (
            s.reshape(state["renorm_mean"].shape) for s in (mean, jnp.sqrt(variance + epsilon))
        )

        def towards(name: str, new: jax.Array, share: float) -> jax.Array:
            return state[name] * share + new.astype(state[name].dtype) * (1 - share)

        moving = towards("moving_stddev", deviation, momentum)
        return {
            "moving_stddev": moving,
            "moving_variance": jnp.maximum(jnp.square(moving) - epsilon, 0),
            "renorm_mean": towards("renorm_mean", mean, self.momentum),
            "renorm_stddev": towards("renorm_stddev", deviation, self.momentum),
        }


def make_renorm(clipping: Mapping[str, float] | None, momentum: float) -> Renorm:
    """A `Renorm` from the arguments of `BatchNormalization`."""
    fraction("renorm_momentum", momentum)
    for name in clipping or {}:
        if name not in _BOUNDS:
            raise refused(
                ValueError,
                f"expected renorm_clipping with keys out of {', '.join(_BOUNDS)}",
                renorm_clipping=clipping,
                instead=nearest(name, _BOUNDS),
            )
    renorm = Renorm(momentum, **{**_BOUNDS, **(clipping or {})})
    if renorm.rmax < renorm.rmin or renorm.dmax < 0:
        raise refused(ValueError, "expected rmin <= rmax and dmax >= 0", renorm_clipping=clipping)
    return renorm
