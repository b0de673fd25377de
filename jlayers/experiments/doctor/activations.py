"""Check "activations": units that are never active, and functions in their flat parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jlayers.core.masks import values_of
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.inside import Call, Look
from jlayers.train.endings import activation_of

__all__ = ["check_activations"]

ZERO = ("relu", "relu6", "squareplus", "relu_squared")  # give nothing, and no gradient, on one side
FLAT = {
    "sigmoid": (0.01, 0.99),
    "tanh": (-0.99, 0.99),
    "hard_sigmoid": (0.01, 0.99),
    "hard_tanh": (-0.99, 0.99),
}
# Inputs that are all positive leave about half of the units of a fresh layer dead, and it can be trained.
MOST_DEAD, MANY = 0.9, 16  # of the units of a layer that has at least so many
MOST_FLAT = 0.75  # of the values of a layer


def check_activations(case: Case) -> list[Finding]:
    """The hidden layers' outputs for some samples, with the weights that the training begins with."""

    def note(layer: Any, params: Any, state: Any, inputs: Any, output: Any) -> Any:
        values: Any = values_of(output) if layer is not None else None
        if layer is None or not hasattr(values, "ndim") or values.ndim < 2:
            return None
        name = activation_of(layer)
        if name in ZERO:
            axes = tuple(range(values.ndim - 1))
            return {"dead": (values == 0).all(axes)}
        if name in FLAT:
            low, high = FLAT[name]
            flat = (values < jnp.asarray(low, values.dtype)) | (values > jnp.asarray(high, values.dtype))
            return {"flat": flat.mean()}
        return None

    calls, _ = Look(case, case.some, note)(case.state)
    return [finding for call in _all_but_last(calls) for finding in [*_dead(case, call), *_flat_units(call)]]


def _all_but_last(calls: Sequence[Call]) -> list[Call]:
    """Without the last layer, whose activation is that of the output."""
    return [call for call in calls[:-1] if call.noted is not None and call is not _last_layer(calls)]


def _last_layer(calls: Sequence[Call]) -> Call | None:
    inner = [call for call in calls if call.path and call.layer.wiring is None]
    return inner[-1] if inner else None


def _dead(case: Case, call: Call) -> list[Finding]:
    dead = np.asarray(call.noted.get("dead", ()))
    few = dead.mean() < MOST_DEAD or dead.size < MANY if dead.size else True
    if few and not (dead.size > 1 and dead.all()):
        return []
    which = "all" if dead.all() else f"{int(dead.sum())} of"
    return [
        Finding(
            "activations",
            "error" if dead.all() else "warning",
            call.path,
            f"{which} {dead.size} units are dead: they give 0 for each of {len(_rows(case))} samples, so no "
            f"gradient reaches their weights",
            "use initializers of the usual size (he_normal, zero biases), normalize the inputs, take a lower "
            "learning rate, or an activation with a slope everywhere, such as leaky_relu or gelu",
            {"dead": int(dead.sum()), "units": int(dead.size), "share": float(dead.mean())},
        )
    ]


def _flat_units(call: Call) -> list[Finding]:
    share = float(call.noted.get("flat", 0.0))
    if share < MOST_FLAT:
        return []
    name = activation_of(call.layer)
    return [
        Finding(
            "activations",
            "warning",
            call.path,
            f"{share:.0%} of the values lie in the flat parts of {name}, where its gradient is nearly 0",
            "normalize the inputs, start with smaller weights (glorot_uniform), put a normalization before "
            "the activation, or use relu",
            {"share": share, "activation": name},
        )
    ]


def _rows(case: Case) -> Any:
    import jax

    return jax.tree.leaves(case.some.x)[0]
