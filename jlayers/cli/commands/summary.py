"""Show the layers of a file's model."""

from __future__ import annotations

import argparse

from jlayers.cli.arguments import add_file
from jlayers.cli.own_code import use_code

__all__ = ["add_arguments", "main"]

add_arguments = add_file


def main(arguments: argparse.Namespace) -> None:
    from jlayers.config import load
    from jlayers.inspect.summary import summary
    from jlayers.runs.environment import first_device

    use_code(arguments)
    first_device()
    experiment = load(arguments.file, arguments.set)
    with experiment.located_layer():
        print(summary(experiment.model, experiment.data.features))
