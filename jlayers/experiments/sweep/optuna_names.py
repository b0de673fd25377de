"""Optuna's samplers and pruners by name, as `optuna.TPESampler`, with arguments read off their signatures."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jlayers.config.sweep import PrunerLike
from jlayers.core.registry import Registry
from jlayers.experiments.sweep.optuna import require_optuna

__all__ = ["enter"]

_PLAIN = {"bool", "int", "float", "str", "None"}
_SET_BY_THE_SWEEP = "seed"
Make = Callable[[str, Mapping[str, Any]], Any]


def enter(registry: Registry, names: tuple[str, ...], make: Make) -> None:
    """Enter classes of Optuna's into a registry.

    Args:
        registry: registry of samplers or pruners.
        names: names of the classes.
        make: makes the object from the name of a class and its arguments.

    Raises:
        ImportError: Optuna is not installed.
    """
    require_optuna()
    for name in names:
        registry.register(f"optuna.{name}", _constructor(registry, name, make))


@functools.cache
def _constructor(registry: Registry, name: str, make: Make) -> Callable[..., Any]:
    optuna = require_optuna()
    cls = getattr(optuna.samplers, name, None) or getattr(optuna.pruners, name)

    def constructor(**options: Any) -> Any:
        return make(name, options)

    vars(constructor)["__signature__"] = inspect.Signature(_arguments(cls))
    constructor.__name__ = constructor.__qualname__ = f"optuna.{name}"
    constructor.__module__, constructor.__doc__ = cls.__module__, cls.__doc__
    return registry.factory()(constructor)


def _arguments(cls: type) -> Sequence[inspect.Parameter]:
    """Those that a file can hold: plain values, and another pruner by its name."""
    found = []
    for given in inspect.signature(cls).parameters.values():
        hint = getattr(given.annotation, "__name__", None) or str(given.annotation)
        parts = set(re.findall(r"\w+", hint))
        if "BasePruner" in parts:
            found.append(given.replace(annotation=PrunerLike | None))
        elif parts <= _PLAIN and given.name != _SET_BY_THE_SWEEP:
            found.append(given)
    return [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in found]
