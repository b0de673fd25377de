"""Evaluate a run's weights on the held-out data."""

from __future__ import annotations

import argparse
import dataclasses

from jlayers.cli.arguments import add_run
from jlayers.cli.own_code import use_code_of_run
from jlayers.cli.seeds import add_seed, print_seeds
from jlayers.cli.terminal import console, remarks

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_seed(parser, "evaluate")


def main(arguments: argparse.Namespace) -> None:
    from jlayers.runs import Run, evaluate_run, evaluate_seeds_run
    from jlayers.runs.environment import first_device

    first_device()
    run = Run.open(arguments.run)
    use_code_of_run(arguments, run)
    if arguments.seed is None and run.has_seeds:
        with remarks():
            ensemble, each = evaluate_seeds_run(run)
        found = {name: dataclasses.asdict(one) for name, one in each.items()}
        title = f"{len(each['loss'].values)} seeds on the held-out data"
        print_seeds(console(), title, {"held out": found}, ensemble)
        return
    with remarks():
        results, _ = evaluate_run(run, arguments.seed)
    width = max(map(len, results)) + 2
    for name, value in results.items():
        print(f"{name:<{width}}{value!r}")
