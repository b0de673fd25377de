"""Evaluate a run's weights on the data held out."""

from __future__ import annotations

import argparse

from jlayers.cli.arguments import add_run
from jlayers.cli.own_code import use_code_of_run
from jlayers.cli.terminal import remarks

__all__ = ["add_arguments", "main"]

add_arguments = add_run


def main(arguments: argparse.Namespace) -> None:
    from jlayers.runs import Run, evaluate_run
    from jlayers.runs.environment import first_device

    first_device()
    run = Run.open(arguments.run)
    use_code_of_run(arguments, run)
    with remarks():
        results, _ = evaluate_run(run)
    width = max(map(len, results)) + 2
    for name, value in results.items():
        print(f"{name:<{width}}{value!r}")
