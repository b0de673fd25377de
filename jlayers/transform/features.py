"""A model cut in two behind its frozen part: what computes features, and what is trained on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from jlayers.core.base import Layer
from jlayers.core.lifting import MissingKeyError
from jlayers.core.masks import is_masked
from jlayers.core.node_table import by_name, find, in_order, parse, read
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
    read nothing else. Then `head(base(x))` is the model, and `base(x)` is computed only once per sample.

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
    table = _table(model, len(specs))
    params, state = jax.eval_shape(lambda key: model.init(key, *specs), jax.random.key(0))
    order = list(in_order(table))
    uses = {name: node for name in order if isinstance(node := table.nodes[name], Use)}
    fixed = dict.fromkeys(table.sources, True)
    for name, use in uses.items():
        fixed[name] = _is_fixed(model.children[use.child], use.child, params, state) and all(
            fixed[parse(ref)[0]] for ref in jax.tree.leaves(use.inputs)
        )
    computed = [name for name in uses if fixed[name]]
    trained = [name for name in uses if not fixed[name]]
    if not trained or not any(uses[name].child in params for name in computed):
        raise ValueError(_nothing_fixed(model, uses, trained))
    readers = [jax.tree.leaves(uses[name].inputs) for name in trained] + [jax.tree.leaves(table.outputs)]
    at = tuple(dict.fromkeys(ref for refs in readers for ref in refs if fixed[parse(ref)[0]]))

    def base_route(call: Callable[..., Any], *given: Any) -> Any:
        value = _run(table, computed, call, _given(model, table, given))
        return {ref: value(ref) for ref in at}

    def head_route(call: Callable[..., Any], features: Mapping[str, Any]) -> Any:
        return jax.tree.map(_run(table, trained, call, features), table.outputs)

    base, head = (
        model.rewired(
            routed(dict((model.original or model).children), route, autocast=False, structure=model.structure)
        )
        for route in (base_route, head_route)
    )
    return FeatureSplit(base, head, _forms(base, params, state, specs))


def _run(
    table: Table, names: Iterable[str], call: Callable[..., Any], known: Mapping[str, Any]
) -> Callable[[str], Any]:
    """Run these nodes on known values; a function that gives the value of any reference."""
    values: dict[str, Any] = {}

    def value(ref: str) -> Any:
        return known[ref] if ref in known else find(values, ref)

    for name in names:
        node = table.nodes[name]
        assert isinstance(node, Use)
        values[name] = call(node.child, *jax.tree.map(value, node.inputs))
    return value


def _table(model: Layer, inputs: int) -> Table:
    """The structure as a table; the inputs of a chain have names that no layer can have."""
    structure = model.structure
    if isinstance(structure, Table):
        return structure
    if not isinstance(structure, Chain):
        raise TypeError(
            f"expected a Model or a Sequential, or a layer whose constructor returns one, to compute the "
            f"features of its frozen part once; received {model!r}"
        )
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


def _nothing_fixed(model: Layer, uses: Mapping[str, Use], trained: Sequence[str]) -> str:
    if not trained:
        return f"expected a model with a layer that is trained, received {model!r}"
    first = trained[0]
    why = "draws random numbers" if model.children[uses[first].child].draws else "is trained"
    return (
        f"expected a model that begins with frozen layers, received one in which {first!r}, before the "
        f"first of them, {why}; freeze what stands before, or move random layers into the data"
    )
