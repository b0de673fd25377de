"""Parts of a model as new models: up to a layer, with another head, with a layer put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax

from jlayers.core.calls import taught
from jlayers.core.compose import Sequential
from jlayers.core.errors import about, concerning, refused
from jlayers.core.layer import Layer
from jlayers.core.node_table import find_use, in_order, model_from_table, parse
from jlayers.core.precision import Policy
from jlayers.core.remaking import remake
from jlayers.core.spelling import UnknownNameError, nearest
from jlayers.core.structure import Chain, Source, Table, Use
from jlayers.transform.substitute import replace_layers

__all__ = ["cut", "insert", "replace_head"]


@taught
def cut(model: Layer, at: Any) -> Layer:
    """The part of a model that leads from its inputs to the output of a layer.

    Layers keep their names, so that the weights of the model fit. What is frozen stays frozen, and each layer
    keeps its precision policy.

    Args:
        model: a `Model`, a `Sequential`, or a layer whose constructor returned one.
        at: the name of a layer, such as `"block5_pool"`; `"lstm[1]"` is output 1 of a layer with several,
            `"dense@1"` the second use of a shared layer. `"base/conv"` cuts the model `base` inside.
            A list or a dict of names gives a model with such outputs; it needs a `Model`.

    Raises:
        UnknownNameError: the model has no layer of that name.
        TypeError: the layers inside are not connected as in a `Model` or a `Sequential`. `jl.Tap` reads inner
            outputs of any layer.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8, name="features"), jl.Dropout(0.5), jl.Dense(2))
    >>> jl.cut(model, "features")
    Sequential([Dense(8, name='features')])
    """
    return model.kept(("cut", _site(at)), lambda: _cut(model, at))


def _cut(model: Layer, at: Any) -> Layer:
    if isinstance(at, str) and "/" in at:
        outer, _, inner = at.partition("/")
        shorter = cut(model, outer)
        child = _child_at(shorter, outer)
        _used_once(shorter, child, at)
        return replace_layers(shorter, {child: lambda part: cut(part, inner)})
    if isinstance(model.structure, Chain):
        order = model.structure.order
        if not isinstance(at, str):
            raise refused(
                TypeError,
                "expected the name of one layer, for a Sequential has one output",
                instead="jl.Tap(model, names) gives several",
                raised_by="cut",
                at=at,
            )
        with concerning(at=at):
            last = _place(order, at)
        return _chain(model, [model.children[name] for name in order[: last + 1]])
    table = _table(model, "cut")
    with concerning(at=at):
        for ref in jax.tree.leaves(at):
            _known(table.nodes, ref)
    return _model(model, Table(table.inputs, table.nodes, at), model.children)


@taught
def replace_head(model: Layer, head: Layer | Sequence[Layer], after: str | None = None) -> Layer:
    """The model with other layers in place of its last ones.

    Args:
        model: as in `cut`, with one output.
        head: the new last layer, or several that run one after the other. They are trained even if the model
            is frozen, and take the precision policy of the model unless they have their own.
        after: the name of the last layer to keep, as in `cut`. If not given, only the last layer is replaced.

    Raises:
        UnknownNameError: the model has no layer of that name.
        ValueError: the last layer has several inputs, so `after` is needed.
        TypeError: as in `cut`.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8), jl.Dense(1000, name="predictions"))
    >>> jl.replace_head(jl.freeze(model), jl.Dense(5, name="head"))
    Sequential([Dense(8, trainable=False), Dense(5, name='head')])
    """
    head = (head,) if isinstance(head, Layer) else head
    if isinstance(head, str) or not isinstance(head, Sequence):
        raise refused(TypeError, "expected a layer or a list of layers", raised_by="replace_head", head=head)
    head = tuple(head)
    return model.kept(("replace_head", head, after), lambda: _with_head(model, head, after))


def _with_head(model: Layer, head: Sequence[Layer], after: str | None) -> Layer:
    after = _before_last(model) if after is None else _name(after, "replace_head")
    with concerning(after=after):
        part = cut(model, after)
    new = [_under(model.precision.get(""), layer) for layer in head]
    if isinstance(part.structure, Chain):
        return _chain(model, [*(part.children[name] for name in part.structure.order), *new], whole=False)
    table, children = _table(part, "replace_head"), dict(part.children)
    nodes, output = dict(table.nodes), table.outputs
    for layer in new:
        output = _add(nodes, children, layer, output)
    return _model(model, Table(table.inputs, nodes, output), children, whole=False)


@taught
def insert(model: Layer, layer: Layer, after: str) -> Layer:
    """The model with one more layer between a layer and all those that read its output.

    Args:
        model: as in `cut`.
        layer: what to put in. It takes the precision policy of the model unless it has its own.
        after: the name of the layer whose output it reads. `"base/conv"` inserts into the model `base`.

    Raises:
        UnknownNameError: the model has no layer of that name.
        TypeError: as in `cut`.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8), jl.Dense(2))
    >>> jl.insert(model, jl.Dropout(0.5), after="dense")
    Sequential([Dense(8, name='dense'), Dropout(0.5), Dense(2, name='dense_1')])
    """
    return model.kept(("insert", layer, after), lambda: _inserted(model, layer, after))


def _inserted(model: Layer, layer: Layer, after: str) -> Layer:
    if "/" in _name(after, "insert"):
        outer, _, inner = after.partition("/")
        return replace_layers(model, {outer: lambda part: insert(part, layer, inner)})
    layer = _under(model.precision.get(""), layer)
    if isinstance(model.structure, Chain):
        order = model.structure.order
        named = {name: _named(model.children[name], name) for name in order}
        members = [named[name] for name in order]
        with concerning(after=after):
            members.insert(_place(order, after) + 1, layer)
        return _chain(model, members, whole=False)
    table = _table(model, "insert")
    with concerning(after=after):
        _known(table.nodes, after)
    nodes, children = dict(table.nodes), dict(model.children)
    output = _add(nodes, children, layer, after)

    def moved(ref: str) -> str:
        return output if ref == after else ref

    for name, node in table.nodes.items():
        if isinstance(node, Use):
            nodes[name] = Use(node.child, jax.tree.map(moved, node.inputs))
    return _model(
        model, Table(table.inputs, nodes, jax.tree.map(moved, table.outputs)), children, whole=False
    )


def _name(after: Any, raised_by: str) -> str:
    if not isinstance(after, str):
        raise refused(TypeError, "expected the name of a layer", raised_by=raised_by, after=after)
    return after


def _site(at: Any) -> Any:
    """The name of an output, as a key of a dict."""
    leaves, form = jax.tree.flatten(at)
    return tuple(leaves), form


# ------------------------------------------------------------------------------------------- chains


def _chain(model: Layer, members: Sequence[Layer], whole: bool = True) -> Layer:
    return _like(model, Sequential(*members, name=model.name), whole)


def _place(order: Sequence[str], at: str) -> int:
    """The position of a layer in a chain; `dense@1` is the second use of `dense`."""
    name, _, number = at.partition("@")
    places = [i for i, other in enumerate(order) if other == name]
    if not places or (number and not (number.isdigit() and int(number) < len(places))):
        raise UnknownNameError(f"the model has no layer {at!r}: {nearest(at, order)}")
    return places[int(number or 0)]


def _named(layer: Layer, name: str) -> Layer:
    return layer if layer.name == name else layer.with_name(name)


# ------------------------------------------------------------------------------------------- tables


def _table(model: Layer, where: str) -> Table:
    if isinstance(model.structure, Table):
        return model.structure
    raise refused(
        TypeError,
        "expected a Model or a Sequential, or a layer whose constructor returns one",
        instead="jl.Tap reads the outputs of layers inside any layer",
        raised_by=where,
        model=model,
    )


def _known(nodes: Mapping[str, Any], ref: Any) -> None:
    name = parse(ref)[0]
    if name not in nodes:
        raise UnknownNameError(f"the model has no layer {name!r}: {nearest(name, nodes)}")


def _model(model: Layer, table: Table, children: Mapping[str, Layer], whole: bool = True) -> Layer:
    """A `Model` of what the outputs need. The first use of each layer that is left has the layer's name."""
    order = list(in_order(table))
    names: dict[str, str] = {}
    uses: dict[str, int] = {}
    for name in order:
        node = table.nodes[name]
        if isinstance(node, Use):
            number = uses[node.child] = uses.get(node.child, -1) + 1
            names[name] = f"{node.child}@{number}" if number else node.child
        else:
            names[name] = name

    def moved(ref: str) -> str:
        name, _ = parse(ref)
        return names[name] + ref[len(name) :]

    nodes: dict[str, Any] = {}
    for name in order:
        node = table.nodes[name]
        if isinstance(node, Source):
            nodes[name] = {"input": list(node.shape), "dtype": node.dtype}
            if node.dtype == "float32":
                del nodes[name]["dtype"]
        else:
            inputs = jax.tree.map(moved, list(node.inputs))
            first = names[name] == node.child
            held = {"layer": children[node.child]} if first else {"shared": node.child}
            nodes[names[name]] = {**held, "inputs": inputs}
    inputs = _needed(table.inputs, set(order))
    made = model_from_table(inputs, nodes, jax.tree.map(moved, table.outputs), name=model.name)
    return _like(model, made, whole)


