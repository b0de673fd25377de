"""Loss scaling: small gradients survive float16, and a step whose gradients overflow is not taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.core.precision import computes_in
from jlayers.core.shapes import wide_dtype

__all__ = [
    "FLOOR",
    "LossScale",
    "LossScaleLike",
    "finite",
    "first_scale",
    "kept",
    "loss_scaling",
    "scale_of",
    "scaled",
    "unscaled",
]

LossScaleLike = float | Literal["auto", "dynamic"] | None

START = 2.0**15  # as in Keras
PERIOD = 2000  # steps without overflow until the scale is doubled, as in Keras
FLOOR = 1.0  # below this a scale makes gradients smaller, so that it is not what they overflow by


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """The factor of the loss in a dynamic scaling (Micikevicius et al., 2018), a part of the `TrainState`.

    Attributes:
        scale: float32; halved when gradients overflow, doubled after 2000 steps in which none did. Half of 1
            says that gradients overflow whatever the scale.
        good_steps: int32, steps since the scale moved.
    """

    scale: jax.Array
    good_steps: jax.Array

    @classmethod
    def start(cls) -> LossScale:
        return cls(jnp.full((), START, jnp.float32), jnp.zeros((), jnp.int32))

    def after(self, good: jax.Array) -> LossScale:
        """The scale for the next step, after one that was good or not."""
        steps = jnp.where(good, self.good_steps + 1, 0)
        grows = steps >= PERIOD
        doubled = jnp.where(grows & jnp.isfinite(2 * self.scale), 2 * self.scale, self.scale)
        halved = jnp.maximum(self.scale / 2, FLOOR / 2)
        return LossScale(jnp.where(good, doubled, halved), jnp.where(grows, 0, steps))


def loss_scaling(models: Iterable[Layer], loss_scale: LossScaleLike) -> float | Literal["dynamic"] | None:
    """The loss scale of these models; "auto" is "dynamic" where a layer computes in float16.

    Raises:
        ValueError: anything other than None, "auto", "dynamic" or a number above 0.
    """
    if loss_scale == "auto":
        return "dynamic" if any(computes_in(model, "float16") for model in models) else None
    if loss_scale is None or loss_scale == "dynamic":
        return loss_scale
    number = isinstance(loss_scale, (int, float)) and not isinstance(loss_scale, bool)
    if not number or not 0 < loss_scale < math.inf:
        raise refused(
            ValueError, "expected 'auto', 'dynamic', None or a number above 0", loss_scale=loss_scale
        )
    return float(loss_scale)


def first_scale(models: Iterable[Layer], loss_scale: LossScaleLike) -> LossScale | None:
    """The scale of a state before the first step."""
    return LossScale.start() if loss_scaling(models, loss_scale) == "dynamic" else None


def scale_of(scale: LossScale | None) -> jax.Array:
    """The factor for the next step."""
    if scale is None:
        raise ValueError(
            "expected a state with a dynamic loss scale, received loss_scale=None; make it with "
            "trainer.init(...), or continue from one that was made otherwise with trainer.adopt(state)"
        )
    return scale.scale


def scaled(loss: jax.Array, factor: Any) -> jax.Array:
    """The loss whose gradient is taken."""
    return loss if factor is None else loss * jnp.asarray(factor, loss.dtype)


def unscaled(gradients: Any, factor: Any) -> Any:
    """The gradients of the loss itself, each in its own dtype."""

    def leaf(gradient: jax.Array) -> jax.Array:
        wide = wide_dtype(gradient.dtype)
        return (gradient.astype(wide) / jnp.asarray(factor, wide)).astype(gradient.dtype)

    return gradients if factor is None else jax.tree.map(leaf, gradients)


def kept(keep: jax.Array, new: Any, old: Any) -> Any:
    """`new` where `keep` is true, else `old`."""
    return jax.tree.map(lambda n, o: jnp.where(keep, n, o), new, old)


def finite(tree: Any) -> jax.Array:
    """True if all numbers of a pytree are finite."""
    good = jnp.array(True)
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            good = good & jnp.all(jnp.isfinite(leaf))
    return good
