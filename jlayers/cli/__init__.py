"""The command line: `jlayers train`, `evaluate`, `predict`, `summary`, `list` and `schema`.

This folder is the only part of the library that prints. A user's error is told in a few lines, without a
traceback; `--debug`, or `JLAYERS_DEBUG=1` in the environment, shows the traceback.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jlayers.cli import commands
from jlayers.cli.errors import explained
from jlayers.cli.terminal import console, lasting_streams

__all__ = ["main"]

EXIT_CODES = """\
exit codes:
  0    done
  1    the training began and failed; results.json in the run's folder says why
  2    what was asked for is wrong: a file, a value, the data; nothing was trained
  130  interrupted by Ctrl-C (128 + 2); 143 by SIGTERM, 129 by SIGHUP

The first signal lets a training note how it ended and, if it keeps checkpoints, make one of where it stands;
"jlayers train --resume RUN" goes on from there. A second signal ends the process at once.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `jlayers --help` lists them."""
    with lasting_streams():
        given = _parser().parse_args(arguments)
        try:
            given.command(given)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is told like any other error
            return 0
        except KeyboardInterrupt as error:
            return _fail(given, "interrupted", 128 + getattr(error, "number", signal.SIGINT))
        except Exception as error:
            return _fail(given, explained(error), 1 if given.begun else 2)


def _fail(given: argparse.Namespace, text: str, code: int) -> int:
    if given.debug:
        import traceback

        traceback.print_exc()
    console(stderr=True).print(text, style="red")
    if given.begun:
        commands.tell_what_is_kept(given.begun)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jlayers",
        description="Train and use models that a YAML file describes.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    debug = os.environ.get("JLAYERS_DEBUG", "") not in ("", "0")
    parser.set_defaults(command=lambda given: parser.print_help(), debug=debug, begun=None)
    added = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = added.add_parser(
            name,
            help=text,
            description=text,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument(
            "--debug", action="store_true", default=debug, help="show the traceback of an error"
        )
        made.add_argument(
            "--use",
            action="append",
            default=[],
            metavar="CODE.py",
            help="run this Python file of yours first, so that the layers, losses, ... it registers can be "
            "named (may be given several times)",
        )
        made.set_defaults(command=command)
        return made

    def add_file(made: argparse.ArgumentParser, **options: Any) -> None:
        made.add_argument("file", metavar="FILE", help="the YAML file", **options)
        made.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="replace one value, such as optimizer.adam.learning_rate=0.01 (may be given several times)",
        )

    def add_run(made: argparse.ArgumentParser) -> None:
        made.add_argument("run", metavar="RUN", help="the run's folder")
        made.add_argument(
            "--accept-changed-code",
            action="store_true",
            help="accept files for --use that differ from those that the run was trained with",
        )

    train = add("train", commands.train, "Train the model of a file; the run is kept in a folder of its own.")
    add_file(train, nargs="?")
    train.add_argument("--epochs", type=int, metavar="N", help="short for --set training.epochs=N")
    train.add_argument(
        "--run", metavar="DIR", help="the run's folder (default: runs/<name of the file>-<number>)"
    )
    train.add_argument(
        "--resume",
        metavar="RUN",
        help="instead of FILE: go on with a run that was interrupted or killed, from its last checkpoint",
    )
    train.add_argument(
        "--accept-changed-code",
        action="store_true",
        help="with --resume: accept files for --use that differ from those that the run was trained with",
    )
    train.add_argument(
        "--compile-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep compiled programs in the cache folder of the user, so that the next start compiles "
        "nothing (also off by JLAYERS_COMPILE_CACHE=0)",
    )

    evaluate = add("evaluate", commands.evaluate, "Evaluate a run's weights on the data held out.")
    add_run(evaluate)

    text = "Apply a run's weights to inputs, prepared as its training data were."
    predict = add("predict", commands.predict, text)
    add_run(predict)
    predict.add_argument("input", metavar="INPUT", help="a .npy, .npz or .csv file")
    predict.add_argument("--output", metavar="FILE", help="write all outputs to this .npy, .npz or .csv file")
    predict.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the .csv file begins with the columns' names (default: as in the training data)",
    )
    predict.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="between the cells of the .csv file (default: as in the training data)",
    )

    add_file(add("summary", commands.summary, "Show the layers of a file's model."))

    listing = add(
        "list", commands.listing, "List what a file can name: layers, applications, losses, metrics, ..."
    )
    listing.add_argument(
        "kind", nargs="?", metavar="KIND", help="such as layers or losses; all kinds if left out"
    )

    add("schema", commands.schema, "Print the JSON Schema of the files, for editors.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
