"""Figures by matplotlib in one style, written as PNG files, or as SVG that takes the colors of a page."""

from __future__ import annotations

import io
import os
import re
import warnings
from typing import Any

__all__ = ["GRID", "INK", "SERIES", "can_draw", "new_figure", "plain_axes", "save_png", "to_svg", "written"]

INK, GRID = "#24292f", "#d0d7de"  # text and lines; in SVG the page decides
SERIES = ("#1f77b4", "#e07a3f", "#2a9d6f", "#b5439b", "#8a6d1d", "#6b5bd2", "#c0392b", "#4b8b9b")


def can_draw() -> bool:
    """True if matplotlib, of the extra `plot`, is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def new_figure(width: float, height: float) -> Any:
    """An empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Titles, a light grid, and two of the four border lines."""
    axes.set_title(written(title), fontsize=11, color=INK)
    axes.set_xlabel(written(x), color=INK)
    axes.set_ylabel(written(y), color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)


def written(text: str, most: int = 60) -> str:
    r"""A text as matplotlib shows it letter by letter: no formulas, no control characters, not too long.

    >>> written("a$b$")
    'a\\$b\\$'
    """
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


def save_png(figure: Any, path: str | os.PathLike[str] | io.BytesIO) -> None:
    """Write the figure on white."""
    _save(figure, path, "png")


def to_svg(figure: Any) -> str:
    """The figure as an SVG document on nothing; text is text, in the color of what is around it."""
    file = io.StringIO()
    _save(figure, file, "svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue().replace(INK, "currentColor").replace(GRID, "var(--line)")


def _save(figure: Any, file: Any, kind: str, **options: Any) -> None:
    import matplotlib

    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jlayers"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box is shown in its place
        figure.savefig(file, format=kind, **options)
