"""Compare runs: the settings that differ, results, times and costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jlayers.cli.tables import Column, print_table
from jlayers.cli.terminal import console, number

if TYPE_CHECKING:
    from jlayers.experiments.compare import Comparison
    from jlayers.experiments.record import RunRecord

__all__ = ["add_arguments", "main"]

MOST = 12  # settings shown
LONGEST = 20  # letters of a value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a run's folder, or a folder that contains runs"
    )
    parser.add_argument("--sort", metavar="METRIC", help="show the best run first, as in --sort val_accuracy")
    parser.add_argument(
        "--csv", metavar="FILE", help="write the table to this file, with all settings that differ"
    )
    parser.add_argument("--json", metavar="FILE", help="write the same as JSON, with the histories")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into this .png file (extra: plot)")


def main(arguments: argparse.Namespace) -> None:
    from jlayers.experiments.compare import compare, draw_comparison, write_csv, write_json

    compared = compare(arguments.runs)
    if arguments.sort is not None:
        compared = compared.sorted_by(arguments.sort)
    print_table(_columns(compared))
    out = console()
    if len(compared.runs) > 1 and not compared.settings:
        out.print("no setting differs", style="dim")
    _print_shared(out, compared)
    if any(run.spread for run in compared.runs):
        out.print("±: the standard deviation over the seeds of a run", style="dim")
    if (left := len(_settings(compared)) - MOST) > 0:
        out.print(f"{left} more settings differ: see them with --csv or --json", style="dim")
    for run, name in zip(compared.runs, compared.names, strict=True):
        if run.reason:
            out.print(f"{name}: {run.status}: {run.reason.splitlines()[0]}", style="yellow")
    if arguments.csv is not None:
        write_csv(arguments.csv, compared)
    if arguments.json is not None:
        write_json(arguments.json, compared)
    if arguments.plot is not None:
        draw_comparison(arguments.plot, compared)
    for path in (arguments.csv, arguments.json, arguments.plot):
        if path is not None:
            out.print(f"wrote {path}", style="dim")


def _columns(compared: Comparison) -> list[Column]:
    from jlayers.experiments.names import short_names
    from jlayers.inspect.table import human
    from jlayers.train.progress import duration

    runs = compared.runs
    columns = [Column("run", compared.names)]
    if any(run.status != "completed" for run in runs):
        columns.append(status_column(runs))
    columns.append(Column("epochs", [epochs_of(run) for run in runs], right=True))
    shown = dict(list(_settings(compared).items())[:MOST])
    titles = short_names([path.split(".") for path in shown], ".")
    taken = {"epochs", "time", "parameters", "FLOPs", *compared.metrics}
    titles = [f"{title} (setting)" if title in taken else title for title in titles]
    columns += [
        Column(title, [_value(value) for value in values], right=True)
        for title, values in zip(titles, shown.values(), strict=True)
    ]
    for name in compared.metrics:
        values = [run.metrics.get(name) for run in runs]
        best = compared.best(name)
        styles = ["bold green" * (value is not None and value == best and len(runs) > 1) for value in values]
        columns.append(Column(name, [result_of(run, name) for run in runs], styles, right=True))
    columns += [
        _known("time", [run.seconds for run in runs], duration),
        _column_if_unequal("parameters", [run.parameters for run in runs], lambda count: f"{count:,}"),
        _column_if_unequal("FLOPs", [run.flops for run in runs], lambda count: human(count, "")),
    ]
    return [column for column in columns if any(column.cells)]


def _settings(compared: Comparison) -> dict[str, tuple[Any, ...]]:
    """The settings to show: `adam` in one run and `adam.learning_rate` in another are one setting.

    The epochs that were asked for stand beside those that are finished.
    """
    whole = {path for run in compared.runs for path in run.settings}
    shown: dict[str, tuple[Any, ...]] = {}
    for path in compared.settings:
        parts = path.split(".")
        beginnings = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        top = next(beginning for beginning in beginnings if beginning in whole)
        if top != "training.epochs" and top not in shown:
            shown[top] = tuple(_under(run.settings, top) for run in compared.runs)
    return shown


def _under(settings: Mapping[str, Any], top: str) -> Any:
    """A setting, or those below it as one text."""
    if top in settings:
        return settings[top]
    below = {path[len(top) + 1 :]: value for path, value in settings.items() if path.startswith(f"{top}.")}
    return ", ".join(f"{path}={_value(value)}" for path, value in below.items())


def _print_shared(out: Any, compared: Comparison) -> None:
    """The costs that are the same in all runs, which need no column."""
    from jlayers.inspect.table import human

    parameters, flops = (
        _only({getattr(run, name) for run in compared.runs}) for name in ("parameters", "flops")
    )
    texts = [] if parameters is None else [f"{parameters:,} parameters"]
    texts += [] if flops is None else [human(flops, "FLOPs")]
    if texts:
        out.print(f"all of them: {', '.join(texts)}", style="dim")


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None


def _known(title: str, values: list[Any], text: Callable[[Any], str]) -> Column:
    return Column(title, ["" if value is None else text(value) for value in values], right=True)


def _column_if_unequal(title: str, values: list[Any], text: Callable[[Any], str]) -> Column:
    """Empty where all runs have the same value; see `_print_shared`."""
    return Column(title, []) if len(set(values)) == 1 else _known(title, values, text)


def _value(value: Any) -> str:
    text = "" if value in (None, [], {}) else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


COLORS = {"completed": "green", "running": "cyan", "interrupted": "yellow", "unknown": "yellow"}


def status_column(runs: Any) -> Column:
    """The status of each run in its color."""
    return Column("status", [run.status for run in runs], [COLORS.get(run.status, "red") for run in runs])


def result_of(run: RunRecord, name: str) -> str:
    """A result of a run; of many seeds the mean and the standard deviation."""
    std = f" ± {number(name, run.spread[name])}" if name in run.spread else ""
    return number(name, run.metrics.get(name)) + std


def epochs_of(run: Any) -> str:
    """The epochs that are finished, and how many were asked for where that is more."""
    return str(run.epochs) if run.planned in (None, run.epochs) else f"{run.epochs}/{run.planned}"
