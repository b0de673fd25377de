"""A diagram as text: one line per box, with rails on the left that carry arrays to where they are used."""

from __future__ import annotations

from jlayers.inspect.draw.diagram import Box, Diagram

__all__ = ["text"]

_MARKS = {"input": "○", "layer": "●", "container": "◉", "output": "◇"}

# up, down, left, right -> the character that joins them
_JOINTS = {
    (1, 1, 0, 1): "├",
    (1, 1, 1, 0): "┤",
    (1, 1, 1, 1): "┼",
    (0, 1, 1, 0): "╮",
    (0, 1, 0, 1): "╭",
    (1, 0, 1, 0): "╯",
    (1, 0, 0, 1): "╰",
    (1, 0, 1, 1): "┴",
    (0, 1, 1, 1): "┬",
}


def text(picture: Diagram) -> str:
    """The diagram as lines: rails, name, call, shape."""
    rails = _rails(picture)
    width = max(len(rail) for rail, _ in rails)
    rows = [(rail, _columns(picture.boxes[i]) if i is not None else ("", "", "")) for rail, i in rails]
    names, calls = (max(len(columns[k]) for _, columns in rows) for k in (0, 1))
    return "\n".join(
        f"{rail:<{width}}  {name:<{names}}  {call:<{calls}}  {shapes}".rstrip()
        for rail, (name, call, shapes) in rows
    )


def _columns(box: Box) -> tuple[str, str, str]:
    marks = ["frozen"] * box.frozen + ["shared"] * box.shared
    name = box.name + (f" ({', '.join(marks)})" if marks else "")
    return name, box.call or box.kind.capitalize(), ", ".join(box.shapes)


def _rails(picture: Diagram) -> list[tuple[str, int | None]]:
    """Lines of rails, each with the number of the box that stands on it, or None for a mere junction.

    A lane holds the number of the box whose output it carries, until the last box that uses it.
    """
    last_use = dict(sorted(picture.edges, key=lambda edge: edge[1]))
    lanes: list[int | None] = []
    lines: list[tuple[str, int | None]] = []
    for number, box in enumerate(picture.boxes):
        feeding = {lanes.index(source) for source, target in picture.edges if target == number}
        ending = {lane for lane in feeding if last_use[lanes[lane]] == number}  # type: ignore[index]
        column = min(ending) if ending else _free(lanes, max(feeding, default=-1))
        if column == len(lanes):
            lanes.append(None)
        if feeding - {column}:
            lines.append((_junction(lanes, feeding, ending, column), None))
        for lane in ending:
            lanes[lane] = None
        lanes[column] = number
        marks = ["│" if source is not None else " " for source in lanes]
        marks[column] = _MARKS[box.kind]
        lines.append((" ".join(marks).rstrip(), number))
        if number not in last_use:
            lanes[column] = None
        while lanes and lanes[-1] is None:
            lanes.pop()
    return lines


def _free(lanes: list[int | None], after: int) -> int:
    """The first empty lane to the right of `after`."""
    return next((i for i in range(after + 1, len(lanes)) if lanes[i] is None), len(lanes))


def _junction(lanes: list[int | None], feeding: set[int], ending: set[int], column: int) -> str:
    joined = feeding | {column}
    first, last = min(joined), max(joined)
    line = ""
    for i, source in enumerate(lanes):
        if i in joined:
            above = i in feeding
            below = i == column or i not in ending
            line += _JOINTS[above, below, i > first, i < last]
        elif source is not None:
            line += "│"
        else:
            line += "─" if first < i < last else " "
        line += "─" if first <= i < last else " "
    return line.rstrip()
