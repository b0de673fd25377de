"""Runs beside each other: the settings that differ, results, times and costs, as a table and as curves."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jlayers.core.spelling import nearest
from jlayers.experiments.compared_curves import compared_curves
from jlayers.experiments.names import short_names
from jlayers.experiments.record import RunRecord, find_runs, is_run, read_run
from jlayers.runs.figures import can_draw, save_png
from jlayers.runs.files import json_content
from jlayers.saving.files import write_atomically

__all__ = [
    "Comparison",
    "compare",
    "comparison_of",
    "draw_comparison",
    "short_names",
    "write_csv",
    "write_json",
]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Several runs and in what they differ.

    Attributes:
        runs: the records, in the order of the table.
        names: names of the runs, as short as they can be without two being the same.
        settings: the settings that are not the same in all runs, by path: a value for each run, None where a
            run has no such setting. Settings that all runs have come first.
        metrics: the names of all results, those of the held-out data last.
    """

    runs: tuple[RunRecord, ...]
    names: tuple[str, ...]
    settings: Mapping[str, tuple[Any, ...]]
    metrics: tuple[str, ...]

    def sorted_by(self, metric: str) -> Comparison:
        """The same with the best run first; runs without a value come last.

        Raises:
            KeyError: no run has a result of this name.
        """
        if metric not in self.metrics:
            raise KeyError(f"no run has the metric {metric!r}: {nearest(metric, self.metrics)}")

        def key(run: RunRecord) -> float:
            value = run.metrics.get(metric, math.nan)
            return math.inf if math.isnan(value) else value if run.direction(metric) == "min" else -value

        return comparison_of(sorted(self.runs, key=key))

    def best(self, metric: str) -> float | None:
        """The best value of a metric; None if no run has a number there."""
        values = [
            run.metrics[metric] for run in self.runs if not math.isnan(run.metrics.get(metric, math.nan))
        ]
        if not values:
            return None
        run = next(run for run in self.runs if metric in run.metrics)
        return min(values) if run.direction(metric) == "min" else max(values)

    def rows(self) -> list[dict[str, Any]]:
        """A flat dict for each run with the same keys in all, for CSV, JSON and data frames.

        Of a run of many seeds `accuracy` is the mean, and `accuracy_std` the standard deviation.
        """
        spread = [name for name in self.metrics if any(name in run.spread for run in self.runs)]
        return [
            {
                "run": str(run.path),
                "status": run.status,
                "epochs": run.epochs,
                "planned": run.planned,
                **{path: values[place] for path, values in self.settings.items()},
                **{name: run.metrics.get(name) for name in self.metrics},
                **{f"{name}_std": run.spread.get(name) for name in spread},
                "seconds": run.seconds,
                "parameters": run.parameters,
                "flops": run.flops,
            }
            for place, run in enumerate(self.runs)
        ]


def compare(runs: Iterable[str | os.PathLike[str]]) -> Comparison:
    """Runs compared, be they running, completed, failed or killed.

    Args:
        runs: folders of runs, or folders in which there are runs.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a file of a run is damaged.

    >>> import tempfile, jlayers as jl, jlayers.runs
    >>> folder = tempfile.mkdtemp()
    >>> for seed, loss in enumerate([0.3, 0.2]):
    ...     run = jl.runs.Run.create(f"{folder}/run-{seed}", {"model": "Flatten", "seed": seed})
    ...     run.log(1, {"loss": loss})
    ...     run.finish({"seconds": 1.5})
    >>> compared = jl.experiments.compare([folder]).sorted_by("loss")
    >>> compared.names, compared.settings, compared.best("loss")
    (('run-1', 'run-0'), {'seed': (1, 0)}, 0.2)
    """
    found: dict[pathlib.Path, RunRecord] = {}
    for path in map(pathlib.Path, runs):
        records = [read_run(path)] if is_run(path) or not path.is_dir() else find_runs(path)
        if not records:
            raise FileNotFoundError(f"there are no runs in {path}")
        found |= {record.path.resolve(): record for record in records}
    return comparison_of(list(found.values()))


def comparison_of(runs: Sequence[RunRecord]) -> Comparison:
    """Records compared, in their order."""
    paths = dict.fromkeys(path for run in runs for path in run.settings)
    rows = {path: tuple(run.settings.get(path) for run in runs) for path in paths}
    readable = [place for place, run in enumerate(runs) if run.status != "damaged"]
    differing = {p: row for p, row in rows.items() if any(row[i] != row[readable[0]] for i in readable)}
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    return Comparison(
        runs=tuple(runs),
        names=short_names([run.path.resolve().parts for run in runs], os.sep),
        settings=dict(
            sorted(differing.items(), key=lambda item: (None in item[1], item[0].startswith("model")))
        ),
        metrics=tuple(sorted(names, key=lambda name: name.startswith("test_"))),
    )


def draw_comparison(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write the curves of all runs to a PNG file.

    Raises:
        ImportError: without matplotlib: `pip install 'jlayers[plot]'`.
        ValueError: another kind of file, or no run has finished an epoch.
    """
    if pathlib.Path(path).suffix.lower() != ".png":
        raise ValueError(f"expected a .png file for the curves, received {path}")
    if not can_draw():
        raise ImportError("the curves are drawn by matplotlib: pip install 'jlayers[plot]'")
    figure = compared_curves(dict(zip(comparison.names, comparison.runs, strict=True)))
    if figure is None:
        raise ValueError("there are no curves to draw: no run has finished an epoch")
    save_png(figure, path)


def write_csv(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write a line for each run, with all settings that differ and all results; what is missing is empty."""
    rows = comparison.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def write_json(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write the rows, each with the history of its run; a number that is not finite is null."""
    runs = zip(comparison.rows(), comparison.runs, strict=True)
    content = [{**row, "history": run.history} for row, run in runs]
    write_atomically(path, json_content({"runs": content}))
