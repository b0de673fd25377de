"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

__all__ = ["add_compile_cache", "add_file", "add_run", "add_set", "add_use", "spread"]


def add_file(parser: argparse.ArgumentParser, text: str = "the YAML file", **options: Any) -> None:
    """FILE and `--set`."""
    parser.add_argument("file", metavar="FILE", help=text, **options)
    add_set(parser, "replace values, such as optimizer.adam.learning_rate=0.01")


def add_set(parser: argparse.ArgumentParser, help: str) -> None:
    """`--set`; see `spread`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help=f"{help} (several may follow; may be repeated)",
    )


def spread(command_line: Sequence[str]) -> list[str]:
    """The command line with a `--set` before each value, so that one `--set` takes several.

    argparse's own way (`nargs="+"`) would also take the FILE that follows.

    >>> spread(["train", "--set", "seed=1", "training.epochs=2", "a.yaml"])
    ['train', '--set', 'seed=1', '--set', 'training.epochs=2', 'a.yaml']
    """
    made: list[str] = []
    among = False  # right after a value of --set
    for place, word in enumerate(command_line):
        if word == "--":
            return [*made, *command_line[place:]]
        value = bool(made) and made[-1] == "--set"
        if among and not value and "=" in word and not word.startswith("-") and not os.path.exists(word):
            made.append("--set")
            value = True
        made.append(word)
        among = value or word.startswith("--set=")
    return made


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN and `--accept-changed-code`."""
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--accept-changed-code",
        action="store_true",
        help="accept --use files that differ from those that the run was trained with",
    )


def add_use(parser: argparse.ArgumentParser) -> None:
    """`--use`, which every command takes."""
    parser.add_argument(
        "--use",
        action="append",
        default=[],
        metavar="CODE.py",
        help="run this Python file of yours first, so that the layers, losses, ... it registers can be "
        "used (may be repeated)",
    )


def add_compile_cache(parser: argparse.ArgumentParser) -> None:
    """`--compile-cache` and `--no-compile-cache`."""
    parser.add_argument(
        "--compile-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep compiled programs in your cache folder, so that the next start compiles nothing "
        "(JLAYERS_COMPILE_CACHE=0 turns it off, too)",
    )
