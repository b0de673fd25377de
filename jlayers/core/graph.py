"""From nodes to a model, and from a model back to nodes.

`Model` reads the graph off its outputs and writes it down as a table of named nodes, which is also what YAML
holds. `graph` makes the nodes again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.calls import taught
from jlayers.core.errors import about, concerning
from jlayers.core.layer import Layer
from jlayers.core.masks import leaves
from jlayers.core.names import known_name, unique_names
from jlayers.core.node import Input, LayerCall, Node, connect
from jlayers.core.node_table import find, in_order, model_from_table
from jlayers.core.policy import PrecisionLike
from jlayers.core.spelling import UnknownNameError, nearest
from jlayers.core.structure import Chain, Source, Table

__all__ = ["Graph", "Input", "Model", "Node", "graph"]


@taught
def Model(
    inputs: Any,
    outputs: Any,
    name: str | None = None,
    trainable: bool = True,
    frozen: list[str] | None = None,
    precision: PrecisionLike | None = None,
) -> Layer:
    """A layer from a graph: what leads from `inputs` to `outputs`.

    Args:
        inputs: nodes in any pytree. A list gives a layer of several inputs, `apply(params, state, a, b)`;
            a dict one of named inputs, `apply(params, state, {"a": a, "b": b})`, matched exactly. An inner
            node may serve as an input: the graph is cut there.
        outputs: nodes in any pytree; the layer's output has the same structure. Any inner node may be one.
        name: name in the parent.
        trainable: False freezes every layer inside.
        frozen: relative paths of the layers inside that are frozen; what `freeze` writes.
        precision: dtypes of the layers inside; what `with_precision` takes.

    Raises:
        ValueError: an input that the outputs need and that is not listed, a listed input that they do not
            need, or two layers of one name. An unnamed layer has the name that it got in the first model it
            became a part of.

    >>> import jax, jlayers as jl
    >>> a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    >>> encode = jl.Dense(8)
    >>> model = jl.Model([a, b], jl.Concatenate()(encode(a), encode(b)))
    >>> params, state = model.init(jax.random.key(0), (2, 4), (2, 4))
    >>> y, state = model.apply(params, state, jax.numpy.ones((2, 4)), jax.numpy.ones((2, 4)))
    >>> list(params), y.shape
    (['dense'], (2, 16))
    """
    listed = _nodes_of(inputs, "inputs")
    targets = _nodes_of(outputs, "outputs")
    known: set[Node] = set()
    for node in listed:
        if node in known:
            raise about(ValueError(f"Model: the input {node!r} is listed twice"), inputs=inputs)
        known.add(node)
    with concerning(outputs=outputs):
        calls = _reachable(targets, listed)
        names = _name_calls(calls, listed)

    def ref(node: Node) -> str:
        if node in known:
            return names[node]
        several = len(leaves(node.call.spec)) > 1
        return names[node.call] + (f"[{node.index}]" if several else "")

    table: dict[str, Any] = {
        names[node]: {
            "input": list(node.shape[1:]),
            **({} if node.dtype == jnp.float32 else {"dtype": str(node.dtype)}),
        }
        for node in listed
    }
    first: dict[Layer, str] = {}
    for call in calls:
        assert call.layer is not None
        shared = first.get(call.layer)
        use = {"layer": call.layer} if shared is None else {"shared": shared}
        first.setdefault(call.layer, names[call])
        table[names[call]] = {**use, "inputs": jax.tree.map(ref, list(call.inputs))}
    return model_from_table(
        jax.tree.map(ref, inputs),
        table,
        jax.tree.map(ref, outputs),
        name=name,
        trainable=trainable,
        frozen=frozen,
        precision=precision,
    )


def _nodes_of(tree: Any, role: str) -> list[Node]:
    nodes = jax.tree.leaves(tree)
    for leaf in nodes:
        if not isinstance(leaf, Node):
            error = TypeError(
                f"Model: expected nodes as {role}, received {leaf!r}; an input is made by jl.Input(shape)"
            )
            raise about(error, **{role: tree})
    if not nodes:
        error = ValueError(f"Model: expected at least one node among the {role}, received {tree!r}")
        raise about(error, **{role: tree})
    return nodes


def _reachable(targets: Sequence[Node], listed: Sequence[Node]) -> list[LayerCall]:
    """The calls that the targets need, each after those it depends on."""
    order: dict[LayerCall, None] = {}
    heads = set(listed)
    used: set[Node] = set()
    active: set[LayerCall] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(targets)]
    while stack:
        node, done = stack.pop()
        call = node.call
        if done:
            active.discard(call)
            order.setdefault(call)
        elif node in heads:
            used.add(node)
        elif call.layer is None:
            raise ValueError(
                f"Model: the outputs need {node!r}, which is not among the inputs; "
                + (
                    "an input of that name is: each call of jl.graph makes new nodes, so call it once and "
                    "take inputs and outputs from what it gave"
                    if call.name and any(call.name == other.call.name for other in listed)
                    else "list it, or take an output that does not depend on it"
                )
            )
        elif call in active:
            raise ValueError(f"Model: the graph has a cycle through {call.layer!r}")
        elif call not in order:
            active.add(call)
            stack.append((node, True))
            stack.extend((n, False) for n in reversed(jax.tree.leaves(call.inputs)))
    for node in listed:
        if node not in used:
            error = ValueError(f"Model: the outputs do not depend on the input {node!r}; remove it")
            raise about(error, inputs=list(listed))
    return list(order)


def _name_calls(calls: Sequence[LayerCall], listed: Sequence[Node]) -> dict[Any, str]:
    """A name for each input node and each call; further calls of one layer are `dense@1`, `dense@2`.

    A layer without a name of its own keeps the one that it has in a model made before, so that weights fit
    both. The table writes it down.
    """
    preferred = {call.layer: call.name for call in reversed(calls) if call.layer and call.name}
    members = [call.layer for call in calls if call.layer]
    for member in members:
        if member.name is None and (known := known_name(member)):
            preferred.setdefault(member, known)
    children = unique_names(members, "Model", preferred)
    name_of = {member: name for name, member in children.items()}
    names: dict[Any, str] = {}
    uses: dict[str, int] = {}
    for call in calls:
        name = name_of[call.layer]  # type: ignore[index]
        uses[name] = uses.get(name, -1) + 1
        names[call] = f"{name}@{uses[name]}" if uses[name] else name
    used_names = set(names.values())
    for node in listed:
        name = node.call.name or ("input" if node.call.layer is None else node.call.layer.spec.stem)
        stem, number = name, 0
        while name in used_names:
            if node.call.name and node.call.layer is None:
                raise ValueError(f"Model: two parts of the graph are named {name!r}; rename one")
            number += 1
            name = f"{stem}_{number}"
        used_names.add(name)
        names[node] = name
    return names


@dataclasses.dataclass(frozen=True)
class Graph:
    """The nodes of a model, to take it apart: `inputs` and `outputs` in their structure, others by name."""

    inputs: Any
    outputs: Any
    nodes: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        if name not in self.nodes:
            raise UnknownNameError(f"the graph has no node {name!r}: {nearest(name, self.nodes)}")
        return self.nodes[name]


@taught
def graph(model: Layer) -> Graph:
    """The graph inside a `Model`, or a `Sequential` that starts with an `Input`: for surgery.

    A layer whose constructor returned such a model has that model's graph. Nodes keep the names that their
    layers have in the model, so that its weights fit whatever is built from them.

    Raises:
        TypeError: the layer is neither.

    >>> import jlayers as jl
    >>> base = jl.Sequential(jl.Input((4,)), jl.Dense(8), jl.Dense(2, name="top"))
    >>> inner = jl.graph(base)
    >>> head = jl.Model(inner.inputs, jl.Dense(5, name="new")(inner["dense"]))
    >>> list(head.children)
    ['dense', 'new']
    """
    structure, children = model.structure, model.children
    nodes: dict[str, Any] = {}

    def node(ref: str) -> Node:
        return find(nodes, ref)

    if isinstance(structure, Chain):
        first, *rest = structure.order
        source = children[first].structure
        if not isinstance(source, Source):
            raise TypeError(
                f"graph: expected a Sequential that starts with jl.Input(shape), received {model!r}"
            )
        start = x = nodes[first] = Input(source.shape, source.dtype, first)
        for name in rest:
            x = nodes[name] = connect(children[name], (x,), name)
        return Graph(start, x, nodes)
    if not isinstance(structure, Table):
        raise TypeError(f"graph: expected a Model or a Sequential, received {model!r}")
    for name in in_order(structure):
        made_by = structure.nodes[name]
        if isinstance(made_by, Source):
            nodes[name] = Input(made_by.shape, made_by.dtype, name)
        else:
            inputs = jax.tree.map(node, made_by.inputs)
            nodes[name] = connect(children[made_by.child], inputs, made_by.child)
    return Graph(jax.tree.map(node, structure.inputs), jax.tree.map(node, structure.outputs), nodes)
