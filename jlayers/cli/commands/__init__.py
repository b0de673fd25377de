"""The commands, one file each.

A file's name is the name of the command, and the first line of its docstring is the help. `main(arguments)`
runs the command and returns the exit code (None for 0); `add_arguments(parser)` is there if it takes any.
Results go to standard output, remarks to standard error. What is slow to import is imported inside `main`.
"""

import importlib
import pkgutil
from types import ModuleType

__all__ = ["commands"]


def commands() -> dict[str, ModuleType]:
    """Each command's module by its name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
