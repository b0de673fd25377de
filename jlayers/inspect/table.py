"""Plain text for people: a boxed table, numbers with units, a layer's call in few characters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import Layer
from jlayers.core.shapes import shape_text

__all__ = ["box_table", "human", "output_lines", "short_call", "shorten"]

Cell = str | Sequence[str]


def box_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[bool]) -> str:
    """A table in box drawing; a cell that is a list of strings takes as many lines.

    >>> print(box_table(["a", "n"], [["x", "1"], [["y", "z"], "20"]], [False, True]))
    ╭───┬────╮
    │ a │  n │
    ├───┼────┤
    │ x │  1 │
    │ y │ 20 │
    │ z │    │
    ╰───┴────╯
    """
    lines = [header]
    for row in rows:
        cells = [[cell] if isinstance(cell, str) else list(cell) for cell in row]
        for i in range(max(map(len, cells))):
            lines.append([cell[i] if i < len(cell) else "" for cell in cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def row_text(line: Sequence[str]) -> str:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        return f"│ {' │ '.join(cells)} │"

    def rule(left: str, middle: str, end: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + end

    first, *rest = map(row_text, lines)
    return "\n".join([rule("╭", "┬", "╮"), first, rule("├", "┼", "┤"), *rest, rule("╰", "┴", "╯")])


def human(number: int, unit: str) -> str:
    """A count or an amount of bytes in three or four digits.

    >>> human(950, "FLOPs"), human(1_234_567, "FLOPs"), human(2_500, "B")
    ('950 FLOPs', '1.23 MFLOPs', '2.44 KiB')
    """
    step, prefixes = (1024, ["", "Ki", "Mi", "Gi", "Ti", "Pi"]) if unit == "B" else (1000, [*" kMGTPE"])
    value, place = float(number), 0
    while value >= 999.5 and place < len(prefixes) - 1:
        value, place = value / step, place + 1
    digits = 0 if place == 0 else max(0, 2 - (value >= 9.995) - (value >= 99.95))
    return f"{value:.{digits}f} {prefixes[place].strip()}{unit}".rstrip()


def shorten(text: str, width: int) -> str:
    """Text of at most `width` characters, its closing bracket kept.

    >>> shorten("Dense(10, activation='softmax')", 16)
    'Dense(10, acti…)'
    """
    if len(text) <= width:
        return text
    end = text[-1] if text.endswith((")", "]")) else ""
    return text[: width - 1 - len(end)].rstrip(", ") + "…" + end


def short_call(layer: Layer, width: int) -> str:
    """The call that made a layer, without its name (which stands beside it) and without its children."""
    if layer.children:
        return layer.spec.name
    arguments = {**layer.spec.arguments, "name": None}
    return shorten(repr(dataclasses.replace(layer.spec, arguments=arguments)), width)


def output_lines(output: Any) -> list[str]:
    """Each array of an output on a line, with its key in a dict, and its dtype where that is not float32."""
    lines = []
    for path, spec in jax.tree_util.tree_leaves_with_path(output):
        keys = [str(entry.key) for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        dtype = "" if spec.dtype == jnp.float32 else str(spec.dtype)
        lines.append(" ".join(filter(None, ["/".join(keys), shape_text(spec.shape), dtype])))
    return lines
