"""The layers of a model, read off a trace: shapes, parameters, state, FLOPs and bytes of each.

Nothing is declared and nothing is computed: the model's own `init` and `apply` are traced on shapes, so
that your own layer appears like any other, and a model too large for this machine does, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax

from jlayers.core import tree
from jlayers.core.calls import taught
from jlayers.core.layer import Layer
from jlayers.core.structure import Table
from jlayers.core.tree import join
from jlayers.inspect.flops import FlopCount, flop_count
from jlayers.inspect.observed import OPEN_SIZE, LayerRun, declarations, given_inputs, trace_runs
from jlayers.inspect.table import box_table, human, output_lines, short_call

__all__ = ["Summary", "SummaryRow", "summary"]


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """One layer of a model. The rows of a summary add up: a container's row holds only what is its own.

    Attributes:
        path: as in the parameters, `encoder/conv2d`; '' is the model itself.
        layer: the layer.
        output: `jax.ShapeDtypeStruct`s in the structure of the output of its first call, or None if the
            layer around it does not run it as a child.
        calls: in how many places it runs; more than one where its weights are shared.
        times: how often it runs in each, with weights of its own each time, inside a `Repeat`.
        trainable: parameters that are trained.
        frozen: parameters that are not.
        state: numbers of state.
        flops: floating-point operations of a forward pass, all runs together.
        bytes: what parameters and state take.
        output_bytes: what the outputs of all its runs take.
        is_frozen: the layer is frozen.
        folded: the layers inside are counted in this row and have none of their own.
    """

    path: str
    layer: Layer
    output: Any
    calls: int
    times: int
    trainable: int
    frozen: int
    state: int
    flops: int
    bytes: int
    output_bytes: int
    is_frozen: bool
    folded: bool

    @property
    def params(self) -> int:
        """Parameters, trainable and frozen."""
        return self.trainable + self.frozen


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """A table of a model's layers; `str` and `repr` draw it as text.

    Attributes:
        rows: one per layer, parents first.
        inputs: `jax.ShapeDtypeStruct`s of what the model was read off.
        caveats: what the FLOPs leave out or assume; empty when they are exact.
        assumed: True if the model leaves sizes open and none were given.
    """

    rows: tuple[SummaryRow, ...]
    inputs: tuple[Any, ...]
    caveats: tuple[str, ...] = ()
    assumed: bool = False

    @property
    def params(self) -> int:
        """Parameters of the whole model."""
        return sum(row.params for row in self.rows)

    @property
    def trainable(self) -> int:
        """Parameters that are trained."""
        return sum(row.trainable for row in self.rows)

    @property
    def frozen(self) -> int:
        """Parameters that are not trained."""
        return sum(row.frozen for row in self.rows)

    @property
    def state(self) -> int:
        """Numbers of state."""
        return sum(row.state for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass in inference mode."""
        return sum(row.flops for row in self.rows)

    @property
    def bytes(self) -> int:
        """The bytes of parameters and state."""
        return sum(row.bytes for row in self.rows)

    @property
    def output_bytes(self) -> int:
        """The bytes of the outputs of all innermost layers."""
        return sum(row.output_bytes for row in self.rows)

    def __getitem__(self, path: str) -> SummaryRow:
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(f"the summary has no layer {path!r}; it has {[row.path for row in self.rows]}")

    def __str__(self) -> str:
        return _text(self)

    __repr__ = __str__


@taught
def summary(model: Layer, *inputs: Any, depth: int | None = None) -> Summary:
    """The layers of a model with output shapes, parameters, state, FLOPs (see `jl.flops`) and bytes.

    Args:
        model: any layer.
        *inputs: arrays, `jax.ShapeDtypeStruct`s or shape tuples, batch dimension included. They may be
            left out when the model declares its inputs (a `Model`, or a `Sequential` that starts with an
            `Input`): the batch is then 1, and a size that is None is 64, as the text says.
        depth: how many levels of containers to open; None opens all, 0 gives the model in one row.

    Raises:
        TypeError: no inputs, and the model does not declare them.
        ValueError: inputs that do not fit, with the path of the layer.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(64, activation="relu"), jl.Dense(10))
    >>> report = jl.summary(model, (32, 784))
    >>> report.params, report["dense_1"].output.shape
    (50890, (32, 10))
    >>> print(report)
    Sequential, input (32, 784)
    ...
    """
    specs = given_inputs(model, inputs)
    runs = trace_runs(model, specs)
    counts = _count_runs(runs)
    assumed = not inputs and any(None in d.shape for d in jax.tree.leaves(declarations(model)))
    return Summary(_rows(model, runs, counts, depth), specs, _caveats(counts), assumed)


def _count_runs(runs: dict[str, list[LayerRun]]) -> dict[str, list[FlopCount]]:
    return {
        path: [flop_count(run.layer.keyed, run.params, run.state, *run.inputs) for run in of_path]
        for path, of_path in runs.items()
    }


def _caveats(counts: dict[str, list[FlopCount]]) -> tuple[str, ...]:
    """Each with the innermost layers that it is about."""
    found = [(path, c) for path, several in counts.items() for count in several for c in count.caveats]
    innermost = [
        f"{path}: {caveat}" if path else caveat
        for path, caveat in found
        if not any(c == caveat and p.startswith(path) and p != path for p, c in found)
    ]
    return tuple(dict.fromkeys(innermost))


# ----------------------------------------------------------------------------------------------- rows


