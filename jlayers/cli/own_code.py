"""The Python files of the user's own that `--use` names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from jlayers.cli.terminal import remark

if TYPE_CHECKING:
    from jlayers.runs import Run

__all__ = ["use_code", "use_code_of_run"]


def use_code(arguments: argparse.Namespace) -> list[Any]:
    """Run the files that `--use` names."""
    from jlayers.runs.own_code import execute, read_own_code

    files = read_own_code(arguments.use)
    execute(files)
    return files


def use_code_of_run(arguments: argparse.Namespace, run: Run) -> list[Any]:
    """Run the files that `--use` names, if they are those that the run was trained with."""
    from jlayers.runs.own_code import check_own_code, execute, read_own_code

    files = read_own_code(arguments.use)
    for text in check_own_code(run.code, files, run.path, arguments.accept_changed_code):
        remark(text)
    execute(files)
    return files
