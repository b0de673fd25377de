"""The pictures of a page: figures as inline SVG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jlayers.experiments.report.html import Element, element, inline_svg
from jlayers.runs.figures import can_draw, to_svg

__all__ = ["Pictures"]


class Pictures:
    """Counts the pictures of one page, so that their names stay apart.

    Attributes:
        drawn: whether there are any: they need matplotlib.
    """

    def __init__(self) -> None:
        self.drawn = can_draw()
        self.count = 0

    def add(self, draw: Callable[..., Any], what: Any, caption: str = "") -> Element | None:
        """The figure that `draw` makes of something, with a caption if given; None if there is none."""
        figure = draw(what) if self.drawn else None
        if figure is None:
            return None
        self.count += 1
        titles = ", ".join(filter(None, (axes.get_title() for axes in figure.axes)))
        svg = inline_svg(to_svg(figure), self.count, caption or titles)
        return element("figure", svg, element("figcaption", caption) if caption else None)
