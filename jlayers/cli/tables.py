"""Tables that fit the terminal: side by side where there is room, else turned or in several parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jlayers.cli.terminal import console

__all__ = ["Column", "print_table"]

GAP = 2
LONGEST = 32  # of a name or a value


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: its title, a text for each row, and per row a style or ''."""

    title: str
    cells: Sequence[str]
    styles: Sequence[str] = ()
    right: bool = False

    @property
    def width(self) -> int:
        return max(map(_width, (self.title, *self.cells)))


def print_table(columns: Sequence[Column], least: int = 10, turns: bool = True) -> None:
    """Print a table whose first column names the rows.

    If it is too wide, rows and columns change places where that fits. Else it is printed in parts, each
    with the first column.

    Args:
        columns: of the table; the first one is shortened to no less than `least` characters where that helps.
        least: see above.
        turns: whether rows and columns may change places.
    """
    out = console()
    columns = [_shortened(column, LONGEST) for column in columns]
    first, *others = columns
    width = out.width
    if (room := width - sum(c.width + GAP for c in others) - GAP) >= min(first.width, least):
        _print(out, [_shortened(first, room), *others])
        return
    turned = _transposed(first, others)
    if turns and sum(c.width + GAP for c in turned) <= width:
        _print(out, turned)
        return
    first = _shortened(first, max(least, width // 3))
    parts = _parts_that_fit(first, others, width)
    for narrower in range(width - 1, 0, -1):  # parts of about the same width
        if len(again := _parts_that_fit(first, others, narrower)) > len(parts):
            break
        parts = again
    for part in parts:
        _print(out, [first, *part])


def _parts_that_fit(first: Column, others: Sequence[Column], width: int) -> list[list[Column]]:
    """The columns in parts, each of no more than `width` with the first column and one other at least."""
    parts: list[list[Column]] = [[]]
    for column in others:
        if parts[-1] and first.width + sum(c.width + GAP for c in (*parts[-1], column)) > width:
            parts.append([])
        parts[-1].append(column)
    return parts


def _shortened(column: Column, most: int) -> Column:
    from jlayers.experiments.names import cut_names

    (title,) = cut_names([column.title], most)
    return dataclasses.replace(column, title=title, cells=cut_names(column.cells, most))


def _transposed(first: Column, others: Sequence[Column]) -> list[Column]:
    titles = Column(first.title, [column.title for column in others])
    return [
        titles,
        *(
            Column(
                name,
                [c.cells[row] for c in others],
                [_style_of(c.styles, row) for c in others],
                right=True,
            )
            for row, name in enumerate(first.cells)
        ),
    ]


def _style_of(styles: Sequence[str], row: int) -> str:
    return styles[row] if styles else ""


def _print(out: Any, columns: Sequence[Column]) -> None:
    from rich.text import Text

    widths = [column.width for column in columns]
    lines = [Text(), Text("─" * (sum(widths) + GAP * (len(widths) - 1)), style="dim")]
    for place, (column, width) in enumerate(zip(columns, widths, strict=True)):
        for row, cell in enumerate((column.title, *column.cells)):
            if place == 0 and row:
                lines.append(Text())
            line = lines[row + 1 if row else 0]
            pad = " " * (width - _width(cell))
            style = _style_of(column.styles, row - 1) if row else "bold"
            line.append(" " * GAP * (place > 0) + (pad if column.right else ""))
            line.append(cell, style=style or None)
            line.append("" if column.right else pad)
    for line in lines:
        line.rstrip()
        out.print(line)
    out.print()


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
