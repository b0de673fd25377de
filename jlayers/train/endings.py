"""The activations in which a model's outputs end, and whether their losses can use them.

A cross-entropy of probabilities makes numbers of raw scores, too, and one of logits makes numbers of
probabilities. Both train, badly. The last layer of an output is read off a trace: it is the first one whose
result is the output.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import activations
from jlayers.core.errors import at_layer, refused
from jlayers.core.layer import Layer
from jlayers.core.masks import values_of
from jlayers.core.notes import observe
from jlayers.core.registry import Registry
from jlayers.core.shapes import describe
from jlayers.core.spec import Spec
from jlayers.losses.base import Loss
from jlayers.train.measures import values

__all__ = [
    "Ending",
    "TracedCall",
    "activation_of",
    "check_ending",
    "check_shares",
    "endings_of",
    "observed_calls",
]

TracedCall = tuple[str, Layer, Any, Any]  # a layer's path, itself, its inputs and its output, inside a trace

_PROBABILITIES = ("sigmoid", "softmax")
_RAW = ("linear", "log_sigmoid", "log_softmax", "tanh")  # can be negative, and are used as scores


_ROUNDING = 1e-2  # of a probability of 0 in half precision


@dataclasses.dataclass(frozen=True)
class Ending:
    """The last layer of an output, by its path, and the name of its activation."""

    layer: str
    activation: str


@contextlib.contextmanager
def observed_calls() -> Iterator[list[TracedCall]]:
    """The calls of layers that containers make within."""
    calls: list[TracedCall] = []

    def note(path: str, layer: Layer, params: Any, state: Any, given: Any, output: Any) -> None:
        calls.append((path, layer, given, output))

    with observe(note):
        yield calls


def endings_of(outputs: Any, calls: Sequence[TracedCall]) -> list[Ending | None]:
    """For each output of a model its `Ending`, or None if it is not known; inside the trace of the calls."""
    return [_ending(values_of(output), calls) for output in values(outputs)]


def _ending(output: Any, calls: Sequence[TracedCall]) -> Ending | None:
    for path, layer, given, made in calls:
        if any(leaf is output for leaf in jax.tree.leaves(made)) and not any(
            leaf is output for leaf in jax.tree.leaves(given)
        ):
            name = activation_of(layer)
            return Ending(path or layer.spec.name, name) if name else None
    return None


def activation_of(layer: Layer) -> str | None:
    """The name of the activation that a layer is or ends in; None if it is not known.

    >>> import jlayers as jl
    >>> activation_of(jl.Dense(3, activation="relu")), activation_of(jl.Flatten())
    ('relu', None)
    """
    return next(filter(None, [layer.pair.activation, *map(_activation, layer.specs)]), None)


def _activation(spec: Spec) -> str | None:
    """The activation that an argument of a layer names. One that is not None by default acts inside."""
    parameter = Registry.of(spec.kind).parameters(spec.name).get("activation")
    if parameter is None or parameter.default not in (None, parameter.empty):
        return None
    value = activations.get(spec.arguments["activation"])
    return "linear" if value is None else activations.registry.name_of(value)


def check_ending(loss: Loss, ending: Ending | None, y_pred: Any) -> None:
    """Refuse an ending that the loss cannot use.

    >>> import jlayers as jl, numpy as np
    >>> trainer = jl.compile(jl.Dense(3), loss="categorical_crossentropy")
    >>> jl.fit(trainer, np.zeros((4, 2)), np.eye(4, 3))
    Traceback (most recent call last):
    ValueError: expected probabilities for CategoricalCrossentropy(), but layer 'Dense' ends in ...
    """
    if ending is None:
        return
    if (error := _unusable(loss, ending, y_pred)) is not None:
        raise at_layer(error, ending.layer)


def _unusable(loss: Loss, ending: Ending, y_pred: Any) -> ValueError | None:
    """An error that says why the loss cannot use an output that ends in this way, if so."""
    layer, activation = f"layer {ending.layer!r}", ending.activation
    if activation == "softmax" and y_pred.shape[-1] == 1:
        return refused(
            ValueError,
            f"{layer} ends in a softmax over one unit, which is always 1: received {describe(y_pred)}",
            instead="use activation='sigmoid', or a unit for each class",
        )
    if loss.from_logits and activation in _PROBABILITIES:
        return refused(
            ValueError,
            f"expected logits for {loss.name}, but {layer} ends in activation={activation!r}",
            instead="leave the activation out, or leave from_logits=True out",
        )
    if loss.from_logits is False and activation in _RAW:
        return refused(
            ValueError,
            f"expected probabilities for {loss.name}, but {layer} ends in activation={activation!r}",
            instead="write activation='softmax', 'sigmoid' for yes-or-no targets, or from_logits=True in the "
            "loss",
        )
    return None


def check_shares(loss: Loss, y_pred: Any) -> None:
    """Refuse predictions that cannot be probabilities, by their values."""
    least = float(jnp.min(values_of(y_pred), initial=0.0))
    if least < -_ROUNDING:
        error = refused(
            ValueError,
            f"expected probabilities for {loss.name}, received predictions as low as {least:.3g}",
            instead="end the model in activation='softmax', 'sigmoid' for yes-or-no targets, or use "
            "from_logits=True",
        )
        raise at_layer(error, "")
