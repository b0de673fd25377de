"""A model cut in two behind its frozen part: what computes features, and what is trained on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from jlayers.core.base import Layer
from jlayers.core.errors import refused
from jlayers.core.lifting import MissingKeyError
from jlayers.core.masks import is_masked
from jlayers.core.node_table import by_name, find, in_order, parse, read
from jlayers.core.remaking import rewired
from jlayers.core.shapes import as_spec
from jlayers.core.structure import Chain, Source, Table, Use
from jlayers.core.wiring import routed

__all__ = ["FeatureSplit", "split_features"]


@dataclasses.dataclass(frozen=True)
class FeatureSplit:
    """Both take all parameters and the whole state of the model, so that nothing has to be taken apart.

    Attributes:
        base: from the model's inputs to a dict of features.
        head: from that dict to the model's outputs; its only input.
        forms: by name a spec of each feature: the layers that give them, or inputs that are handed on.
    """

    base: Layer
    head: Layer
    forms: Mapping[str, jax.ShapeDtypeStruct]


def split_features(model: Layer, *inputs: Any) -> FeatureSplit:
    """The model cut behind all that never changes in training.

    What never changes: frozen layers, and layers without parameters, state and randomness, as long as they
    read nothing else. Then `head(base(x))` is the model, and `base(x)` is computed only once per sample. If
    only the first layers of an inner model are frozen, the cut is behind them.

    Args:
        model: a `Model`, a `Sequential`, or a layer whose constructor returned one.
        *inputs: arrays, shapes or specs of the model's inputs.

    Raises:
        TypeError: the model is neither.
        ValueError: no frozen layer stands where the model begins, or features have a mask.

    >>> import jax, jlayers as jl
    >>> from jlayers.transform.features import split_features
    >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dropout(0.5), jl.Dense(2))
    >>> list(split_features(jl.freeze(model, "base"), (1, 4)).forms)
    ['base']
    """
    specs = tuple(map(as_spec, inputs))
    if not isinstance(model.structure, (Table, Chain)):
        raise refused(
            TypeError,
            "expected a Model or a Sequential, or a layer whose constructor returns one, to compute the "
            "features of its frozen part once",
            model=model,
        )
    params, state = jax.eval_shape(lambda key: model.init(key, *specs), jax.random.key(0))
    cut = _cut(model, len(specs), params, state)
    if cut is None:
        raise ValueError(_nothing_fixed(model, len(specs), params, state))
    return FeatureSplit(cut.base, cut.head, _forms(cut.base, params, state, specs))


@dataclasses.dataclass(frozen=True)
class _Cut:
    """The two parts of a model, and the names of the features between them."""

    base: Layer
    head: Layer
    features: tuple[str, ...]


def _cut(model: Layer, inputs: int, params: Mapping[str, Any], state: Mapping[str, Any]) -> _Cut | None:
    """The model cut in two; None if nothing with parameters, or all, is before the cut."""
    table = _table(model, inputs)
    uses, fixed = _fixed(model, table, params, state)
    computed = [name for name in uses if fixed[name]]
    trained = [name for name in uses if not fixed[name]]
    within: dict[str, _Cut] = {}  # models that are frozen at their beginning only, and cut inside
    for name in trained:
        child, reads = uses[name].child, [parse(ref)[0] for ref in jax.tree.leaves(uses[name].inputs)]
        once = sum(use.child == child for use in uses.values()) == 1
        if once and all(fixed[ref] for ref in reads):
            cut = _cut_inside(model.children[child], len(uses[name].inputs), params, state, child)
            within |= {name: cut} if cut else {}
    if not trained or not (within or any(uses[name].child in params for name in computed)):
        return None
    readers = [jax.tree.leaves(uses[name].inputs) for name in trained if name not in within]
    readers.append(jax.tree.leaves(table.outputs))
    at = tuple(dict.fromkeys(ref for refs in readers for ref in refs if fixed[parse(ref)[0]]))

    def base_route(call: Callable[..., Any], *given: Any) -> Any:
        value = _run(table, computed, call, _given(model, table, given))
        features = {ref: value(ref) for ref in at}
        for name in within:
            found = call(uses[name].child, *jax.tree.map(value, uses[name].inputs))
            features |= {f"{name}/{ref}": x for ref, x in found.items()}
        return features

    def head_route(call: Callable[..., Any], features: Mapping[str, Any]) -> Any:
        inputs = {
            name: ({ref: features[f"{name}/{ref}"] for ref in cut.features},) for name, cut in within.items()
        }
        return jax.tree.map(_run(table, trained, call, features, inputs), table.outputs)

    def half(route: Callable[..., Any], parts: Mapping[str, Layer]) -> Layer:
        children = {**(model.original or model).children}
        children |= {uses[name].child: part.original or part for name, part in parts.items()}
        return rewired(model, routed(children, route, autocast=False, structure=model.structure))

    return _Cut(
        half(base_route, {name: cut.base for name, cut in within.items()}),
        half(head_route, {name: cut.head for name, cut in within.items()}),
        (*at, *(f"{name}/{ref}" for name, cut in within.items() for ref in cut.features)),
    )


def _cut_inside(
    layer: Layer, inputs: int, params: Mapping[str, Any], state: Mapping[str, Any], name: str
) -> _Cut | None:
    if not layer.frozen or layer.stacked or not isinstance(layer.structure, (Table, Chain)):
        return None
    return _cut(layer, inputs, params.get(name, {}), state.get(name, {}))


def _fixed(
    model: Layer, table: Table, params: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[dict[str, Use], dict[str, bool]]:
    """The uses of layers in their order; and which nodes never change in training."""
    order = list(in_order(table))
    uses = {name: node for name in order if isinstance(node := table.nodes[name], Use)}
    fixed = dict.fromkeys(table.sources, True)
    for name, use in uses.items():
        fixed[name] = _is_fixed(model.children[use.child], use.child, params, state) and all(
            fixed[parse(ref)[0]] for ref in jax.tree.leaves(use.inputs)
        )
    return uses, fixed


def _run(
    table: Table,
    names: Iterable[str],
    call: Callable[..., Any],
    known: Mapping[str, Any],
    inputs: Mapping[str, tuple[Any, ...]] = MappingProxyType({}),
) -> Callable[[str], Any]:
    """Run these nodes on known values; a function that gives the value of any reference.

    `inputs` are those of nodes that take something other than the table says.
    """
    values: dict[str, Any] = {}

    def value(ref: str) -> Any:
        return known[ref] if ref in known else find(values, ref)

    for name in names:
        node = table.nodes[name]
        assert isinstance(node, Use)
        values[name] = call(node.child, *(inputs.get(name) or jax.tree.map(value, node.inputs)))
    return value


def _table(model: Layer, inputs: int) -> Table:
    """The structure as a table; the inputs of a chain have names that no layer can have."""
    structure = model.structure
    if isinstance(structure, Table):
        return structure
    assert isinstance(structure, Chain)
    reads = tuple(f"input {i}" for i in range(inputs))
    nodes: dict[str, Source | Use] = {name: Source(()) for name in reads}
    uses: dict[str, int] = {}
    for child in structure.order:
        uses[child] = uses.get(child, -1) + 1
        name = f"{child}@{uses[child]}" if uses[child] else child
        nodes[name] = Use(child, reads)
        reads = (name,)
    return Table([f"input {i}" for i in range(inputs)], nodes, reads[0])


def _given(model: Layer, table: Table, given: tuple[Any, ...]) -> dict[str, Any]:
    if isinstance(model.structure, Chain):
        return dict(zip(table.inputs, given, strict=True))
    return {name: read(name, table.sources[name], x) for name, x in by_name(table, given).items()}


def _is_fixed(child: Layer, name: str, params: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    return "" in child.frozen or not (child.draws or name in params or name in state)


def _forms(base: Layer, params: Any, state: Any, specs: tuple[Any, ...]) -> dict[str, Any]:
    try:
        features, _ = jax.eval_shape(base.apply, params, state, *specs)
    except MissingKeyError as error:
        error.add_note("features of a layer that draws in inference mode, too, cannot be kept")
        raise
    for name, value in features.items():
        if is_masked(value):
            raise ValueError(
                f"expected features that are plain arrays, received a mask with the output of {name!r}; "
                f"train such a model without keeping features"
            )
    return features


def _nothing_fixed(model: Layer, inputs: int, params: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    uses, fixed = _fixed(model, _table(model, inputs), params, state)
    first = next((name for name in uses if not fixed[name]), None)
    if first is None:
        return f"expected a model with a layer that is trained, received {model!r}"
    if not model.frozen:
        return (
            f"expected a model that begins with frozen layers, whose outputs can be kept, received one "
            f"in which all is trained; freeze what is to stay as it is, such as {first!r}"
        )
    why = "draws random numbers" if model.children[uses[first].child].draws else "is trained"
    return (
        f"expected a model that begins with frozen layers, received one in which {first!r}, before the "
        f"first of them, {why}; freeze what stands before, or move random layers into the data"
    )
