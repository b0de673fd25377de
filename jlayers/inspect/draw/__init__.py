"""A model drawn as a graph: as text, as SVG or as PNG, all from one diagram."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jlayers.core.calls import taught
from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.inspect.draw.diagram import diagram
from jlayers.inspect.draw.text import text

__all__ = ["draw"]


@taught
def draw(
    model: Layer,
    file: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    depth: int | None = 1,
) -> str:
    """The graph of a model as text; with `file`, also written there.

    Text has one line per layer; rails on the left carry each output to where it is used. Pictures show a
    box per layer with its call and output shape, frozen layers in gray, from top to bottom.

    Args:
        model: any layer.
        file: a name that ends with `.txt`, `.svg` (drawn without any other package) or `.png` (needs
            matplotlib, in the extra `plot`).
        inputs: arrays or shapes, batch included, that the shapes are shown for: one, or a list of several.
            A `Model`, and a `Sequential` that starts with an `Input`, are shown with an open batch without
            them; others without shapes.
        depth: how many levels of `Sequential` and `Model` to open; None opens all.

    Returns:
        The text.

    Raises:
        ValueError: a file name of another ending.
        ModuleNotFoundError: PNG without matplotlib.

    >>> import jlayers as jl
    >>> x = jl.Input((8,), name="x")
    >>> y = jl.Dense(8, activation="relu")(x)
    >>> print(jl.draw(jl.Model(x, jl.Add()(x, y))))
    ○    x      Input                        (None, 8)
    ├─╮
    │ ●  dense  Dense(8, activation='relu')  (None, 8)
    ├─╯
    ●    add    Add()                        (None, 8)
    """
    picture = diagram(model, _as_inputs(inputs), depth)
    lines = text(picture)
    if file is None:
        return lines
    path = Path(file)
    if path.suffix == ".txt":
        path.write_text(lines + "\n", encoding="utf-8")
    elif path.suffix == ".svg":
        from jlayers.inspect.draw.picture import svg

        path.write_text(svg(picture), encoding="utf-8")
    elif path.suffix == ".png":
        from jlayers.inspect.draw.picture import png

        path.write_bytes(png(picture))
    else:
        raise refused(
            ValueError, "expected a file name ending with .svg, .png or .txt", raised_by="draw", file=file
        )
    return lines


def _as_inputs(inputs: Any) -> tuple[Any, ...] | None:
    """One input, or a list of several; a shape such as (32, 28, 28, 1) is one."""
    if inputs is None:
        return None
    several = isinstance(inputs, (list, tuple)) and not all(isinstance(d, int) for d in inputs)
    return tuple(inputs) if several else (inputs,)
