"""Learning curves as a picture: the loss and each metric over the epochs, in training and in validation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.runs.figures import INK, SERIES, can_draw, new_figure, plain_axes, save_png, written

__all__ = ["curves_figure", "draw_curves"]

History = Mapping[str, Sequence[float]]


def draw_curves(path: str | os.PathLike[str], history: History, title: str = "") -> bool:
    """Write the curves to a PNG file; False, and no file, without matplotlib.

    Args:
        path: of the file.
        history: a list per result, one value for each epoch; `val_loss` is drawn beside `loss`.
        title: above the picture.
    """
    figure = curves_figure(history, title)
    if figure is None:
        return False
    save_png(figure, path)
    return True


def curves_figure(history: History, title: str = "") -> Any:
    """The curves of one run as a figure; None without matplotlib or any epoch. See `draw_curves`."""
    names = [name for name in history if not name.startswith("val_") and history[name]]
    if not names or not can_draw():
        return None
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(4.8 * len(names), 3.6)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, key, color in (("training", name, SERIES[0]), ("validation", f"val_{name}", SERIES[1])):
            if values := history.get(key):
                epochs = range(1, len(values) + 1)
                marker = "o" if len(values) == 1 else None
                axes.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=marker)
        plain_axes(axes, name.replace("_", " "), "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.set_xlim(left=1 if len(history[name]) > 1 else None)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        look = {"ncols": 2, "frameon": False, "fontsize": 9, "labelcolor": INK}
        figure.legend(handles, labels, loc="outside upper right", **look)
    if title:
        figure.suptitle(written(title), fontsize=11, x=0.01, ha="left", color=INK)
    return figure
