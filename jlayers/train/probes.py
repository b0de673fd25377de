"""Values out of the compiled step that a callback asks for, beside the losses and metrics in the logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.metrics.base import ratio
from jlayers.metrics.totals import add, value_of, zero

__all__ = ["PROBES", "Moment", "Probe", "probed", "results_of", "zeros_for"]

PROBES = "_probes"  # their accumulators, among those of the losses and metrics


class Moment(NamedTuple):
    """The values of a step at the moment of its update; `jl.callbacks.Moment`.

    Attributes:
        gradients: gradients of the trained parameters, before the optimizer has them.
        before: the trained parameters before the update.
        after: the trained parameters after the update.
        loss: loss of the batch, a scalar.
        opt_state: the optimizer's state before the update.
        rate_factor: factor of the learning rate, or None.
    """

    gradients: Any
    before: Any
    after: Any
    loss: jax.Array
    opt_state: Any
    rate_factor: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Probe:
    """A scalar that each step computes while a callback asks for it; `jl.callbacks.Probe`.

    It is in the logs and in the history under its name. A step without probes computes nothing for it.
    Probes that are equal share one compiled step, so `function` should be one that is made once, or a frozen
    dataclass with `__call__`.

    Args:
        name: in the logs.
        function: pure, from a `Moment` to a scalar; it is traced into the step.
        over: what the logs say of many steps: their "mean", the "max", or the "last" value.
        better: "min" or "max", for callbacks that watch it.

    Raises:
        ValueError: another word for `over` or `better`.

    >>> import jax, jlayers as jl
    >>> def largest(moment):
    ...     return max(abs(leaf).max() for leaf in jax.tree.leaves(moment.after))
    >>> Probe("largest_weight", largest, over="last").name
    'largest_weight'
    """

    name: str
    function: Callable[[Moment], Any]
    over: Literal["mean", "max", "last"] = "mean"
    better: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        if self.over not in ("mean", "max", "last"):
            raise refused(
                ValueError, "expected over 'mean', 'max' or 'last'", raised_by="Probe", over=self.over
            )
        if self.better not in ("min", "max"):
            raise refused(ValueError, "expected better 'min' or 'max'", raised_by="Probe", better=self.better)


def zeros_for(probes: Sequence[Probe]) -> dict[str, jax.Array]:
    """Their accumulators before the first step."""
    return {probe.name: _zero(probe) for probe in probes}


def _zero(probe: Probe) -> jax.Array:
    if probe.over == "mean":
        return zero((2,))
    return jnp.full((), -jnp.inf if probe.over == "max" else 0.0, jnp.float32)


def probed(probes: Sequence[Probe], acc: Any, moment: Moment) -> dict[str, jax.Array]:
    """The accumulators with one more step."""
    new = {}
    for probe in probes:
        value = jnp.asarray(probe.function(moment))
        if value.shape:
            raise ValueError(f"expected a scalar from the probe {probe.name!r}, received shape {value.shape}")
        value, old = value.astype(jnp.float32), acc[probe.name]
        if probe.over == "mean":
            new[probe.name] = add(old, jnp.stack([value, jnp.ones_like(value)]))
        else:
            new[probe.name] = jnp.maximum(old, value) if probe.over == "max" else value
    return new


def results_of(probes: Sequence[Probe], acc: Any) -> dict[str, jax.Array]:
    """The values for the logs, by name of the probe."""
    return {p.name: ratio(*value_of(acc[p.name])) if p.over == "mean" else acc[p.name] for p in probes}
