"""The inputs that a model declares, and the calls of its layers in a trace on shapes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from jlayers.core.layer import Layer
from jlayers.core.notes import observe
from jlayers.core.shapes import as_spec, is_shape
from jlayers.core.structure import Chain, Source, Table
from jlayers.inspect.table import shorten

OPEN_SIZE = 64

__all__ = ["OPEN_SIZE", "LayerRun", "declarations", "given_inputs", "trace_runs"]


def given_inputs(model: Layer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Specs of `inputs`, or, if there are none, of those that the model declares, with a batch of 1.

    A size that the model leaves open is then `OPEN_SIZE`.
    """
    return as_spec(_with_dtypes(model, inputs)) if inputs else _declared_inputs(model)


def _declared_inputs(model: Layer) -> tuple[Any, ...]:
    found = declarations(model)
    if found is None:
        raise TypeError(
            f"{shorten(repr(model), 80)} does not say what it takes: expected its inputs, as arrays or as "
            f"shapes with the batch, such as (32, 28, 28, 1); received none"
        )

    def sample(declared: Source) -> Any:
        shape = (OPEN_SIZE if size is None else size for size in declared.shape)
        return jax.ShapeDtypeStruct((1, *shape), declared.dtype)

    return jax.tree.map(sample, found)


def declarations(model: Layer) -> tuple[Any, ...] | None:
    """A `Source` for each input, in the structure of the call; None if the model declares nothing."""
    structure = model.structure
    if isinstance(structure, Source):
        return (structure,)
    if isinstance(structure, Chain):
        return declarations(model.children[structure.order[0]])
    if isinstance(structure, Table):
        inputs = structure.inputs
        listed = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
        return jax.tree.map(structure.nodes.get, listed)
    return declarations(model.wrapped) if model.wrapped else None


def _with_dtypes(model: Layer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Bare shapes get the dtype that the model declares for that input, where it declares one."""
    declared = declarations(model)
    if declared is None or not all(map(is_shape, inputs)) or len(inputs) != len(declared):
        return inputs
    return tuple(
        jax.ShapeDtypeStruct(tuple(shape), d.dtype) if isinstance(d, Source) else shape
        for shape, d in zip(inputs, declared, strict=True)
    )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "state", "inputs", "output"],
    meta_fields=["layer"],
)
@dataclasses.dataclass(frozen=True)
class LayerRun:
    """One run of a layer in a trace: what it was given and what it gave, as specs."""

    layer: Layer
    params: Any
    state: Any
    inputs: tuple[Any, ...]
    output: Any


def trace_runs(model: Layer, specs: tuple[Any, ...]) -> dict[str, list[LayerRun]]:
    """The runs of every layer in one forward pass of `model`, by path; '' is the model itself."""
    seen: dict[str, list[LayerRun]] = {}

    def observer(path: str, layer: Layer, *values: Any) -> None:
        seen.setdefault(path, []).append(LayerRun(layer, *jax.tree.map(_spec_of, values)))

    def forward(params: Any, state: Any, *inputs: Any) -> Any:
        return model.keyed(params, state, *inputs)[0]

    params, state = jax.eval_shape(lambda key: model.init(key, *specs), jax.random.key(0))
    with observe(observer):
        output = jax.eval_shape(forward, params, state, *specs)
    return {"": [LayerRun(model, params, state, specs, output)], **seen}


def _spec_of(value: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, value.dtype)
