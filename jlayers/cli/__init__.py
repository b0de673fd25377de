"""The command line; `jlayers --help` lists the commands, which are the files of `jlayers/cli/commands/`.

This folder is the only part of the library that prints. A user's error is reported in a few lines, without a
traceback; `--debug`, or `JLAYERS_DEBUG=1` in the environment, shows the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jlayers.cli.arguments import add_use, spread
from jlayers.cli.commands import commands
from jlayers.cli.errors import explained
from jlayers.cli.terminal import console, lasting_streams, no_lost_loops

if TYPE_CHECKING:
    from jlayers.runs import Run

__all__ = ["main"]

WIDTH = 79  # of help
EXIT_CODES = """\
exit codes:
  0    success
  1    training started and failed; results.json in the run's folder says why
  2    the request is wrong (a file, a value, the data); nothing was trained
  3    "jlayers reproduce": the two runs are not bit-identical;
       "jlayers doctor": something was found
  130  interrupted by Ctrl-C (128 + 2); 143 by SIGTERM, 129 by SIGHUP

After the first signal, a training records how it ended. If it keeps
checkpoints, it also makes one, and "jlayers train --resume RUN" continues
from there. A second signal ends the process at once.
"""


def main(command_line: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `jlayers --help` lists them."""
    with lasting_streams(), no_lost_loops():
        words = sys.argv[1:] if command_line is None else command_line
        arguments = _parser().parse_args(spread(words))
        try:
            code = arguments.command(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is reported like any other error
            return code or 0
        except KeyboardInterrupt as error:
            return _fail(arguments, "interrupted", 128 + getattr(error, "number", signal.SIGINT))
        except Exception as error:
            code = _fail(arguments, explained(error), 1 if arguments.begun else 2)
            if isinstance(error, FloatingPointError) and hasattr(arguments.begun, "path"):
                run = shlex.quote(str(arguments.begun.path))
                console(stderr=True).print(f"look for the cause with: jlayers doctor {run}")
            return code


def _fail(arguments: argparse.Namespace, text: str, code: int) -> int:
    if arguments.debug:
        import traceback

        traceback.print_exc()
    console(stderr=True).print(text, style="red")
    if arguments.begun:
        _tell_what_is_kept(arguments.begun)
    return code


def _tell_what_is_kept(run: Run | bool) -> None:
    """Say which weights a training that failed has kept."""
    from jlayers.runs.files import WEIGHTS

    if isinstance(run, bool):  # more than one run; the command has reported on them
        return
    with contextlib.suppress(Exception):
        there = (run.path / WEIGHTS).is_file()
        kept = f"it keeps the weights of epoch {run.kept_epoch()}" if there else "it holds no weights yet"
        resume = f"; continue with: jlayers train --resume {shlex.quote(str(run.path))}"
        out = console(stderr=True)
        out.print(f"run {run.path}: {kept}{resume if run.checkpoints.is_dir() else ''}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jlayers",
        description="Train and use models that a YAML file describes.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    debug = os.environ.get("JLAYERS_DEBUG", "") not in ("", "0")
    parser.set_defaults(command=lambda arguments: parser.print_help(), debug=debug, begun=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, module in commands().items():
        text = (module.__doc__ or "").splitlines()[0]
        command = subparsers.add_parser(
            name,
            help=text,
            description=textwrap.fill(text, WIDTH),
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=module.main)
        command.add_argument(
            "--debug", action="store_true", default=debug, help="show the traceback of an error"
        )
        add_use(command)
        if hasattr(module, "add_arguments"):
            module.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
