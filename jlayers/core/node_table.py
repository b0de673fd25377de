"""A model as a table of named nodes: what `Model` writes down, what runs, and what YAML holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import about, concerning
from jlayers.core.layer import Layer, Wiring, layer
from jlayers.core.masks import is_masked, leaves, mask_of, values_of, with_mask
from jlayers.core.names import remember
from jlayers.core.pair import Pair
from jlayers.core.shapes import describe, shape_text
from jlayers.core.spelling import nearest
from jlayers.core.structure import Source, Table, Use
from jlayers.core.wiring import as_layer, routed

__all__ = ["InputLayer", "by_name", "find", "find_use", "in_order", "model_from_table", "parse", "read"]

_REF = re.compile(r"(?P<name>[^\[\]]+?)(?:\[(?P<index>\d+)\])?")


def _check(name: str, source: Source, x: Any) -> None:
    x, shape, dtype = values_of(x), source.shape, jnp.dtype(source.dtype)
    if not hasattr(x, "shape"):
        raise TypeError(f"input {name!r}: expected one array, received {describe(x)}")
    expected = (None, *shape)
    kind = jnp.floating if jnp.issubdtype(dtype, jnp.floating) else jnp.integer
    fits = len(x.shape) == len(expected) and all(
        e is None or not isinstance(d, int) or d == e for d, e in zip(x.shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"input {name!r}: expected shape {shape_text(expected)}, received {describe(x)}"
            + (
                "; the batch dimension is missing: add one with x[None]"
                if tuple(x.shape) == tuple(shape)
                else ""
            )
        )
    if kind is jnp.floating and jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"input {name!r}: expected {dtype}, received {describe(x)}")
    if kind is jnp.integer and jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"input {name!r}: expected whole numbers of {dtype}, received {describe(x)}")


def read(name: str, source: Source, x: Any) -> Any:
    """The data of an input, checked. Whole numbers and booleans become fractions where it declares those."""
    _check(name, source, x)
    dtype, values = jnp.dtype(source.dtype), values_of(x)
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.floating):
        return x
    return with_mask(jnp.asarray(values).astype(dtype), mask_of(x))


@layer
def InputLayer(shape: tuple[int | None, ...], dtype: str = "float32"):
    """Checks its input and passes it on: what an `Input` becomes at the head of a `Sequential`.

    Args:
        shape: without the batch dimension; None for a dimension that may vary.
        dtype: dtype of the data.

    Raises:
        ValueError: data of another shape.
        TypeError: fractions where whole numbers are expected. Whole numbers where fractions are expected
            are converted, as in Keras.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.InputLayer((3,)).apply({}, {}, jnp.ones((2, 3)))[0].shape
    (2, 3)
    """
    source = Source(tuple(shape), str(jnp.dtype(dtype)))

    def init(key: Any, x: Any) -> dict[str, Any]:
        _check("input", source, x)
        return {}

    def apply(params: Any, x: Any) -> Any:
        return read("input", source, x)

    return Wiring({}, lambda children: Pair(init, apply, autocast=False), source)


def _table_wiring(inputs: Any, nodes: Mapping[str, Mapping[str, Any]], outputs: Any) -> Wiring:
    """The container that a table of nodes describes; what `Model` writes and YAML holds.

    Args:
        inputs: names of input nodes in any pytree.
        nodes: per name either `{input: shape, dtype: ...}`, or `{layer: ..., inputs: [...]}`, or
            `{shared: name of an earlier use, inputs: [...]}`. `"lstm[1]"` is output 1 of node `lstm`.
        outputs: names of nodes in any pytree.
    """
    table, children = _read_table(inputs, nodes, outputs)
    with concerning(outputs=outputs):
        sources, order = table.sources, list(in_order(table))
    listed, needed = jax.tree.leaves(inputs), set(order)
    if unlisted := sorted(needed & sources.keys() - set(listed), key=order.index):
        error = ValueError(f"Model: the outputs need {unlisted[0]!r}, which is not among the inputs; list it")
        raise about(error, inputs=inputs)
    for name in listed:
        if name not in sources:
            error = ValueError(f"Model: {name!r} is listed as an input: {nearest(name, sources)}")
            raise about(error, inputs=inputs)
        if name not in needed:
            error = ValueError(f"Model: the outputs do not depend on the input {name!r}; remove it")
            raise about(error, inputs=inputs)
    if unused := [name for name in table.nodes if name not in needed]:
        error = ValueError(f"Model: the outputs do not depend on the node {unused[0]!r}; remove it")
        raise about(error, unused[0], nodes=nodes)
    for name, node in table.nodes.items():
        if isinstance(node, Use) and node.child not in children:
            error = ValueError(
                f"Model, node {name!r}: shared={node.child!r} is not a layer: {nearest(node.child, children)}"
            )
            raise about(error, name, "shared", nodes=nodes)

    def route(call: Any, *arguments: Any) -> Any:
        values = by_name(table, arguments)
        for name in order:
            node = table.nodes[name]
            if isinstance(node, Source):
                values[name] = read(name, node, values[name])
            else:
                values[name] = call(node.child, *jax.tree.map(lambda r: find(values, r), node.inputs))
        return jax.tree.map(lambda r: find(values, r), outputs)

    children = {name: children[name] for name in order if name in children}
    remember(children)
    return routed(children, route, autocast=False, structure=table)


model_from_table = layer(_table_wiring, "Model")


def _read_table(
    inputs: Any, nodes: Mapping[str, Mapping[str, Any]], outputs: Any
) -> tuple[Table, dict[str, Layer]]:
    """The table and its children, every node checked to be of one of the three forms."""
    read: dict[str, Source | Use] = {}
    children: dict[str, Layer] = {}
    for name, node in nodes.items():
        kinds = [kind for kind in ("input", "layer", "shared") if kind in node]
        is_source = kinds == ["input"]
        allowed = {"input", "dtype"} if is_source else {"layer", "shared", "inputs"}
        if len(kinds) != 1 or not set(node) <= allowed or (not is_source and "inputs" not in node):
            error = ValueError(
                f"Model, node {name!r}: expected {{input: shape}} or {{layer: ..., inputs: [...]}} or "
                f"{{shared: name, inputs: [...]}}, received {dict(node)!r}"
            )
            raise about(error, name, nodes=nodes)
        if is_source:
            read[name] = Source(tuple(node["input"]), str(jnp.dtype(node.get("dtype", "float32"))))
            continue
        several = isinstance(node["inputs"], (list, tuple))
        read[name] = Use(node.get("shared", name), tuple(node["inputs"]) if several else (node["inputs"],))
        if "layer" in node:
            with concerning(name, "layer", nodes=nodes):
                children[name] = as_layer(node["layer"], f"Model, node {name!r}")
    return Table(inputs, read, outputs), children


def parse(ref: Any) -> tuple[str, int]:
    """The name of a node and the number of its output, from what a table writes: "lstm[1]"."""
    found = _REF.fullmatch(ref) if isinstance(ref, str) else None
    if found is None:
        raise ValueError(
            f"Model: expected the name of a node, such as 'dense' or 'lstm[1]', received {ref!r}"
        )
    return found["name"], int(found["index"] or 0)


def find(values: Mapping[str, Any], ref: str) -> Any:
    name, index = parse(ref)
    outputs = leaves(values[name])
    if index >= len(outputs):
        many = "one output" if len(outputs) == 1 else f"{len(outputs)} outputs, counted from 0"
        raise ValueError(f"Model: expected an output of node {name!r}, which has {many}, received {ref!r}")
    return outputs[index]


def find_use(table: Table, ref: str) -> Use:
    """The use of a layer that a reference names."""
    node = table.nodes[parse(ref)[0]]
    if not isinstance(node, Use):
        raise ValueError(f"Model: expected the output of a layer, received {ref!r}, which is an input")
    return node


def in_order(table: Table) -> Iterator[str]:
    """Names of the nodes that the outputs need, each after those it depends on, in the table's order."""
    done: set[str] = set()
    trail: dict[str, Iterator[str]] = {}  # the nodes on the way, each with the reads that are left to follow

    def follow(name: str) -> None:
        if name in trail:
            error = ValueError(f"Model: the graph has a cycle: {' -> '.join([*trail, name])}")
            raise about(error, name, "inputs", nodes=table.nodes)
        if name not in table.nodes:
            reader = f"node {next(reversed(trail))!r} reads" if trail else "the outputs name"
            error = ValueError(f"Model: {reader} {name!r}, which is not a node: {nearest(name, table.nodes)}")
            raise about(error, next(reversed(trail)), "inputs", nodes=table.nodes) if trail else error
        node = table.nodes[name]
        reads = jax.tree.leaves(node.inputs if isinstance(node, Use) else ())
        trail[name] = iter([parse(ref)[0] for ref in reads])

    for output in jax.tree.leaves(table.outputs):
        name = parse(output)[0]
        if name not in done:
            follow(name)
        while trail:
            name = next(reversed(trail))
            read = next((read for read in trail[name] if read not in done), None)
            if read is not None:
                follow(read)
            else:
                del trail[name]
                done.add(name)
                yield name


