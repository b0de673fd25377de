"""Learning curves as a picture: the loss and each metric over the epochs, in training and in validation."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlayers.runs.figures import INK, SERIES, can_draw, new_figure, plain_axes, save_png, written

__all__ = ["curves_figure", "draw_curves", "scale"]

History = Mapping[str, Sequence[float]]
Seeds = Mapping[str, np.ndarray]


def draw_curves(
    path: str | os.PathLike[str],
    history: History,
    title: str = "",
    better: Mapping[str, str] | None = None,
    seeds: Seeds | None = None,
) -> bool:
    """Write the curves to a PNG file; False, and no file, without matplotlib.

    Args:
        path: path of the file.
        history: a list per result, one value for each epoch; `val_loss` is drawn beside `loss`.
        title: above the picture.
        better: "min" or "max" by result, so that its axis shows best what is best.
        seeds: the history of each seed of a run of many, see `Run.seeds_history`; a band around each curve
            goes from the least to the largest value.
    """
    figure = curves_figure(history, title, better, seeds)
    if figure is None:
        return False
    save_png(figure, path)
    return True


def curves_figure(
    history: History,
    title: str = "",
    better: Mapping[str, str] | None = None,
    seeds: Seeds | None = None,
) -> Any:
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
                if seeds and key in seeds:  # NaN after the end of a seed
                    low, high = np.fmin.reduce(seeds[key], axis=1), np.fmax.reduce(seeds[key], axis=1)
                    axes.fill_between(epochs, low, high, color=color, alpha=0.25, linewidth=0)
        plain_axes(axes, name.replace("_", " "), "epoch")
        keys = name, f"val_{name}"
        values = [
            value for key in keys for value in (*history.get(key, ()), *np.ravel((seeds or {}).get(key, ())))
        ]
        scale(axes, values, (better or {}).get(name, ""))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.set_xlim(left=1 if len(history[name]) > 1 else None)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if seeds:
        from matplotlib.patches import Patch

        count = next(iter(seeds.values())).shape[1]
        handles.append(Patch(color="#808080", alpha=0.35, linewidth=0, label=f"range of {count} seeds"))
        labels.append(handles[-1].get_label())
    if len(labels) > 1:
        look = {"ncols": len(labels), "frameon": False, "fontsize": 9, "labelcolor": INK}
        figure.legend(handles, labels, loc="outside upper right", **look)
    if title:
        figure.suptitle(written(title), fontsize=11, x=0.01, ha="left", color=INK)
    return figure


def scale(axes: Any, values: Sequence[float], direction: str) -> None:
    """An axis on which the ends of the curves can be told apart.

    It is logarithmic for a result that is better when it is smaller and spans more than one power of ten. Of
    one that is better when it is larger, the first, low values are cut off.
    """
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return
    if direction == "max":
        low, high = finite[len(finite) // 20], finite[-1]
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low)) if low < high else None
    elif direction == "min" and 0 < 10 * finite[0] < finite[-1]:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if finite[-1] < 1000 * finite[0] else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
