"""The curves of several runs in one figure: a row for each result, training beside validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.experiments.names import cut_names
from jlayers.experiments.record import RunRecord
from jlayers.runs.figures import INK, SERIES, new_figure, plain_axes, written

__all__ = ["compared_curves"]

LABEL = 34  # letters of a name
OTHERS = "#b0b7bf"  # the color of the runs after the first eight


def compared_curves(runs: Mapping[str, RunRecord]) -> Any:
    """A figure with the curves of runs by their names; None if no run has finished an epoch.

    The first eight runs have colors, the others are gray. A dot marks the epoch whose weights are kept.
    """
    runs = {name: run for name, run in runs.items() if run.epochs}
    results = list(dict.fromkeys(n.removeprefix("val_") for run in runs.values() for n in run.history))
    if not results:
        return None
    titles = {"": "training", "val_": "validation"}
    parts = [p for p in titles if any(f"{p}{n}" in run.history for run in runs.values() for n in results)]
    labels = cut_names(list(runs), LABEL)
    width = 4.8 * len(parts)
    figure = new_figure(width, 2.9 * len(results) + 0.4)
    grid = figure.subplots(len(results), len(parts), squeeze=False, sharex=True, sharey="row")
    for row, result in zip(grid, results, strict=True):
        for axes, part in zip(row, parts, strict=True):
            title = f"{result.replace('_', ' ')}, {titles[part]}"
            plain_axes(axes, title, "epoch" if result == results[-1] else "")
            for place, run in reversed(list(enumerate(runs.values()))):  # the first on top
                _draw(axes, run, f"{part}{result}", place)
        names = [f"{part}{result}" for part in parts]
        values = [v for run in runs.values() for name in names for v in run.history.get(name, ())]
        _scale(row[0], values, next(iter(runs.values())).direction(result))
    _number_epochs(grid[-1][0], max(run.epochs for run in runs.values()))
    _legend(figure, labels, width)
    return figure


def _draw(axes: Any, run: RunRecord, result: str, place: int) -> None:
    values = run.history.get(result)
    if not values:
        return
    colored = place < len(SERIES)
    color, width = (SERIES[place], 1.5) if colored else (OTHERS, 0.9)
    axes.plot(
        range(1, len(values) + 1),
        values,
        color=color,
        linewidth=width,
        marker="." if len(values) == 1 else None,
    )
    if colored and run.kept_epoch is not None and run.kept_epoch <= len(values):
        axes.plot([run.kept_epoch], [values[run.kept_epoch - 1]], "o", color=color, markersize=4)


def _scale(axes: Any, values: Sequence[float], direction: str) -> None:
    """An axis on which the ends of the curves can be told apart.

    It is logarithmic for a loss that spans more than one power of ten. Of an accuracy the first, low values
    are cut off.
    """
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return
    if direction == "max":
        low, high = finite[len(finite) // 20], finite[-1]
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low)) if low < high else None
    elif 0 < 10 * finite[0] < finite[-1]:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if finite[-1] < 1000 * finite[0] else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _number_epochs(axes: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set_xlim(left=1 if most > 1 else None)


def _legend(figure: Any, labels: Sequence[str], width: float) -> None:
    from matplotlib.lines import Line2D

    columns = max(1, int(width / (0.5 + 0.095 * max(map(len, labels)))))  # inches for a line and its letters

    handles = [
        Line2D([], [], color=color, label=written(label))
        for label, color in zip(labels, SERIES, strict=False)
    ]
    if more := len(labels) - len(handles):
        handles.append(Line2D([], [], color=OTHERS, label=f"{more} other{'s' * (more > 1)}"))
    figure.legend(
        handles=handles, ncols=columns, frameon=False, fontsize=9, loc="outside lower center", labelcolor=INK
    )
