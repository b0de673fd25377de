"""The first value that is not finite in a step: data, weights, a layer's output, the loss, or a gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.masks import values_of
from jlayers.core.tree import flatten
from jlayers.data.batches import Batch
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.inside import Look
from jlayers.train.state import TrainState

__all__ = ["first_not_finite"]

ADVICE = (
    "lower the learning rate, clip the gradients (clip_by_global_norm), and look at this layer: a logarithm, "
    "a division, a root or an exponential of what it is given there"
)


def _look(tree: Any) -> Any:
    """The position of the first value of a tree that is not finite, or -1; this value; the largest size."""
    leaves = [values_of(leaf) for leaf in jax.tree.leaves(tree, is_leaf=lambda v: hasattr(v, "mask"))]
    floats = [jnp.asarray(leaf) for leaf in leaves if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    flat = [leaf.reshape(-1).astype(jnp.float32) for leaf in floats if leaf.size]
    if not flat:
        return {"at": jnp.int32(-1), "value": jnp.float32(0), "largest": jnp.float32(0)}
    values = jnp.concatenate(flat) if len(flat) > 1 else flat[0]
    bad = ~jnp.isfinite(values)
    at = jnp.where(bad.any(), jnp.argmax(bad).astype(jnp.int32), jnp.int32(-1))
    return {
        "at": at,
        "value": values[jnp.maximum(at, 0)],
        "largest": jnp.abs(jnp.where(bad, 0.0, values)).max(),
    }


def _at(inputs: Any, shapes: Any, at: Any) -> Any:
    """The input at the place of an output of the same shape; NaN for a layer that is no such function."""
    given = [values_of(value) for value in inputs]
    if len(given) != 1 or len(shapes) != 1 or getattr(given[0], "shape", None) != shapes[0]:
        return jnp.float32(jnp.nan)
    return given[0].reshape(-1)[jnp.maximum(at, 0)].astype(jnp.float32) if given[0].size else jnp.float32(0)


def first_not_finite(case: Case, state: TrainState, batch: Batch, number: int = 0) -> list[Finding]:
    """The place at which a step on this batch leaves the finite numbers; nothing if it does not.

    Args:
        case: the experiment, with its tasks and models.
        state: before the step.
        batch: batch of the step.
        number: number of the step, from which its key follows.
    """
    for path, leaf in flatten(state.params).items():
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            text = f"the weights of {path} are not finite before the step"
            return [
                Finding("nan", "error", path, text, "continue from an earlier checkpoint", {"weights": path})
            ]

    def note(layer: Any, params: Any, state: Any, inputs: Any, output: Any) -> Any:
        if layer is None:
            output = output.total
        shapes = [values_of(v).shape for v in jax.tree.leaves(output, is_leaf=lambda v: hasattr(v, "mask"))]
        made = _look(output)
        return {
            "in": _look(inputs),
            "out": made,
            "shape": jnp.asarray(shapes[0] if shapes else (), jnp.int32),
            "from": _at(inputs, shapes, made["at"]),
        }

    calls, losses = Look(case, batch, note)(state, number)
    for call in calls:
        given, made = call.noted["in"], call.noted["out"]
        if made["at"] >= 0 > given["at"]:
            place, there = _place(int(made["at"]), call.noted["shape"]), float(call.noted["from"])
            return [
                Finding(
                    "nan",
                    "error",
                    call.path or "the model",
                    f"the first value that is not finite is {float(made['value'])} at {place} in the output "
                    f"of {call.layer!r}, whose inputs are finite, up to {float(given['largest']):.3g} in size"
                    + ("" if np.isnan(there) else f", and {there:.3g} at that place"),
                    ADVICE,
                    {"layer": call.path, "place": list(place), "value": float(made["value"]), "given": there},
                )
            ]
    if any(loss["out"]["at"] >= 0 for loss in losses):
        text = "all outputs of layers are finite, and the loss of them is not"
        advice = "look at the loss: probabilities of 0, targets out of range, weights of samples"
        return [Finding("nan", "error", "loss", text, advice)]
    return _backwards(case, state, batch, number, [call.path for call in calls])


def _backwards(case: Case, state: TrainState, batch: Batch, number: int, order: list[str]) -> list[Finding]:
    """On the way back the last layer whose gradient is not finite is the first that the NaN has reached."""
    from jlayers.experiments.doctor.gradients import gradients_by_path

    made = gradients_by_path(case, state, batch, number)
    bad = {path.rpartition("/")[0] for path, each in made.items() if not each["finite"]}
    if not bad:
        return []
    last = max(bad, key=lambda path: order.index(path) if path in order else -1)
    text = (
        f"the forward pass is finite, and the gradient of {last} is not: it arises there or behind it, in a "
        f"function that has no slope at some value, such as the root or the norm of 0"
    )
    advice = "add a small number under the root, before the logarithm or the division; or clip the gradients"
    return [Finding("nan", "error", last, text, advice, {"layers": sorted(bad)})]


def _place(at: int, shape: Any) -> tuple[int, ...]:
    """A position in a flat array as that in the array."""
    sizes = tuple(int(size) for size in shape)
    return tuple(map(int, np.unravel_index(at, sizes))) if sizes and at < np.prod(sizes) else (at,)
