"""The results of each epoch and the time that it took, one line of JSON for each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.runs.files import METRICS, TIMES, Files, finite
from jlayers.saving.files import damaged, naming, write_atomically

__all__ = ["SEEDS", "Epochs"]

SEEDS = "seeds"  # among the results of an epoch, those of each seed


class Epochs(Files):
    """The epochs of a run: `metrics.jsonl` and `times.jsonl`."""

    def log(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Add the results of one epoch; they are on disk when this returns."""
        self._add_line(METRICS, {"epoch": epoch, **finite(logs)})

    def log_times(self, epoch: int, times: Mapping[str, float]) -> None:
        """Add how long an epoch took; apart from the results, which are equal on every machine."""
        self._add_line(TIMES, {"epoch": epoch, **times})

    def _add_line(self, name: str, entries: Mapping[str, Any]) -> None:
        path = self.path / name
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entries) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cut(self, epochs: int) -> None:
        """Leave the results of the first epochs only: a resumed run writes the others anew."""
        for name in (METRICS, TIMES):
            path = self.path / name
            lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
            if len(lines) > epochs:
                write_atomically(path, b"".join(lines[:epochs]))

    def history(self) -> dict[str, list[float]]:
        """The results of all epochs, a list for each.

        A last line that was cut off, by a full disk or a power failure, is left out.

        Raises:
            ValueError: another line is damaged.
        """
        return self._lists(METRICS)

    def times(self) -> dict[str, list[float]]:
        """By epoch the `seconds` it took with its validation, those of `training`, those that were `waited`
        for data, and the `samples` that were seen. Empty for a run of an older version.

        Raises:
            ValueError: as `history` does.
        """
        return self._lists(TIMES)

    def _lists(self, name: str) -> dict[str, list[float]]:
        history: dict[str, list[float]] = {}
        path = self.path / name
        lines = path.read_bytes().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                logs = json.loads(line)
                values = {name: _number(value) for name, value in logs.items() if name != SEEDS}
            except (ValueError, TypeError, RecursionError) as error:
                if number == len(lines):
                    break
                raise damaged(path, f"line {number}: {error}") from None
            for name in values:
                if name != "epoch":
                    history.setdefault(name, []).append(values[name])
        return history

    def seeds_history(self) -> dict[str, np.ndarray]:
        """The history of several seeds: by name an array `(epochs, seeds)`, NaN after the end of a seed."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines() if path.is_file() else []
        epochs = len(next(iter(self.history().values()), []))
        found: dict[str, list[list[float]]] = {}
        for line in lines[:epochs]:
            for name, values in json.loads(line).get(SEEDS, {}).items():
                found.setdefault(name, []).append(list(map(_number, values)))
        return {name: np.array(rows) for name, rows in found.items()}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
