"""Write a report of a run: one HTML page that can be sent to someone."""

from __future__ import annotations

import argparse

from jlayers.cli.arguments import add_run
from jlayers.cli.own_code import use_code_of_run
from jlayers.cli.terminal import remarks

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--output", metavar="FILE", help="the file to write (default: report.html in the run's folder)"
    )


def main(arguments: argparse.Namespace) -> None:
    from jlayers.experiments.report import report
    from jlayers.runs import Run

    if arguments.use:
        use_code_of_run(arguments, Run(arguments.run))
    with remarks():
        print(report(arguments.run, arguments.output))
