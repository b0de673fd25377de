"""Learning curves as a picture: the loss and each metric over the epochs, in training and in validation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

__all__ = ["draw_curves"]

_TRAIN, _VALIDATION = "#1f6f8b", "#e07a3f"


def draw_curves(
    path: str | os.PathLike[str], history: Mapping[str, Sequence[float]], title: str = ""
) -> bool:
    """Write the curves to a PNG file; False, and no file, without matplotlib.

    Args:
        path: of the file.
        history: a list per result, one value for each epoch; `val_loss` is drawn beside `loss`.
        title: above the picture.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False

    names = [name for name in history if not name.startswith("val_") and history[name]]
    if not names:
        return False
    figure = Figure(figsize=(4.8 * len(names), 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, key, color in (("training", name, _TRAIN), ("validation", f"val_{name}", _VALIDATION)):
            if values := history.get(key):
                epochs = range(1, len(values) + 1)
                marker = "o" if len(values) == 1 else None
                axes.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=marker)
        axes.set_title(name.replace("_", " "), fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.set_xlim(left=1 if len(history[name]) > 1 else None)
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path)
    return True