def by_name(table: Table, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """The given arrays by input name; the structure must be that of the inputs, names matched exactly."""
    inputs, names = table.inputs, jax.tree.leaves(table.inputs)
    if len(arguments) == 1 and isinstance(arguments[0], dict) and not isinstance(inputs, dict):
        argument_names = arguments[0]
        if set(argument_names) != set(names):
            raise _mismatch(names, argument_names)
        return dict(argument_names)
    expected = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    if len(arguments) == 1 and len(expected) > 1 and isinstance(arguments[0], (list, tuple)):
        arguments = tuple(arguments[0])
    named = isinstance(inputs, dict) and len(arguments) == 1 and isinstance(arguments[0], dict)
    if named and set(arguments[0]) != set(inputs):
        raise _mismatch(list(inputs), arguments[0])
    if jax.tree.structure(expected) != jax.tree.structure(arguments, is_leaf=is_masked):
        shown = {name: shape_text((None, *table.sources[name].shape)) for name in names}
        raise ValueError(f"Model: expected the inputs {shown}, received {describe(arguments) or 'none'}")
    return dict(zip(names, leaves(arguments), strict=True))


def _mismatch(expected: Sequence[str], arguments: Mapping[str, Any]) -> ValueError:
    missing = [n for n in expected if n not in arguments]
    extra = [n for n in arguments if n not in expected]
    parts = [f"missing {missing}"] * bool(missing) + [f"unknown {extra}"] * bool(extra)
    return ValueError(
        f"Model: expected the named inputs {list(expected)}, received {list(arguments)}: {', '.join(parts)}"
    )
