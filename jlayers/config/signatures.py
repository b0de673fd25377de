"""The arguments of a constructor, read off its signature and docstring. All checks of a file rest on them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from jlayers.core.registry import Registry

__all__ = [
    "KINDS",
    "Argument",
    "arguments",
    "documentation",
    "names_of",
    "precise",
    "registry_of",
    "shown",
]

# Where the registry of each kind is filled; a kind without a module is not (yet) part of the library.
KINDS = {
    "layer": "jlayers.layers",
    "activation": "jlayers.activations",
    "initializer": "jlayers.initializers",
    "regularizer": "jlayers.regularizers",
    "constraint": "jlayers.constraints",
    "loss": "jlayers.losses",
    "metric": "jlayers.metrics",
    "optimizer": "jlayers.optimizers",
    "schedule": "jlayers.optimizers",
    "policy": "jlayers.core.policy",
    "dataset": "jlayers.data",
    "preprocessor": "jlayers.preprocessing",
    "callback": "jlayers.train.callbacks",
    "sampler": "jlayers.experiments.sweep.samplers",
    "pruner": "jlayers.experiments.sweep.pruners",
}


def registry_of(kind: str) -> Registry | None:
    """The registry of a kind, its module imported, or None if the library has no such kind."""
    if kind in KINDS:
        importlib.import_module(KINDS[kind])
    return next((r for r in Registry.all() if r.kind == kind), None)


def names_of(registry: Registry) -> list[str]:
    """The names of a registry and of its groups; a group of a package that is not there is left out."""
    found = list(registry)
    for group in registry.groups:
        with contextlib.suppress(ImportError):
            found += registry.group(group)
    return found


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a constructor: its resolved type, its default (or `Argument.REQUIRED`), its text."""

    name: str
    hint: Any
    default: Any
    text: str

    REQUIRED = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is Argument.REQUIRED


# Hints that the constructor's own signature leaves open, by constructor and argument.
_PRECISE: dict[tuple[str, str], Any] = {}


def precise(name: str, argument: str, hint: Any) -> None:
    """Say more about an argument's type than its constructor's signature does."""
    _PRECISE[name, argument] = hint


@functools.lru_cache(maxsize=2048)
def arguments(constructor: Callable[..., Any]) -> Mapping[str, Argument]:
    """The arguments of a constructor by name; a type that cannot be resolved counts as any."""
    texts = _argument_texts(inspect.getdoc(constructor) or "")
    scope = _scope(constructor)
    return {
        p.name: Argument(
            p.name,
            _PRECISE.get((constructor.__name__, p.name)) or _resolve(p.annotation, scope),
            p.default,
            texts.get(p.name, ""),
        )
        for p in inspect.signature(constructor).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def _scope(constructor: Callable[..., Any]) -> dict[str, Any]:
    module = importlib.import_module(inspect.unwrap(constructor).__module__)
    return {**vars(typing), **vars(types), **vars(module)}


def _resolve(annotation: Any, scope: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, globalns=scope, localns=scope, include_extras=True)["value"]
    except (NameError, AttributeError, TypeError):  # a type that is imported only for type checkers
        return Any


def documentation(constructor: Callable[..., Any]) -> str:
    """The first paragraph of a constructor's docstring, on one line."""
    return " ".join((inspect.getdoc(constructor) or "").split("\n\n")[0].split())


def _argument_texts(doc: str) -> dict[str, str]:
    """The texts of the `Args:` section by argument."""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if section is None:
        return {}
    texts: dict[str, list[str]] = {}
    name = ""
    for line in inspect.cleandoc(section[1]).splitlines():
        if entry := re.match(r"\*{0,2}(\w+)(?: \([^)]*\))?: (.*)", line):
            name = entry[1]
            texts[name] = [entry[2]]
        elif name and line.startswith(" "):
            texts[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in texts.items()}


def shown(name: str, constructor: Callable[..., Any]) -> str:
    """A constructor as a call, with its defaults: `Dense(units, activation=None)`.

    >>> from jlayers.data import digits
    >>> shown("digits", digits)
    'digits(test_fraction=0.2, seed=0)'
    """
    known = [a for a in arguments(constructor).values() if a.name not in ("frozen", "precision")]
    texts = [a.name if a.required else f"{a.name}={_default(a.default)}" for a in known]
    return f"{name}({', '.join(texts)})"


def _default(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)
