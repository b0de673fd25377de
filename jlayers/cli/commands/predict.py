"""Predict new inputs with a run's weights; they are prepared like its training data."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jlayers.cli.arguments import add_run
from jlayers.cli.own_code import use_code_of_run
from jlayers.cli.seeds import add_seed
from jlayers.cli.terminal import console, remarks

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "input",
        metavar="INPUT",
        nargs="+",
        help="a .npy, .npz or .csv file; for a run trained on pictures or texts, files or folders of them",
    )
    parser.add_argument("--output", metavar="FILE", help="write all outputs to this .npy, .npz or .csv file")
    add_seed(parser, "predict with")
    parser.add_argument(
        "--members", action="store_true", help="give the predictions of each seed, not the mean of all"
    )
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="how many classes to show, the most probable first (default: 5)",
    )
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the .csv file starts with column names (default: as in the training data)",
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="the character between the cells of the .csv file (default: as in the training data)",
    )


def main(arguments: argparse.Namespace) -> None:
    from jlayers.runs import Run, predict_run
    from jlayers.runs.environment import first_device
    from jlayers.runs.inputs import names_of_rows, read_inputs
    from jlayers.runs.outputs import check_output, named_outputs, write_outputs
    from jlayers.runs.shares import class_shares

    if arguments.top < 1:
        raise ValueError(f"expected at least 1 class to show, received --top {arguments.top}")

    first_device()
    run = Run.open(arguments.run)
    if arguments.output:
        check_output(arguments.output)
    use_code_of_run(arguments, run)
    with remarks():
        x = read_inputs(run, arguments.input, arguments.header, arguments.delimiter)
        files = names_of_rows(x)
        outputs = predict_run(run, x, seed=arguments.seed, members=arguments.members)
    named = named_outputs(outputs)
    if arguments.output:
        write_outputs(arguments.output, named)
        console(stderr=True).print(f"wrote {arguments.output}", style="dim")  # not among results
    else:
        shares = class_shares(run, outputs, arguments.members)
        _print_outputs(named, shares, files, arguments.top)


def _print_outputs(
    named: Mapping[str, Any],
    shares: Mapping[str, tuple[Any, Sequence[str]]],
    files: Sequence[str] = (),
    top: int = 5,
) -> None:
    """A line for each sample: the most probable classes, or the numbers of the output."""
    width = max(map(len, files), default=0)
    for name, output in named.items():
        if len(named) > 1:
            print(f"{name}:")
        lines = _classes(*shares[name], top) if name in shares else map(_numbers, _rows(output))
        for number, text in enumerate(lines):
            print((f"{files[number]:<{width}}  " if files else "") + text)


def _classes(shares: Any, names: Sequence[str], top: int) -> Iterator[str]:
    for row in shares:
        best = (-row).argsort(kind="stable")[:top]
        yield "  ".join(f"{names[i]} {row[i]:.1%}" for i in best)


def _numbers(row: Any) -> str:
    return " ".join(map(_shown, row.tolist()))


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
