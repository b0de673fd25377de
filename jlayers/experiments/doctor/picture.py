"""The test of learning rates as a picture: where short trainings end, by rate, and how they get there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["draw_rates"]

INK, BEST, GRAY = "#1f6f8b", "#e07a3f", "#8a8a8a"


def draw_rates(path: Any, curves: Mapping[str, Any]) -> bool:
    """Write the picture; False, and no file, without curves or without matplotlib."""
    if not curves:
        return False
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False

    rate = curves["rate"]
    losses = {factor: np.array(values) for factor, values in curves["losses"].items()}
    factors = sorted(losses)
    level = curves["level"]
    ceiling = 2 * max(level, *(float(losses[f][0]) for f in factors if np.isfinite(losses[f][0])))
    at = np.array(factors) * (1.0 if rate is None else rate)
    unit = 1.0 if rate is None else rate
    tail = max(3, len(losses[factors[0]]) // 10)
    ends = [float(np.median(losses[f][-tail:])) if np.isfinite(losses[f]).all() else np.inf for f in factors]
    shown = np.minimum(np.array(ends), ceiling)

    figure = Figure(figsize=(10, 3.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.axhline(level, color=GRAY, linewidth=1.0, linestyle=":", label="knowing nothing")
    left.plot(at, shown, color=INK, linewidth=1.8, zorder=2)
    broken, above = ~np.isfinite(ends), np.isfinite(ends) & (np.array(ends) > ceiling)
    fine = ~broken & ~above
    for which, marker, size, label in (
        (fine, "o", 18, None),
        (above, "^", 40, "higher than shown"),
        (broken, "x", 40, "NaN or infinite"),
    ):
        if which.any():
            left.scatter(at[which], shown[which], color=INK, s=size, marker=marker, zorder=3, label=label)
    now = factors.index(1.0)
    left.scatter([at[now]], [shown[now]], s=110, facecolor="none", edgecolor=INK, linewidth=1.6, zorder=4,
                 label="as configured")  # fmt: skip
    best = factors.index(curves["suggested"])
    if ends[best] < level:  # none is better where no rate learns anything
        left.scatter([at[best]], [shown[best]], s=46, color=BEST, zorder=5, label="suggested")
    left.set_xscale("log")
    left.set_xlabel("learning rate" if rate is not None else "multiple of the learning rate")
    left.set_ylabel(f"loss after {len(losses[1.0])} steps")
    left.legend(frameon=False, fontsize=9)
    colors = colormaps["viridis"](np.linspace(0.05, 0.9, len(factors)))
    for color, factor in zip(colors, factors, strict=True):
        values = np.where(np.isfinite(losses[factor]), losses[factor], np.nan)
        width = 2.4 if factor == 1.0 else 1.2
        right.plot(_smooth(values), color=color, linewidth=width, label=f"{float(f'{factor * unit:.1g}'):g}")
    right.set_xlabel("step")
    right.set_ylabel("loss")
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), title="rate",
                 title_fontsize=8)  # fmt: skip
    for axes in (left, right):
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(-0.02 * ceiling, 1.03 * ceiling)  # curves that go higher leave the picture
    figure.savefig(path)
    return True


def _smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Means over a few steps, so that the curves of several rates can be told apart."""
    if len(values) < 2 * width:
        return values
    padded = np.concatenate([np.full(width - 1, values[0]), values])
    return np.convolve(padded, np.full(width, 1 / width), "valid")
