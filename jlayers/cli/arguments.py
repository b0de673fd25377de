"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_compile_cache", "add_file", "add_run", "add_use"]


def add_file(parser: argparse.ArgumentParser, text: str = "the YAML file", **options: Any) -> None:
    """FILE and `--set`."""
    parser.add_argument("file", metavar="FILE", help=text, **options)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="replace one value, such as optimizer.adam.learning_rate=0.01 (may be repeated)",
    )


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
