"""Look for faults in an experiment: a file before its training, or a run after it."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import TYPE_CHECKING, Any

from jlayers.cli.arguments import add_file
from jlayers.cli.own_code import use_code, use_code_of_run
from jlayers.cli.terminal import console, remarks

if TYPE_CHECKING:
    from jlayers.experiments.doctor import Finding, Report

__all__ = ["add_arguments", "main"]

FOUND = 3  # the exit code
INDENT = 8
COLORS = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "the YAML file, or a run's folder")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--plot", metavar="PICTURE.png", help="draw the losses by learning rate into this file (extra: plot)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="time limit for each check that trains (default: 10)",
    )
    parser.add_argument(
        "--accept-changed-code",
        action="store_true",
        help="for a run: accept --use files that differ from those that it was trained with",
    )


def main(arguments: argparse.Namespace) -> int:
    with remarks():
        report = _report(arguments)
    drawn = bool(arguments.plot) and report.draw(arguments.plot)
    if arguments.json:
        print(report.to_json())
    else:
        _show(report)
        if drawn:
            console().print(f"the test of learning rates: {arguments.plot}", style="dim")
    if arguments.plot and not drawn:
        why = "pip install 'jlayers[plot]'" if report.curves else "no learning rates were tested"
        console(stderr=True).print(f"{arguments.plot} was not drawn: {why}")
    return 0 if report.healthy else FOUND


def _report(arguments: argparse.Namespace) -> Report:
    import pathlib

    from jlayers.config import load
    from jlayers.experiments.doctor import doctor_experiment, doctor_run
    from jlayers.runs import Run
    from jlayers.runs.environment import first_device

    if pathlib.Path(arguments.file).is_dir():
        if arguments.set:
            raise ValueError("expected no --set with a run: it is looked at as it was trained")
        run = Run(arguments.file)
        use_code_of_run(arguments, run)
        first_device()
        return doctor_run(run, arguments.seconds)
    use_code(arguments)
    first_device()
    experiment = load(arguments.file, arguments.set)
    with experiment.located_layer():
        return doctor_experiment(experiment, arguments.seconds)


def _show(report: Report) -> None:
    out = console()
    for finding in [*report.findings, *report.notes]:
        _show_one(out, finding)
    for why, names in report.unseen.items():
        out.print(f"not looked at: {', '.join(names)} ({why})", style="dim")
    count = len(report.findings)
    text = "nothing found" if report.healthy else f"{count} finding{'s' * (count != 1)}"
    out.print(f"{text}, {len(report.checks)} checks in {report.seconds:.0f} s", style="bold")


def _show_one(out: Any, finding: Finding) -> None:
    from rich.text import Text

    place = f"  {finding.where}" if finding.where else ""
    head = Text.assemble((f"{finding.severity:<8}", COLORS[finding.severity]), (finding.check, "bold"), place)
    out.print(head)
    for text, style in ((finding.message, ""), (finding.advice and f"→ {finding.advice}", "green")):
        for line in _lines(text, out.width - INDENT):
            out.print(Text(" " * INDENT + line, style=style))
    out.print()


def _lines(text: str, width: int) -> list[str]:
    """A text in lines that part no number from its unit.

    >>> _lines("a step takes about 1.6 s", 22)
    ['a step takes about', '1.6 s']
    """
    glued = re.sub(r"(?<=\d) (?=(?:[kMG]i?)?B\b|[nmµ]?s\b|min\b|%)", "\0", text)
    lines = [part for line in glued.splitlines() for part in textwrap.wrap(line, max(width, 20))]
    return [line.replace("\0", " ") for line in lines]
