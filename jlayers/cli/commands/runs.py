"""List the runs in a folder and its subfolders."""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
from typing import TYPE_CHECKING

from jlayers.cli.commands.compare import epochs_of, result_of, status_column
from jlayers.cli.tables import Column, print_table
from jlayers.cli.terminal import console

if TYPE_CHECKING:
    from jlayers.experiments.record import RunRecord

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="the folder (default: runs)")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def main(arguments: argparse.Namespace) -> None:
    from jlayers.experiments.record import find_runs
    from jlayers.inspect.table import human

    top = pathlib.Path(arguments.folder)
    runs = find_runs(top)
    if arguments.json:
        print(json.dumps([_facts(run) for run in runs], indent=2))
        return
    if not runs:
        console().print(f"there are no runs in {top}")
        return
    print_table(
        [
            Column("run", [_name(run, top) for run in runs]),
            status_column(runs),
            Column("began", [_time_begun(run) for run in runs]),
            Column("epochs", [epochs_of(run) for run in runs], right=True),
            Column("best", [_best(run) for run in runs]),
            Column("size", [human(run.size, "B") for run in runs], right=True),
        ],
        turns=False,
    )


def _name(run: RunRecord, top: pathlib.Path) -> str:
    """The path within the folder, and the run's own name where the folder is the run."""
    path = run.path.relative_to(top).as_posix()
    return run.name if path == "." else path


def _time_begun(run: RunRecord) -> str:
    if run.began is None:
        return ""
    began = run.began.astimezone()
    this_year = began.year == datetime.datetime.now().year
    return began.strftime("%b %d %H:%M" if this_year else "%b %d  %Y")


def _best(run: RunRecord) -> str:
    return "" if run.best is None else f"{run.best[0]} {result_of(run, run.best[0])}"


def _facts(run: RunRecord) -> dict[str, object]:
    times = {
        name: None if time is None else time.isoformat()
        for name, time in (("began", run.began), ("ended", run.ended))
    }
    names = ("status", "reason", "epochs", "planned", "kept_epoch", "seconds", "metrics", "size")
    return {"run": str(run.path), **times, **{name: getattr(run, name) for name in names}}
