"""Learning curves as a picture: the loss and each metric over the epochs, in training and in validation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.runs.figures import INK, SERIES, can_draw, new_figure, plain_axes, save_png, written

__all__ = ["History", "curves_figure", "draw_curves"]

History = Mapping[str, Sequence[float]]


def draw_curves(path: str | os.PathLike[str], history: History, title: str = "") -> bool:
    """Write the curves of one run to a PNG file; False, and no file, without matplotlib.

    Args:
        path: of the file.
        history: a list per result, one value for each epoch; `val_loss` is drawn beside `loss`.
        title: above the picture.
    """
    figure = curves_figure({"": history}, title)
    if figure is None:
        return False
    save_png(figure, path)
    return True


def curves_figure(histories: Mapping[str, History], title: str = "", columns: int | None = None) -> Any:
    """The curves of one run, or of several runs by their names, as a figure; None without matplotlib.

    Args:
        histories: of each run a list per result, one value for each epoch. The curves of one run are named
            "training" and "validation"; of several, each run has a color, and its validation is dashed.
        title: above the picture.
        columns: curves beside each other; all of them if not given.
    """
    names = [n for history in histories.values() for n in history if not n.startswith("val_") and history[n]]
    names = list(dict.fromkeys(names))
    if not names or not can_draw():
        return None
    from matplotlib.ticker import MaxNLocator

    columns = min(columns or len(names), len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(4.8 * columns, 3.6 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        longest = 0
        for number, (run, history) in enumerate(histories.items()):
            for key, dashed in ((name, False), (f"val_{name}", True)):
                if values := history.get(key):
                    longest = max(longest, len(values))
                    label, color, line = _look(run, number, dashed, len(histories) > 1)
                    marker = "o" if len(values) == 1 else None
                    epochs = range(1, len(values) + 1)
                    axes.plot(epochs, values, line, color=color, label=label, linewidth=1.8, marker=marker)
        plain_axes(axes, name.replace("_", " "), "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.set_xlim(left=1 if longest > 1 else None)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    shown = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if len(shown) > 1:
        several = len(histories) > 1
        columns, place = (4, "outside lower center") if several else (2, "outside upper right")
        look = {"frameon": False, "fontsize": 9, "labelcolor": INK}
        figure.legend(shown.values(), shown, ncols=min(columns, len(shown)), loc=place, **look)
    if title:
        figure.suptitle(written(title), fontsize=11, x=0.01, ha="left", color=INK)
    return figure


def _look(run: str, number: int, dashed: bool, several: bool) -> tuple[str, str, str]:
    """The label, color and kind of a line."""
    if several:
        return written(run) + ", validation" * dashed, SERIES[number % len(SERIES)], "--" if dashed else "-"
    return ("validation", SERIES[1], "-") if dashed else ("training", SERIES[0], "-")
