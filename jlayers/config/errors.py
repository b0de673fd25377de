"""Problems of a configuration, each with its file, line and path, all reported at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

__all__ = ["ConfigError", "Path", "Problem", "dotted"]

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """A path as `--set` takes it.

    >>> dotted(("model", "Sequential", 0, "Dense"))
    'model.Sequential.0.Dense'
    """
    return ".".join(map(str, path))


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: what was expected, what was received, what would fit.
        path: path of the key in question.
        line: in the file, counted from 1; 0 if none is known.
        column: counted from 1.
        source: the file's name, or the override as it was given.
    """

    message: str
    path: Path = ()
    line: int = 0
    column: int = 0
    source: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(part for part in (place, dotted(self.path), self.message) if part)


class ConfigError(ValueError):
    """A configuration that cannot be used; `problems` holds all that was found, in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = sorted(problems, key=lambda p: (p.line, p.column))
        super().__init__("\n".join(map(str, self.problems)))
