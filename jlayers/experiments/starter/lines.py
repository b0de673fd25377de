"""Lines of YAML with comments."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Call", "Commented", "Source", "flow", "indented"]

_PLAIN = re.compile(r"((\.{1,2})?/)*[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./()-]+)*")
_MEANT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # the last ones in YAML 1.1


@dataclasses.dataclass(frozen=True)
class Commented:
    """A value with a short text about it, and how it is written if not as it is."""

    value: Any
    text: str
    shown: Any = None


@dataclasses.dataclass(frozen=True)
class Call:
    """A dataset by its name, with its arguments in their order."""

    name: str
    arguments: Mapping[str, Commented]

    def values(self) -> dict[str, Any]:
        """The arguments as the dataset takes them."""
        return {name: argument.value for name, argument in self.arguments.items()}

    def lines(self) -> list[str]:
        written = {n: a.value if a.shown is None else a.shown for n, a in self.arguments.items()}
        lines: list[str] = []
        for name, argument in self.arguments.items():
            text = flow(written[name])
            if isinstance(written[name], list) and len(text) > 80:
                lines += [line(f"{name}:", argument.text), *indented(_on_several_lines(written[name]))]
            else:
                lines.append(line(f"{name}: {text}", argument.text))
        return [f"{self.name}:", *indented(lines)]


@dataclasses.dataclass(frozen=True)
class Source:
    """The facts that were found in some data.

    Attributes:
        seen: sentences about them, for people.
        data: the dataset.
        labels: whether the targets are classes.
        preprocess: lines of that section.
        layers: lines of the model's layers before those for the task, by the shape of the data.
    """

    seen: list[str]
    data: Call
    labels: bool
    preprocess: list[str]
    layers: list[str]


def line(text: str, comment: str = "") -> str:
    return f"{text} # {comment}" if comment else text


def indented(lines: Iterable[str], by: int = 2) -> list[str]:
    return [" " * by + text if text else text for text in lines]


def _on_several_lines(values: list[Any], width: int = 100) -> list[str]:
    """A list on several lines."""
    lines = ["["]
    for i, value in enumerate(values):
        text = flow(value) + (", " if i < len(values) - 1 else "]")
        if len(lines[-1]) + len(text) > width and lines[-1] != "[":
            lines.append(" ")
        lines[-1] += text
    return [text.rstrip() for text in lines]


def flow(value: Any) -> str:
    """A plain value on one line.

    >>> flow({"units": 3, "names": ["a b", "no", "1"], "rate": 1e-05, "bare": True})
    '{units: 3, names: [a b, "no", "1"], rate: 0.00001, bare: true}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        safe = _PLAIN.fullmatch(value) and value.lower() not in _MEANT
        return value if safe else json.dumps(value.replace("${", "$${"), ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0") if 0 < abs(value) < 1e-4 else repr(value)
    return str(value)
