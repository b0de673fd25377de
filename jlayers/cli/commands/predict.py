"""Apply a run's weights to inputs, prepared as its training data were."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jlayers.cli.arguments import add_run
from jlayers.cli.own_code import use_code_of_run
from jlayers.cli.seeds import add_seed
from jlayers.cli.terminal import remarks

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("input", metavar="INPUT", help="a .npy, .npz or .csv file")
    parser.add_argument("--output", metavar="FILE", help="write all outputs to this .npy, .npz or .csv file")
    add_seed(parser, "predict by")
    parser.add_argument(
        "--members", action="store_true", help="give what each seed of a run of many predicts, not the mean"
    )
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the .csv file begins with the columns' names (default: as in the training data)",
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="between the cells of the .csv file (default: as in the training data)",
    )


def main(arguments: argparse.Namespace) -> None:
    from jlayers.data.folders import FileRows
    from jlayers.runs import Run, predict_run
    from jlayers.runs.environment import first_device
    from jlayers.runs.inputs import read_inputs
    from jlayers.runs.outputs import check_output, named_outputs, write_outputs

    first_device()
    run = Run.open(arguments.run)
    if arguments.output:
        check_output(arguments.output)
    use_code_of_run(arguments, run)
    with remarks():
        x = read_inputs(run, arguments.input, arguments.header, arguments.delimiter)
        files = x.files.names if isinstance(x, FileRows) and len(x) > 1 else ()
        outputs = named_outputs(predict_run(run, x, seed=arguments.seed, members=arguments.members))
    if arguments.output:
        write_outputs(arguments.output, outputs)
    else:
        _print_outputs(outputs, run.data().get("class_names"), files)


def _print_outputs(
    named: Mapping[str, Any], class_names: Sequence[str] | None, files: Sequence[str] = ()
) -> None:
    for name, output in named.items():
        if len(named) > 1:
            print(f"{name}:")
        for number, row in enumerate(_rows(output)):
            file = f"{files[number]}  " if files else ""
            best = f"{class_names[row.argmax()]}  " if class_names and len(row) == len(class_names) else ""
            print(file + best + " ".join(map(_shown, row.tolist())))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(output: Any) -> Iterator[Any]:
    """Each sample as one flat row; of a masked output only what is real."""
    import numpy as np

    from jlayers.core.masks import Masked

    if isinstance(output, Masked):
        yield from (np.ravel(v[m]) for v, m in zip(output.values, output.mask, strict=True))
    else:
        yield from map(np.ravel, output)
