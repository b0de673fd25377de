"""The curves of several runs in one figure: a row for each result, training beside validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.experiments.names import cut_names
from jlayers.experiments.record import RunRecord
from jlayers.runs.curves import scale
from jlayers.runs.figures import INK, SERIES, new_figure, plain_axes, written

__all__ = ["compared_curves"]

LABEL = 34  # letters of a name
OTHERS = "#b0b7bf"  # the color of the runs after the first eight


def compared_curves(runs: Mapping[str, RunRecord]) -> Any:
    """A figure with the curves of runs by their names; None if no run has finished an epoch.

    The first eight runs have colors, the others are gray. A dot marks the epoch whose weights are kept. A run
    with the curve of one before it, such as a reproduction, is a wider line below that one.
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
            shown = list(runs.values())
            for place, run in reversed(list(enumerate(shown))):  # the first on top
                _draw(axes, run, f"{part}{result}", place, shown[:place])
        names = [f"{part}{result}" for part in parts]
        values = [v for run in runs.values() for name in names for v in run.history.get(name, ())]
        scale(row[0], values, next(iter(runs.values())).direction(result))
    _number_epochs(grid[-1][0], max(run.epochs for run in runs.values()))
    _legend(figure, labels, width)
    return figure


def _draw(axes: Any, run: RunRecord, result: str, place: int, before: Sequence[RunRecord]) -> None:
    values = run.history.get(result)
    if not values:
        return
    colored = place < len(SERIES)
    color, width = (SERIES[place], 1.5) if colored else (OTHERS, 0.9)
    width += 3 * colored * sum(other.history.get(result) == values for other in before)
    axes.plot(
        range(1, len(values) + 1),
        values,
        color=color,
        linewidth=width,
        marker="." if len(values) == 1 else None,
    )
    if colored and run.kept_epoch is not None and run.kept_epoch <= len(values):
        axes.plot([run.kept_epoch], [values[run.kept_epoch - 1]], "o", color=color, markersize=4)


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
