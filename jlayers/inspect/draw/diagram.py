"""A model as boxes and edges, in the order in which they run: what every way of drawing starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jlayers.core.graph import Input
from jlayers.core.layer import Layer
from jlayers.core.masks import is_masked
from jlayers.core.node_table import by_name, find, in_order
from jlayers.core.sizes import infer
from jlayers.core.structure import Chain, Source, Table, Use
from jlayers.core.tree import join
from jlayers.inspect.observed import LayerRun, declarations, given_inputs, trace_runs
from jlayers.inspect.table import output_lines, short_call

__all__ = ["Box", "Diagram", "diagram"]


@dataclasses.dataclass(frozen=True)
class Box:
    """One thing to draw.

    Attributes:
        name: path of the layer below the drawn model, or the name of an input or output.
        kind: "input", "layer", "container" (with layers inside that are not drawn) or "output".
        call: the constructor's call, shortened.
        full: the same in full.
        shapes: shapes of what leaves the box.
        frozen: the layer is frozen.
        shared: the box is a further use of a layer drawn before.
    """

    name: str
    kind: str
    call: str = ""
    full: str = ""
    shapes: tuple[str, ...] = ()
    frozen: bool = False
    shared: bool = False


@dataclasses.dataclass(frozen=True)
class Diagram:
    """Boxes, each after those it depends on, and edges as pairs of their numbers."""

    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class _Wire:
    """An array on its way: output of the box with this number."""

    box: int


def diagram(model: Layer, inputs: tuple[Any, ...] | None, depth: int | None) -> Diagram:
    """The boxes and edges of `model`, its containers opened `depth` levels deep.

    Args:
        model: any layer.
        inputs: what it is drawn for, as arrays or shapes; None for what it declares, with an open batch.
        depth: 0 gives one box, None opens every `Sequential` and `Model`.
    """
    specs = _open_inputs(model) if inputs is None else given_inputs(model, inputs)
    runs = {} if specs is None else infer(lambda *specs: ({}, trace_runs(model, specs)), *specs)
    drawing = _Drawing(runs, depth)
    wires = drawing.sources(model, specs)
    result = drawing.place("", model, wires, 0, False)
    drawing.targets(result)
    return Diagram(tuple(drawing.boxes), tuple(dict.fromkeys(drawing.edges)))


def _open_inputs(model: Layer) -> tuple[Any, ...] | None:
    """Specs of the declared inputs with a symbolic batch; None if the model declares nothing."""
    declared = declarations(model)
    if declared is None:
        return None
    return jax.tree.map(lambda d: Input(d.shape, d.dtype).spec, declared)


class _Drawing:
    def __init__(self, runs: Mapping[str, list[LayerRun]], depth: int | None):
        self.runs: dict[str, Iterator[LayerRun]] = {path: iter(of_path) for path, of_path in runs.items()}
        self.depth = depth
        self.boxes: list[Box] = []
        self.edges: list[tuple[int, int]] = []
        self.drawn: set[str] = set()

    def add(self, box: Box, wires: Any = ()) -> int:
        self.boxes.append(box)
        number = len(self.boxes) - 1
        self.edges.extend((wire.box, number) for wire in jax.tree.leaves(wires))
        return number

    def sources(self, model: Layer, specs: tuple[Any, ...] | None) -> tuple[Any, ...]:
        names = model.structure.inputs if isinstance(model.structure, Table) else None
        if specs is None:
            return (_Wire(self.add(Box("input", "input"))),)
        leaves, structure = jax.tree.flatten(specs)
        labels = jax.tree.leaves(names)
        if len(labels) != len(leaves):
            labels = ["input"] if len(leaves) == 1 else [f"input_{i}" for i in range(len(leaves))]
        if len(leaves) == 1 and _starts_with_input(model) and self.depth != 0:
            labels = [next(iter(model.children))]
        boxes = [
            _Wire(self.add(Box(label, "input", shapes=tuple(output_lines(spec)))))
            for label, spec in zip(labels, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, boxes)

    def targets(self, result: Any) -> None:
        """Several outputs, or one that is used inside as well, are shown as such."""
        wires = jax.tree_util.tree_leaves_with_path(result)
        used = {source for source, _ in self.edges}
        if len(wires) == 1 and wires[0][1].box not in used:
            return
        for number, (path, wire) in enumerate(wires):
            keys = [str(getattr(k, "key", getattr(k, "idx", k))) for k in path]
            named = any(isinstance(k, jax.tree_util.DictKey) for k in path)
            name = "/".join(keys) if named else "output" if len(wires) == 1 else f"output_{number}"
            self.add(Box(name, "output"), wire)

    def place(self, path: str, layer: Layer, wires: tuple[Any, ...], level: int, frozen: bool) -> Any:
        frozen = frozen or "" in layer.frozen
        opened = self.depth is None or level < self.depth
        if opened and isinstance(layer.structure, Chain):
            return self.chain(path, layer, layer.structure, wires, level, frozen)
        if opened and isinstance(layer.structure, Table):
            return self.table(path, layer, layer.structure, wires, level, frozen)
        return self.box(path, layer, wires, frozen)

    def box(self, path: str, layer: Layer, wires: tuple[Any, ...], frozen: bool) -> Any:
        run = next(self.runs.get(path, iter(())), None)
        number = self.add(
            Box(
                name=path or layer.name or layer.spec.stem,
                kind="container" if layer.children else "layer",
                call=short_call(layer, 34),
                full=repr(layer),
                shapes=tuple(output_lines(run.output)) if run else (),
                frozen=frozen,
                shared=path in self.drawn,
            ),
            wires,
        )
        self.drawn.add(path)
        return jax.tree.map(lambda _: _Wire(number), run.output, is_leaf=is_masked) if run else _Wire(number)

    def chain(
        self, path: str, layer: Layer, chain: Chain, wires: tuple[Any, ...], level: int, frozen: bool
    ) -> Any:
        for name in chain.order:
            child = layer.children[name]
            if level == 0 and isinstance(child.structure, Source):  # the input's own box shows it
                next(self.runs.get(name, iter(())), None)
                continue
            wires = (self.place(join(path, name), child, wires, level + 1, frozen),)
        return wires[0]

    def table(
        self, path: str, layer: Layer, table: Table, wires: tuple[Any, ...], level: int, frozen: bool
    ) -> Any:
        values: dict[str, Any] = by_name(table, wires)
        for name in in_order(table):
            node = table.nodes[name]
            if isinstance(node, Use):
                given = jax.tree.map(lambda ref: find(values, ref), node.inputs)
                child = layer.children[node.child]
                values[name] = self.place(join(path, node.child), child, given, level + 1, frozen)
        return jax.tree.map(lambda ref: find(values, ref), table.outputs)


def _starts_with_input(model: Layer) -> bool:
    chain = model.structure
    return isinstance(chain, Chain) and isinstance(model.children[chain.order[0]].structure, Source)
