"""The ledger of a sweep: a line for each trial that has ended, in the order of their numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

from jlayers.experiments.sweep.trial import Trial
from jlayers.saving.files import damaged, naming, write_atomically

__all__ = ["LEDGER", "add_to_ledger", "cut_ledger", "read_ledger"]

LEDGER = "trials.jsonl"


def read_ledger(path: str | os.PathLike[str], count: int | None = None) -> list[Trial]:
    """The trials that have ended.

    A last line that was cut off by a power failure is left out.

    Args:
        path: path of the file; without one, none has ended.
        count: the number of first trials that are asked for; all if not given.

    Raises:
        ValueError: another line is damaged, or there are fewer trials than are asked for.
    """
    path = pathlib.Path(path)
    found: list[Trial] = []
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines[:count]):
        try:
            found.append(Trial(**json.loads(line)))
            if found[-1].number != number:
                raise ValueError(f"expected trial {number}")
        except (ValueError, TypeError, RecursionError) as error:
            if number == len(lines) - 1:
                break
            raise damaged(path, f"line {number + 1}: {error}") from None
    if len(found) < (count or 0):
        raise ValueError(
            f"expected the results of the first {count} trials of the sweep in {path}, received "
            f"{len(found)}: a trial that a pruner of Optuna's may end needs the ledger of its sweep at the "
            f"place where the sweep has kept it"
        )
    return found


def cut_ledger(path: str | os.PathLike[str], trials: Sequence[Trial]) -> None:
    """Leave only these lines in the ledger."""
    content, path = "".join(map(_line, trials)).encode(), pathlib.Path(path)
    if (path.read_bytes() if path.is_file() else b"") != content:
        write_atomically(path, content)


def add_to_ledger(path: str | os.PathLike[str], trial: Trial) -> None:
    """Add the line of a trial; it is on disk when this returns."""
    path = pathlib.Path(path)
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(trial))
        file.flush()
        os.fsync(file.fileno())


def _line(trial: Trial) -> str:
    return json.dumps(dataclasses.asdict(trial)) + "\n"
