"""A text file to which a callback adds lines. A resumed run cuts it back and continues it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jlayers.core.errors import refused
from jlayers.train.callbacks._places import inside
from jlayers.train.callbacks.base import Callback, Run
from jlayers.train.state import TrainState

__all__ = ["LogFile"]


class LogFile(Callback):
    """The common part of callbacks that write one file.

    Args:
        filename: name of the file; the folders above it are made.
        append: add to a file that exists already, instead of writing a new one.
    """

    def __init__(self, filename: str, append: bool):
        if not filename or "\0" in filename:
            raise refused(ValueError, "expected the name of a file", filename=filename)
        self.filename, self.append = filename, append
        self.path = pathlib.Path(filename)
        self._file: Any = None
        self._size: int | None = None  # of the file where a run continues; None for a new run

    def place(self, folder: str | os.PathLike[str]) -> None:
        self.path = inside(folder, filename=self.filename)

    def check(self, run: Run) -> None:
        if self.path.is_dir():
            raise refused(
                ValueError, "expected the name of a file, which is a folder", filename=self.filename
            )

    def on_fit_begin(self, run: Run) -> None:
        self._close()
        self._size = None
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, line: str) -> None:
        """Add a line; it is with the operating system when this returns."""
        self.opened().write(line + "\n")
        self._file.flush()

    def opened(self) -> Any:
        """The file, opened when it is first needed: by then a resumed run has restored its place."""
        if self._file is None:
            if self._size is not None and self.path.exists():
                os.truncate(self.path, min(self._size, self.path.stat().st_size))
            goes_on = self.append or self._size is not None
            self._file = self.path.open("a" if goes_on else "w", encoding="utf-8", newline="")
            self._size = None
        return self._file

    def on_fit_end(self, state: TrainState) -> TrainState | None:
        self._close()
        return None

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def state(self) -> dict[str, Any]:
        return {"size": self.opened().tell()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._size = state["size"]
