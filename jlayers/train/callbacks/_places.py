"""The places where callbacks write: any path in Python, only inside one folder in configurations."""

from __future__ import annotations

import importlib
import os
import pathlib
from typing import Any

from jlayers.core.errors import refused

__all__ = ["inside", "required"]


def inside(folder: str | os.PathLike[str], /, **named: str) -> pathlib.Path:
    """The path of a file in the folder.

    Args:
        folder: that a file of a configuration must not leave.
        **named: one argument by its name: the relative path.

    Raises:
        ValueError: an absolute path, or one that leaves the folder.

    >>> inside("logs", filename="../weights")
    Traceback (most recent call last):
    ValueError: expected a relative path inside of the run's folder, received filename='../weights'
    """
    ((_, path),) = named.items()
    parts = pathlib.PurePath(path).parts
    if not parts or "\0" in path or ".." in parts or pathlib.PurePath(path).anchor or parts[0] == "~":
        raise refused(ValueError, "expected a relative path inside of the run's folder", **named)
    return pathlib.Path(folder) / path


def required(module: str, extra: str, name: str) -> Any:
    """The module of an extra.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{name} needs {error.name or module}: pip install 'jlayers[{extra}]'") from None