def _needed(inputs: Any, names: set[str]) -> Any:
    """The inputs in their structure, without those that nothing needs."""
    if isinstance(inputs, Mapping):
        kept = {key: _needed(each, names) for key, each in inputs.items()}
        return {key: each for key, each in kept.items() if each is not None} or None
    if isinstance(inputs, (list, tuple)):
        kept = [each for each in (_needed(each, names) for each in inputs) if each is not None]
        return type(inputs)(kept) if kept else None
    return inputs if inputs in names else None


def _add(nodes: dict[str, Any], children: dict[str, Layer], layer: Layer, reads: Any) -> str:
    """Enter a node of a new layer that reads other nodes; its name."""
    stem = layer.name or layer.spec.stem
    name, number = stem, 0
    while name in nodes:
        if layer.name:
            error = ValueError(f"expected a new layer of another name, received {layer!r}: there is one")
            raise about(error, layer=layer)
        number += 1
        name = f"{stem}_{number}"
    nodes[name] = Use(name, (reads,))
    children[name] = layer
    return name


# -------------------------------------------------------------------------------------------- both


def _like(model: Layer, part: Layer, whole: bool) -> Layer:
    """The part under the policy of the model; wholly frozen if the model is and nothing was added."""
    policy = model.precision.get("")
    precision = part.precision if policy is None else {"": policy, **part.precision}
    frozen = part.frozen
    if whole and "" in model.frozen:
        frozen = frozenset(path for path, _ in part.walk())
    return remake(part, frozen, precision)


