"""A laid-out diagram as SVG, written by hand, and as PNG, by matplotlib."""

from __future__ import annotations

import io
import math
from xml.sax.saxutils import escape

from jlayers.inspect.draw.diagram import Box, Diagram
from jlayers.inspect.draw.layout import Layout, layout

__all__ = ["png", "svg"]

_FONT = 13.0
_SMALL = 11.0
_LINE = 17.0
_PAD = 12.0
_EDGE = "#6b7280"
_ARROW = 7.0

# kind -> fill, border, text
_COLORS = {
    "input": ("#e7f5ec", "#2f855a", "#1c4532"),
    "layer": ("#eef4ff", "#4c6fb1", "#1a2b4b"),
    "container": ("#f4efff", "#7a5cc0", "#2f1f5c"),
    "output": ("#fff4e5", "#c77d26", "#5c3a0d"),
}
_FROZEN = ("#e9eaec", "#9aa0a8", "#555b64")


def _lines(box: Box) -> list[tuple[str, float, bool]]:
    """Text, size and boldness of each line in a box."""
    marks = ["frozen"] * box.frozen + ["shared"] * box.shared
    name = box.name + (f" ({', '.join(marks)})" if marks else "")
    return [
        (name, _FONT, True),
        *([(box.call, _SMALL, False)] if box.call else []),
        *((shape, _SMALL, False) for shape in box.shapes),
    ]


def _size(box: Box) -> tuple[float, float]:
    lines = _lines(box)
    width = max(len(text) * size * (0.66 if bold else 0.6) for text, size, bold in lines)
    return math.ceil(max(width, 60.0) + 2 * _PAD), len(lines) * _LINE + _PAD


def _colors(box: Box) -> tuple[str, str, str]:
    return _FROZEN if box.frozen else _COLORS[box.kind]


def _radius(box: Box, height: float) -> float:
    return min(height / 2, 15.0) if box.kind in ("input", "output") else 6.0


def _laid_out(picture: Diagram) -> tuple[list[tuple[float, float]], Layout]:
    sizes = [_size(box) for box in picture.boxes]
    return sizes, layout(sizes, picture.edges)


def svg(picture: Diagram) -> str:
    """The diagram as an SVG document; pointing at a box shows the layer's whole call."""
    sizes, places = _laid_out(picture)
    width, height = (f"{math.ceil(v)}" for v in (places.width, places.height))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" text-anchor="middle" '
        'font-family="DejaVu Sans, Verdana, sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<g fill="none" stroke="{_EDGE}" stroke-width="1.5">',
    ]
    for path in places.paths:
        (x, y), *curves = _shorten(path)
        steps = " ".join(f"{a:.1f},{b:.1f}" for a, b in curves)
        parts.append(f'<path d="M{x:.1f},{y:.1f} C{steps}"/>')
    parts.append(f'</g><g fill="{_EDGE}">')
    for path in places.paths:
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in _arrow(path))
        parts.append(f'<polygon points="{corners}"/>')
    parts.append("</g>")
    for box, (w, h), (left, top) in zip(picture.boxes, sizes, places.corners, strict=True):
        fill, border, ink = _colors(box)
        dashed = ' stroke-dasharray="5 3"' if box.frozen else ""
        parts.append(f"<g><title>{escape(box.full or box.name)}</title>")
        if box.kind == "container":
            parts.append(_rect(left + 4, top + 4, w, h, 6.0, fill, border, dashed))
        parts.append(_rect(left, top, w, h, _radius(box, h), fill, border, dashed))
        for i, (text, size, bold) in enumerate(_lines(box)):
            weight = ' font-weight="bold"' if bold else ""
            y = top + _PAD / 2 + _LINE * (i + 0.5) + size * 0.36
            parts.append(
                f'<text x="{left + w / 2:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{ink}"{weight}>'
                f"{escape(text)}</text>"
            )
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rect(
    left: float, top: float, width: float, height: float, radius: float, fill: str, border: str, more: str
) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}" '
        f'fill="{fill}" stroke="{border}" stroke-width="1.3"{more}/>'
    )


def _shorten(path: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """The path up to where its arrow begins."""
    x, y = path[-1]
    return [*path[:-1], (x, y - _ARROW + 1)]


def _arrow(path: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    x, y = path[-1]
    return [(x, y), (x - _ARROW / 2, y - _ARROW), (x + _ARROW / 2, y - _ARROW)]


def png(picture: Diagram, scale: float = 2.0) -> bytes:
    """The diagram as a PNG image, `scale` image pixels for each of the layout's.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
        from matplotlib.path import Path as Curve
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing as PNG needs matplotlib: pip install 'jlayers[plot]', or draw to a .svg file"
        ) from error

    sizes, places = _laid_out(picture)
    dots = 72 * scale  # one layout pixel is one point
    figure = Figure(figsize=(places.width / 72, places.height / 72), dpi=dots, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, places.width)
    axes.set_ylim(places.height, 0)
    axes.axis("off")

    for path in places.paths:
        points = _shorten(path)
        codes = [Curve.MOVETO, *[Curve.CURVE4] * (len(points) - 1)]
        axes.add_patch(PathPatch(Curve(points, codes), fill=False, edgecolor=_EDGE, linewidth=1.5))
        axes.add_patch(Polygon(_arrow(path), facecolor=_EDGE, edgecolor="none"))
    for box, (w, h), (left, top) in zip(picture.boxes, sizes, places.corners, strict=True):
        fill, border, ink = _colors(box)
        for shift in (4, 0) if box.kind == "container" else (0,):
            axes.add_patch(
                FancyBboxPatch(
                    (left + shift, top + shift),
                    w,
                    h,
                    boxstyle=f"round,pad=0,rounding_size={_radius(box, h)}",
                    facecolor=fill,
                    edgecolor=border,
                    linewidth=1.3,
                    linestyle=(0, (4, 2.4)) if box.frozen else "solid",
                )
            )
        for i, (text, size, bold) in enumerate(_lines(box)):
            axes.text(
                left + w / 2,
                top + _PAD / 2 + _LINE * (i + 0.5),
                text,
                fontsize=size,
                color=ink,
                fontweight="bold" if bold else "normal",
                ha="center",
                va="center_baseline",
                parse_math=False,
            )
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dots, facecolor="white")
    return image.getvalue()
