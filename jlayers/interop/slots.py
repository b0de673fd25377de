"""The arrays that a model needs: for each layer with arrays of its own their names and shapes, in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jlayers.core.layer import Layer
from jlayers.core.state import is_aux_loss, is_aux_metric, is_carry
from jlayers.core.tree import above, flatten

__all__ = ["Slot", "fixed_of", "initial", "slots_of"]


@dataclasses.dataclass(frozen=True)
class Slot:
    """The arrays of one layer.

    Attributes:
        path: path of the layer; '' is the model itself.
        layer: whose arrays they are.
        wanted: a spec for each array by name, as Keras orders them: parameters, then state.
        paths: where each stands, such as `params/dense/kernel`.
        repeat: the path of the `Repeat` around the layer, in which arrays have one more axis, or None.
        times: how often it runs the layer.
    """

    path: str
    layer: Layer
    wanted: Mapping[str, jax.ShapeDtypeStruct]
    paths: Mapping[str, str]
    repeat: str | None = None
    times: int = 1

    @property
    def once(self) -> Slot:
        """The layer as it is in one run of its `Repeat`."""
        wanted = {
            name: jax.ShapeDtypeStruct(spec.shape[1:], spec.dtype) for name, spec in self.wanted.items()
        }
        return dataclasses.replace(self, wanted=wanted, repeat=None, times=1)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The name of the layer's constructor, and those of the layers whose pair it took over."""
        return tuple(spec.name for spec in self.layer.specs)


def initial(model: Layer, inputs: tuple[Any, ...]) -> tuple[dict[str, Any], list[str]]:
    """The specs of parameters and state as one tree, and the paths of its leaves in the layers' order."""
    order: list[str] = []

    def init(key: Any) -> dict[str, Any]:
        params, state = model.init(key, *inputs)
        tree = {"params": params, "state": state}
        order.extend(flatten(tree))  # jax.eval_shape will sort the names
        return tree

    return jax.eval_shape(init, jax.random.key(0)), order


def slots_of(model: Layer, tree: Mapping[str, Any], order: list[str]) -> list[Slot]:
    """The layers of a model that have arrays, in the order in which they run.

    What one call hands to the next, and what is only for the logs, is no weight and left out.
    """
    layers = dict(model.walk())
    specs = flatten(tree)
    found: dict[str, dict[str, str]] = {}
    for path in order:
        if is_carry(path) or is_aux_loss(path) or is_aux_metric(path):
            continue
        _, _, inside = path.partition("/")
        owner, _, name = inside.rpartition("/")
        while owner not in layers:  # a layer may nest its arrays
            owner, _, more = owner.rpartition("/")
            name = f"{more}/{name}"
        found.setdefault(owner, {})[name] = path
    slots = []
    for owner, paths in _in_place(found, list(layers)):
        repeats = [path for path in above(owner) if layers[path].stacked]
        repeat = repeats[0] if len(repeats) == 1 else None
        wanted = {name: specs[path] for name, path in paths.items()}
        times = 1 if repeat is None else next(iter(wanted.values())).shape[0]
        slots.append(Slot(owner, layers[owner], wanted, paths, repeat, times))
    return slots


def _in_place(found: Mapping[str, dict[str, str]], layers: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The layers in the order of their parameters; those with only a state where the model has them."""
    ordered = [
        owner for owner, paths in found.items() if any(path.startswith("params/") for path in paths.values())
    ]
    place = {path: number for number, path in enumerate(layers)}
    for owner in found:
        if owner not in ordered:
            before = [other for other in ordered if place[other] < place[owner]]
            ordered.insert(ordered.index(max(before, key=place.__getitem__)) + 1 if before else 0, owner)
    return [(owner, found[owner]) for owner in ordered]


def fixed_of(model: Layer) -> dict[str, dict[str, Any] | None]:
    """By path the layers whose weights in Keras are arguments here: what a `Normalization` has learned.

    None stands for those of `jl.applications`, which scale their images as they were published.
    """
    published = [path for path, layer in model.walk() if layer.spec.name.startswith("applications.")]
    return {
        path: None
        if any(f"{path}/".startswith(f"{around}/") or not around for around in published)
        else {name: layer.spec.arguments[name] for name in ("mean", "variance")}
        for path, layer in model.walk()
        if "Normalization" in (spec.name for spec in layer.specs)
    }