def _under(policy: Policy | None, layer: Layer) -> Layer:
    return layer if policy is None or layer.precision else layer.with_precision(policy.inside)


def _child_at(model: Layer, at: str) -> str:
    name = parse(at)[0]
    if isinstance(model.structure, Table):
        return find_use(model.structure, jax.tree.leaves(model.structure.outputs)[0]).child
    return name.partition("@")[0]


def _used_once(model: Layer, child: str, at: str) -> None:
    structure = model.structure
    if isinstance(structure, Chain):
        uses = structure.order.count(child)
    else:
        uses = sum(isinstance(node, Use) and node.child == child for node in structure.nodes.values())
    if uses > 1:
        error = ValueError(
            f"cut: expected a model inside that is used once, received at={at!r}, where {child!r} runs "
            f"{uses} times: its first uses would be cut, too; jl.Tap reads the output without a cut"
        )
        raise about(error, at=at)


def _before_last(model: Layer) -> str:
    """The name of the layer whose output the last layer reads."""
    if isinstance(model.structure, Chain):
        order = model.structure.order
        if len(order) < 2:
            _need_after(model)
        place = order[:-1].count(order[-2]) - 1
        return f"{order[-2]}@{place}" if place else order[-2]
    table = _table(model, "replace_head")
    if not isinstance(table.outputs, str):
        _need_after(model)
    last = find_use(table, table.outputs)
    if len(last.inputs) != 1 or not isinstance(last.inputs[0], str):
        _need_after(model)
    return last.inputs[0]


def _need_after(model: Layer) -> NoReturn:
    raise refused(
        ValueError,
        "expected a model whose last layer has one input and gives the only output",
        instead="say which layer to keep as the last one with after='name'",
        raised_by="replace_head",
        model=model,
    )