def _rows(
    model: Layer, runs: dict[str, list[LayerRun]], counts: dict[str, list[FlopCount]], depth: int | None
) -> tuple[SummaryRow, ...]:
    rows: list[SummaryRow] = []

    def work(path: str, layer: Layer, times: int) -> int:
        """FLOPs of a layer; of one that its container does not report, those of the layers inside."""
        if path in counts:
            return times * sum(count.total for count in counts[path])
        return sum(work(join(path, n), c, times * layer.repeats) for n, c in layer.children.items())

    def visit(
        path: str, layer: Layer, params: Any, state: Any, level: int, is_frozen: bool, times: int
    ) -> None:
        here = runs.get(path, [])
        times_inside = times * layer.repeats
        opened = bool(layer.children) and (depth is None or level < depth)
        inside = layer.children if opened else {}
        is_frozen = is_frozen or "" in layer.frozen
        own = {k: v for k, v in params.items() if k not in inside}
        own_state = {k: v for k, v in state.items() if k not in inside}
        trained = sum(
            tree.count(v) for k, v in tree.flatten(own).items() if not (is_frozen or _is_in(k, layer.frozen))
        )
        rows.append(
            SummaryRow(
                path=path,
                layer=layer,
                output=here[0].output if here else None,
                calls=len(here),
                times=times,
                trainable=trained,
                frozen=tree.count(own) - trained,
                state=tree.count(own_state),
                flops=max(
                    0,
                    work(path, layer, times)
                    - sum(work(join(path, name), child, times_inside) for name, child in inside.items()),
                ),
                bytes=tree.nbytes(own) + tree.nbytes(own_state),
                output_bytes=0 if opened else times * sum(tree.nbytes(run.output) for run in here),
                is_frozen=is_frozen,
                folded=bool(layer.children) and not opened,
            )
        )
        for name, child in inside.items():
            inner = params.get(name, {}), state.get(name, {})
            visit(join(path, name), child, *inner, level + 1, is_frozen, times_inside)

    whole = runs[""][0]
    visit("", model, whole.params, whole.state, 0, False, 1)
    return tuple(rows)


def _is_in(path: str, layers: Iterable[str]) -> bool:
    return any(path.startswith(layer + "/") for layer in layers if layer)


# ----------------------------------------------------------------------------------------------- text


def _text(report: Summary) -> str:
    header = ["Layer", "Made by", "Output", "Parameters", "State", "FLOPs", "Memory"]
    first, *rest = report.rows
    says_nothing = bool(rest) and not (first.params or first.state or first.flops)
    cells = [[*_labels(row, says_nothing), *_numbers(row)] for row in (rest if says_nothing else report.rows)]
    if not report.state:  # an empty column says nothing
        header.pop(4)
        for line in cells:
            line.pop(4)
    table = box_table(header, cells, [False] * 3 + [True] * (len(header) - 3))
    return "\n".join([_title(report), table, *_totals(report)])


def _title(report: Summary) -> str:
    model = report.rows[0].layer
    names = model.structure.inputs if isinstance(model.structure, Table) else ()
    shapes = output_lines(report.inputs)
    labels = jax.tree.leaves(names)
    if len(labels) == len(shapes) and not isinstance(names, dict):  # a dict's keys are shown already
        shapes = [f"{label} {shape}" for label, shape in zip(labels, shapes, strict=True)]
    return f"{model.spec.name}, {'input' if len(shapes) == 1 else 'inputs'} {', '.join(shapes)}"


def _labels(row: SummaryRow, without_root: bool) -> list[str | list[str]]:
    level = (row.path.count("/") + 1 if row.path else 0) - without_root
    name = row.path.rpartition("/")[2] or row.layer.name or row.layer.spec.stem
    marks = ["frozen"] * row.is_frozen + [f"shared, {row.calls} calls"] * (row.calls > 1)
    marks += [f"{row.times} times"] * (row.times > 1)
    label = "  " * level + name + (f" ({', '.join(marks)})" if marks else "")
    made_by = short_call(row.layer, 32) + (" (folded)" if row.folded else "")
    return [label, made_by, "" if row.output is None else output_lines(row.output)]


def _numbers(row: SummaryRow) -> list[str]:
    """Parameters, state, FLOPs, bytes; an open container shows only what is its own."""
    bare = bool(row.layer.children) and not row.folded
    params = f"{row.params:,}" if row.params or not bare else ""
    state = f"{row.state:,}" if row.state else ""
    work = human(row.flops, "") if row.flops or not bare else ""
    return [params, state, work, human(row.bytes, "B") if row.bytes else ""]


def _totals(report: Summary) -> list[str]:
    weights = human(report.bytes, "B") + (" with the state" if report.state else "")
    counts = [("Parameters", report.params, weights)]
    if report.frozen:
        counts += [("  trainable", report.trainable, ""), ("  frozen", report.frozen, "")]
    if report.state:
        counts.append(("State", report.state, ""))
    counts.append(("FLOPs", report.flops, f"{human(report.flops, 'FLOPs')} in one forward pass"))
    width = max(len(f"{number:,}") for _, number, _ in counts)
    lines = [f"{label:<12}{number:>{width},}  {note}".rstrip() for label, number, note in counts]
    lines.append(f"{'Outputs':<12}{human(report.output_bytes, 'B')}, those of all layers together")
    if report.assumed:
        lines.append(f"Sizes that the model leaves open are {OPEN_SIZE} here: give shapes for others")
    return lines + [f"FLOPs are a lower bound: {caveat}" for caveat in report.caveats]
