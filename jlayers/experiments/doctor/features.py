"""Checks "features" and "scale": columns that never vary, and the size of what reaches the first weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.masks import values_of
from jlayers.data.lazy import is_lazy
from jlayers.experiments.doctor.case import Case, Target
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.inside import Look, own_params

__all__ = ["check_features", "check_scale"]

LARGEST = 30.0  # root mean square of a feature
SMALLEST = 2e-3
MOST_RATIO = 100.0  # of the sizes of two columns
WIDE = 32  # columns; more of one kind are pixels or counts, of which some are always zero
TARGETS = 100.0


def check_features(case: Case) -> list[Finding]:
    """Columns of a table, or channels, that never vary."""
    return [
        finding
        for name, array in case.arrays_by_name(case.x, "x").items()
        for finding in _constant_columns(case, name, array)
    ]


def check_scale(case: Case) -> list[Finding]:
    """The size of what the first layers with weights are given, and of the targets of a regression."""
    if case.task is None:
        return []
    return [*_scales(case), *(finding for target in case.targets for finding in _targets(case, target))]


def _constant_columns(case: Case, name: str, array: Any) -> list[Finding]:
    if array.dtype.kind not in "fiub" or array.ndim < 2 or len(array) < 16:
        return []
    if is_lazy(array):
        array = array.take(np.linspace(0, len(array) - 1, min(len(array), 256)).astype(np.int64))
    if name in case.review.lookups or (array.shape[-1] < 2 and array.ndim > 2):
        return []
    columns = array.reshape(-1, array.shape[-1])
    constant = np.flatnonzero((columns == columns[0]).all(0))
    if columns.shape[1] > WIDE:  # the corner of an image, a word that no text has
        constant = constant[columns[0, constant] != 0]
    if not len(constant):
        return []
    what = "column" if array.ndim == 2 else "channel"
    listed = ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else "")
    return [
        Finding(
            "features",
            "warning",
            f"{name}[..., {constant[0]}]",
            f"{what} {listed} of {columns.shape[1]} has one value only, {columns[0, constant[0]]}: it tells "
            f"nothing, and a value that is new later meets weights that nothing has trained",
            f"remove the {what}, or look at why it was read so",
            {"columns": constant.tolist()},
        )
    ]


@dataclasses.dataclass(frozen=True)
class _Given:
    """The inputs of a layer with weights, by feature."""

    path: str
    size: np.ndarray  # root mean square of what is not zero
    mean: np.ndarray
    columns: bool  # the features are columns of a table


def _scales(case: Case) -> list[Finding]:
    found = {given.path: finding for given in _first_layers(case) if (finding := _scale(given)) is not None}
    unmoved = _scale_free(case, found) if found else set()
    return [finding for path, finding in found.items() if path not in unmoved]


def _scale(given: _Given) -> Finding | None:
    """The finding for what one layer is given, if its size is unusual."""
    filled = given.size[given.size > 0]
    if not filled.size:
        return None
    largest, least = float(filled.max()), float(filled.min())
    at = int(given.size.argmax())
    values = {"largest": largest, "smallest": least, "feature": at, "sizes": given.size[:100].tolist()}
    advice = (
        "put jl.Normalization (adapted to the training data) first, or Rescaling for pixels; in YAML, "
        "preprocess: {x: Normalization}"
    )
    if given.columns and largest > MOST_RATIO * least:
        small = int(np.where(given.size > 0, given.size, np.inf).argmin())
        text = (
            f"the features have wildly different scales: feature {at} is about {largest:.3g} in size and "
            f"feature {small} about {least:.3g}; the large ones rule the first layer, and one learning "
            f"rate cannot fit both"
        )
    elif largest > LARGEST:
        text = (
            f"the inputs are not normalized: feature {at} is about {largest:.3g} in size (mean "
            f"{given.mean[at]:.3g}), where layers with fresh weights expect about 1"
        )
    elif largest < SMALLEST:
        text = (
            f"the inputs are tiny, about {largest:.3g} in size, where layers with fresh weights expect "
            f"about 1: were they scaled down twice?"
        )
    else:
        return None
    return Finding("scale", "warning", given.path, text, advice, values)


def _first_layers(case: Case) -> list[_Given]:
    """The inputs of the first layers with weights, those that no other layer with weights stands before.

    Their inputs are the same whatever the weights are.
    """

    def note(layer: Any, params: Any, state: Any, inputs: Any, output: Any) -> Any:
        own, given = own_params(params), [values_of(value) for value in inputs]
        known = layer is not None and layer.wiring is None and layer.pair.ids_below is None
        if not own or not known or not all(hasattr(a, "ndim") and a.ndim > 1 for a in given):
            return None
        x = given[0].astype(jnp.float32).reshape(-1, given[0].shape[-1])
        filled = jnp.maximum((x != 0).sum(0), 1).astype(jnp.float32)
        return {"size": jnp.sqrt(jnp.square(x).sum(0) / filled), "mean": x.mean(0)}

    other = case.trainer.init(jax.random.key(case.seed + 1), case.first)
    look = Look(case, case.some, note)
    one, _ = look(case.fresh)
    two, _ = look(other.replace(key_data=case.fresh.key_data))
    found = []
    table = all(leaf.ndim == 2 for leaf in jax.tree.leaves(case.x))
    for a, b in zip(one, two, strict=True):
        if a.noted is None or not np.array_equal(a.noted["size"], b.noted["size"]) or case.is_given(a.path):
            continue
        size = np.asarray(a.noted["size"])
        found.append(_Given(a.path, size, np.asarray(a.noted["mean"]), table and size.size <= 4 * WIDE))
    return found


def _scale_free(case: Case, paths: Iterable[str]) -> set[str]:
    """Those of these layers that give nearly the same for three times their input, as a normalization does.

    The scale of their input does not matter.
    """
    plain = {path.partition("@")[0] for path in paths}
    suspects = {id(layer) for model in case.models for path, layer in model.walk() if path in plain}

    def note(layer: Any, params: Any, state: Any, inputs: Any, output: Any) -> Any:
        if id(layer) not in suspects or layer.draws:
            return jnp.array(False)
        if not all(jnp.issubdtype(values_of(v).dtype, jnp.floating) for v in inputs):
            return jnp.array(False)
        larger = jax.tree.map(lambda v: v * jnp.asarray(3, v.dtype) if v.dtype != bool else v, tuple(inputs))
        moved, _ = layer.apply(params, state, *larger, train=True)
        near = [
            jnp.abs(new - old).max() <= 0.05 * jnp.abs(old).max()
            for new, old in zip(jax.tree.leaves(moved), jax.tree.leaves(output), strict=True)
            if jnp.issubdtype(old.dtype, jnp.floating)
        ]
        return jnp.stack(near).all() if near else jnp.array(False)

    calls, _ = Look(case, case.some, note)(case.fresh)
    return {call.path for call in calls if call.noted}


def _targets(case: Case, target: Target) -> list[Finding]:
    """Targets of a regression that are far larger than what fresh weights predict."""
    y = target.y
    if target.loss.from_logits is not None or target.classes is not None or y.dtype.kind not in "fiu":
        return []
    if y.shape != (len(y), *target.output.shape[1:]):
        return []
    size = float(np.sqrt(np.square(y.astype(np.float64)).mean()))
    if size <= TARGETS:
        return []
    made = float(np.sqrt(np.square(case.outputs()[target.place].astype(np.float64)).mean()))
    if size <= TARGETS * made:  # as behind a Rescaling to the units of the target
        return []
    return [
        Finding(
            "scale",
            "warning",
            target.where,
            f"the targets are about {size:.3g} in size, and fresh weights predict about {made:.1g}: most of "
            f"the training would go into getting there",
            "train on (y - mean) / deviation, with those of the training data, and scale back, or "
            "end the model in Rescaling(scale=deviation, offset=mean)",
            {"size": size, "mean": float(y.mean()), "deviation": float(y.std())},
        )
    ]
