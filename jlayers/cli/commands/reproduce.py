"""Train a run again from its folder, and compare the two bit for bit."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jlayers.cli.arguments import add_compile_cache, add_run, add_set
from jlayers.cli.compiled import kept_programs
from jlayers.cli.own_code import use_code_of_run
from jlayers.cli.terminal import console, remarks

if TYPE_CHECKING:
    from jlayers.experiments.reproduce import Difference, Reproduction

__all__ = ["add_arguments", "main"]

DIFFERS = 3  # the exit code of a training whose bits are not those of the run
MOST = 4  # lines of a kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--into", metavar="DIR", help="the new run's folder (default: RUN-reproduced-<number>, next to RUN)"
    )
    add_set(parser, "train with other values, such as seed=1, or data.csv.path=... if the data have moved")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument(
        "--container",
        nargs="?",
        const="",
        metavar="FILE",
        help="train nothing; write a file from which Docker or Podman build a container that trains the run "
        "again (default: RUN/Containerfile)",
    )
    add_compile_cache(parser)


def main(arguments: argparse.Namespace) -> int | None:
    if arguments.container is not None:
        return _write_container(arguments)
    from jlayers.train.interruptions import Interruptions

    with Interruptions(at_once=True), kept_programs(arguments.compile_cache):
        result = _reproduce(arguments)
    if arguments.json:
        import json

        print(json.dumps(result.to_data(), indent=2))
    else:
        _print(console(), result)
    return None if result.identical else DIFFERS


def _write_container(arguments: argparse.Namespace) -> None:
    from jlayers.experiments.container import write_container

    path = write_container(arguments.run, arguments.container or None)
    console().print(f"wrote {path}; its first lines say how to build and run it")


def _reproduce(arguments: argparse.Namespace) -> Reproduction:
    from jlayers.experiments.reproduce import reproduce
    from jlayers.runs import Run
    from jlayers.runs.environment import first_device
    from jlayers.train.progress import ProgressBar

    code = use_code_of_run(arguments, Run(arguments.run))
    first_device()
    err = console(stderr=True)

    def begun(new: Run) -> None:
        arguments.begun = new
        err.print(f"training {arguments.run} again, into {new.path}", style="dim")

    with remarks():
        return reproduce(arguments.run, arguments.into, arguments.set, code, [ProgressBar()], begun)


def _print(out: Any, result: Reproduction) -> None:
    compared = ", ".join(result.compared)
    if result.identical:
        out.print(f"bit-identical: {compared}", style="bold green")
        _print_list(out, "although these differ", result.causes)
    else:
        first, *others = result.differences
        out.print(f"not bit-identical, of {compared}", style="bold red")
        out.print(f"differs first: {first}")
        weights = [other for other in others if other.where.startswith("weights")]
        _print_list(out, "then", [other for other in others if other not in weights])
        _print_list(out, "weights", weights)
        _print_list(out, "what may be why", result.causes)
    if result.unknown:
        unknown = ", ".join(result.unknown)
        out.print(f"an older version of jlayers made this run, and did not note: {unknown}", style="dim")
    if not result.identical and not result.causes:
        out.print(
            "nothing that the run has noted differs: a GPU may add in another order each time "
            "(XLA_FLAGS=--xla_gpu_deterministic_ops=true); code of your own may read a clock, or draw "
            "without a key"
        )
    out.print(f"the new run: {shlex.quote(str(result.again))}", style="dim")


def _print_list(out: Any, title: str, found: Sequence[Difference]) -> None:
    if not found:
        return
    out.print(f"{title}:")
    shown = found if len(found) <= MOST + 1 else found[:MOST]
    for difference in shown:
        out.print(f"  {difference}")
    if more := len(found) - len(shown):
        out.print(f"  and {more} more, in reproduction.json of the new run", style="dim")
