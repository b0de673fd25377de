"""A model as a table of named nodes: what `Model` writes down, what runs, and what YAML holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import Layer, Wiring, layer
from jlayers.core.masks import is_masked, keeps_mask, leaves, values_of
from jlayers.core.names import remember
from jlayers.core.registry import nearest
from jlayers.core.shapes import describe, shape_text
from jlayers.core.wiring import as_layer, routed

__all__ = ["InputLayer", "by_name", "find", "in_order", "model_from_table", "read_table"]

_REF = re.compile(r"(?P<name>[^\[\]]+?)(?:\[(?P<index>\d+)\])?")


def _check(name: str, shape: Sequence[int | None], dtype: Any, x: Any) -> None:
    x = values_of(x)
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
    if kind is jnp.floating and not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"input {name!r}: expected {dtype}, received {describe(x)}; "
            f"convert it with x.astype({str(dtype)!r}), or write jl.Input(shape, dtype={str(x.dtype)!r})"
        )
    if kind is jnp.integer and jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"input {name!r}: expected whole numbers of {dtype}, received {describe(x)}")


@layer
def InputLayer(shape: tuple[int | None, ...], dtype: str = "float32"):
    """Passes its input through after checking it: what an `Input` becomes at the head of a `Sequential`.

    Args:
        shape: without the batch dimension; None for a dimension that may vary.
        dtype: of the data.

    Raises:
        ValueError: data of another shape.
        TypeError: whole numbers where floating ones are expected, or the other way round.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.InputLayer((3,)).apply({}, {}, jnp.ones((2, 3)))[0].shape
    (2, 3)
    """

    def init(key: Any, x: Any) -> dict[str, Any]:
        _check("input", shape, jnp.dtype(dtype), x)
        return {}

    @keeps_mask
    def apply(params: Any, x: Any) -> Any:
        _check("input", shape, jnp.dtype(dtype), x)
        return x

    apply.autocast = False  # type: ignore[attr-defined]
    return init, apply


def _table_wiring(inputs: Any, nodes: Mapping[str, Mapping[str, Any]], outputs: Any) -> Wiring:
    """The container that a table of nodes describes; what `Model` writes and YAML holds.

    Args:
        inputs: names of input nodes in any pytree.
        nodes: per name either `{input: shape, dtype: ...}`, or `{layer: ..., inputs: [...]}`, or
            `{shared: name of an earlier use, inputs: [...]}`. `"lstm[1]"` is output 1 of node `lstm`.
        outputs: names of nodes in any pytree.
    """
    table = read_table(nodes)
    sources = {name: node for name, node in table.items() if "input" in node}
    order = list(in_order(table, outputs))
    listed, needed = jax.tree.leaves(inputs), set(order)
    if unlisted := sorted(needed & sources.keys() - set(listed), key=order.index):
        raise ValueError(f"Model: the outputs need {unlisted[0]!r}, which is not among the inputs; list it")
    for name in listed:
        if name not in sources:
            raise ValueError(f"Model: {name!r} is listed as an input: {nearest(name, sources)}")
        if name not in needed:
            raise ValueError(f"Model: the outputs do not depend on the input {name!r}; remove it")
    if unused := [name for name in table if name not in needed]:
        raise ValueError(f"Model: the outputs do not depend on the node {unused[0]!r}; remove it")
    children: dict[str, Layer] = {}
    for name in order:
        if "layer" in table[name]:
            children[name] = as_layer(table[name]["layer"], f"Model, node {name!r}")
    remember(children)
    child_of = {name: table[name].get("shared", name) for name in order}
    for name, child in child_of.items():
        if name not in sources and child not in children:
            raise ValueError(
                f"Model, node {name!r}: shared={child!r} is no layer: {nearest(child, children)}"
            )

    def route(call: Any, *given: Any) -> Any:
        values = by_name(inputs, given, sources)
        for name in order:
            if name in sources:
                source = sources[name]
                _check(name, source["input"], jnp.dtype(source.get("dtype", "float32")), values[name])
            else:
                refs = table[name]["inputs"]
                values[name] = call(child_of[name], *jax.tree.map(lambda r: find(values, r), refs))
        return jax.tree.map(lambda r: find(values, r), outputs)

    return routed(children, route, autocast=False)


model_from_table = layer(_table_wiring, "Model")


def read_table(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The table with every node checked to be of one of the three forms, and `inputs` made a list."""
    table: dict[str, dict[str, Any]] = {}
    for name, given in nodes.items():
        node = dict(given)
        kinds = [kind for kind in ("input", "layer", "shared") if kind in node]
        source = kinds == ["input"]
        allowed = {"input", "dtype"} if source else {"layer", "shared", "inputs"}
        if len(kinds) != 1 or not set(node) <= allowed or (not source and "inputs" not in node):
            raise ValueError(
                f"Model, node {name!r}: expected {{input: shape}} or {{layer: ..., inputs: [...]}} or "
                f"{{shared: name, inputs: [...]}}, received {node!r}"
            )
        if not source and not isinstance(node["inputs"], (list, tuple)):
            node["inputs"] = [node["inputs"]]
        table[name] = node
    return table


