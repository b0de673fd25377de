"""A sweep as a picture: the metric by trial, and by each value that was tried."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.config.sweep import Range
from jlayers.experiments.names import cut_names, short_names
from jlayers.experiments.sweep.trial import Trial, running_best

__all__ = ["draw_sweep"]

_COMPLETED, _PRUNED, _BEST = "#1f6f8b", "#b9c2c7", "#e07a3f"


def draw_sweep(
    path: str | os.PathLike[str],
    trials: Sequence[Trial],
    space: Mapping[str, Sequence[Any] | Range],
    metric: str,
    direction: str,
    title: str = "",
) -> bool:
    """Write the picture to a PNG file; False, and no file, without matplotlib or without a value.

    Args:
        path: path of the file.
        trials: in the order of their numbers.
        space: what was tried, by path.
        metric: its name.
        direction: "min" or "max", whichever is better.
        title: above the picture.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    shown = [trial for trial in trials if trial.value is not None]
    if not shown:
        return False
    count = 1 + len(space)
    columns = 2 if count in (2, 4) else min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.4 * columns, 3.5 * rows + 0.3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    complete = [trial for trial in shown if trial.status == "completed"]
    sign = 1 if direction == "min" else -1
    best = min(complete or shown, key=lambda t: (sign * (t.value or 0.0), t.number))

    def dots(axes: Any, at: Mapping[int, Any]) -> None:
        for status, color in (("pruned", _PRUNED), ("completed", _COMPLETED)):
            these = [t for t in shown if t.status == status]
            points = [at[t.number] for t in these], [t.value for t in these]
            if these:
                axes.scatter(*points, color=color, s=24, label=status, zorder=2)
        axes.scatter([at[best.number]], [best.value], color=_BEST, s=60, label=f"best, {best.name}", zorder=3)

    first, *others = places
    dots(first, {trial.number: trial.number for trial in shown})
    ends = [trial.value if trial.status == "completed" else None for trial in trials]
    line = [(n, v) for n, v in enumerate(running_best(ends, direction)) if v is not None]
    if line:
        first.step(*zip(*line, strict=True), where="post", color=_BEST, linewidth=1.2, zorder=1)
    first.set_xlabel("trial")
    first.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    labels = short_names([path.split(".") for path in space], ".")
    for axes, label, (name, given) in zip(others, labels, space.items(), strict=False):
        if isinstance(given, Range):
            dots(axes, {trial.number: trial.values[name] for trial in shown})
            if given.log:
                axes.set_xscale("log")
        else:
            texts = [json.dumps(value) if not isinstance(value, str) else value for value in given]
            place = {json.dumps(value): number for number, value in enumerate(given)}
            dots(axes, {trial.number: place[json.dumps(trial.values[name])] for trial in shown})
            axes.set_xticks(range(len(texts)), [t if len(t) < 18 else t[:15] + "..." for t in texts])
            axes.set_xlim(-0.5, len(texts) - 0.5)
            if max(map(len, texts)) * len(texts) > 40:
                axes.tick_params(axis="x", labelrotation=30)
        axes.set_xlabel(cut_names([label], 40)[0])
    for axes in places[count:]:
        axes.set_visible(False)
    for axes in places[:count:columns]:
        axes.set_ylabel(metric)
    for axes in places[:count]:
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, texts = first.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path)
    return True