def _parse(ref: Any) -> tuple[str, int]:
    found = _REF.fullmatch(ref) if isinstance(ref, str) else None
    if found is None:
        raise ValueError(
            f"Model: expected the name of a node, such as 'dense' or 'lstm[1]', received {ref!r}"
        )
    return found["name"], int(found["index"] or 0)


def find(values: Mapping[str, Any], ref: str) -> Any:
    name, index = _parse(ref)
    outputs = leaves(values[name])
    if index >= len(outputs):
        many = "one output" if len(outputs) == 1 else f"{len(outputs)} outputs, counted from 0"
        raise ValueError(f"Model: expected an output of node {name!r}, which has {many}, received {ref!r}")
    return outputs[index]


def in_order(table: Mapping[str, Mapping[str, Any]], outputs: Any) -> Iterator[str]:
    """Names of the nodes that the outputs need, each after those it depends on, in the table's order."""
    done: set[str] = set()
    trail: dict[str, Iterator[str]] = {}  # the nodes on the way, each with the reads that are left to follow

    def follow(name: str) -> None:
        if name in trail:
            raise ValueError(f"Model: the graph has a cycle: {' -> '.join([*trail, name])}")
        if name not in table:
            reader = f"node {next(reversed(trail))!r} reads" if trail else "the outputs name"
            raise ValueError(f"Model: {reader} {name!r}, which is no node: {nearest(name, table)}")
        reads = jax.tree.leaves(table[name].get("inputs", []))
        trail[name] = iter([_parse(ref)[0] for ref in reads])

    for output in jax.tree.leaves(outputs):
        name = _parse(output)[0]
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


def by_name(inputs: Any, given: tuple[Any, ...], sources: Mapping[str, Any]) -> dict[str, Any]:
    """The given arrays by input name; the structure must be that of `inputs`, names matched exactly."""
    names = jax.tree.leaves(inputs)
    if len(given) == 1 and isinstance(given[0], dict) and not isinstance(inputs, dict):
        given_names = given[0]
        if set(given_names) != set(names):
            raise _mismatch(names, given_names)
        return dict(given_names)
    expected = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    if len(given) == 1 and len(expected) > 1 and isinstance(given[0], (list, tuple)):
        given = tuple(given[0])
    named = isinstance(inputs, dict) and len(given) == 1 and isinstance(given[0], dict)
    if named and set(given[0]) != set(inputs):
        raise _mismatch(list(inputs), given[0])
    if jax.tree.structure(expected) != jax.tree.structure(given, is_leaf=is_masked):
        shown = {n: shape_text((None, *sources[n]["input"])) for n in names}
        raise ValueError(f"Model: expected the inputs {shown}, received {describe(given) or 'none'}")
    return dict(zip(names, leaves(given), strict=True))


def _mismatch(expected: Sequence[str], given: Mapping[str, Any]) -> ValueError:
    missing = [n for n in expected if n not in given]
    extra = [n for n in given if n not in expected]
    parts = [f"missing {missing}"] * bool(missing) + [f"unknown {extra}"] * bool(extra)
    return ValueError(
        f"Model: expected the named inputs {list(expected)}, received {list(given)}: {', '.join(parts)}"
    )
