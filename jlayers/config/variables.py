"""Variables: `${name}` in a value stands for what the file says under `variables`, `${env:NAME}` for the
environment variable of that name.

A value that is only `${name}` becomes the variable's value, of whatever type; within a text the value is
written out. `$${` is the text `${`. Nothing is computed.
"""

from __future__ import annotations

import os
import re
from typing import Any

from jlayers.config.errors import ConfigError, Path, Problem
from jlayers.config.reader import MAX_BYTES, MAX_DEPTH, MAX_NODES, Document, Place
from jlayers.core.spelling import nearest

__all__ = ["VARIABLES", "escaped", "put_in_variables"]

VARIABLES = "variables"
_REFERENCE = re.compile(r"\$?\$\{([^{}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def escaped(text: str) -> str:
    """A text that reads as this one where variables are put in.

    >>> escaped("costs ${price}")
    'costs $${price}'
    """
    return text.replace("${", "$${")


def put_in_variables(document: Document) -> None:
    """Put values in the places of variables, and remove the section `variables`.

    Args:
        document: is changed. A value keeps the place at which it was written, as that of a variable.

    Raises:
        ConfigError: an unknown or unset variable, one that leads to itself, one with a list inside a text, or
            more values than a file may have; all that is wrong, by line.
    """
    if isinstance(document.data, dict):
        _Values(document).put_in()


class _Values:
    def __init__(self, document: Document):
        self.document = document
        self.variables: dict[str, Any] = {}
        self.places: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self.within: list[str] = []  # the variables whose values are being made
        self.used: set[str] = set()
        self.count = self.size = 0

    def put_in(self) -> None:
        document = self.document
        given = document.data.get(VARIABLES)
        if given is not None and not isinstance(given, dict):
            self._fail(f"expected a mapping of names to values, received {VARIABLES}={given!r}", (VARIABLES,))
        self.variables = given if isinstance(given, dict) else {}
        for name in self.variables:
            if not _NAME.fullmatch(name):
                self._fail(
                    f"expected a name of letters, digits, _ and -, received {name!r}", (VARIABLES, name)
                )
        rest = {key: value for key, value in document.data.items() if key != VARIABLES}
        made = self.made(rest, (), (), "")
        self._refuse_unused()
        if self.problems:
            raise ConfigError(dict.fromkeys(self.problems))
        document.data, document.places = made, self.places

    def made(self, value: Any, source: Path, target: Path, through: str) -> Any:
        """A value with its variables put in.

        Args:
            value: stands at `source` in the document.
            source: its path there; the path of a part of `variables` inside a variable's value.
            target: the path at which the value is put.
            through: how the outermost variable is written that stands for it, and where.
        """
        self.count += 1
        if self.count > MAX_NODES or len(target) > MAX_DEPTH:
            limit = f"{MAX_NODES:,} values" if self.count > MAX_NODES else f"{MAX_DEPTH} levels"
            raise ConfigError([self.document.problem(f"its variables make more than {limit}", source)])
        if source in self.document.places:
            place = self.document.places[source]
            self.places[target] = place._replace(through=through) if through else place
        if isinstance(value, dict):
            made = {}
            for key, part in value.items():
                name = key.replace("$${", "${")
                if key.count("${") > key.count("$${"):
                    self._fail(
                        "variables stand in values, not in keys; the text ${ is written $${", (*source, key)
                    )
                made[name] = self.made(part, (*source, key), (*target, name), through)
            return made
        if isinstance(value, list):
            return [self.made(v, (*source, i), (*target, i), through) for i, v in enumerate(value)]
        return self.text(value, source, target, through) if isinstance(value, str) else value

    def text(self, text: str, source: Path, target: Path, through: str) -> Any:
        """A text with its variables put in, or the value of the one variable that is all of it."""
        whole = _REFERENCE.fullmatch(text)
        if whole and not text.startswith("$$"):
            return self.value(whole, source, target, through)
        pieces: list[str] = []
        end = 0
        for found in _REFERENCE.finditer(text):
            pieces.append(text[end : found.start()])
            end = found.end()
            if found[0].startswith("$$"):
                pieces.append(found[0][1:])
                continue
            places, self.places = self.places, {}
            value = self.value(found, source, target, through)
            place, self.places = self.places.get(target), places
            if (
                not found.start() and place and target in places
            ):  # a path starts from where its beginning does
                places[target] = places[target]._replace(folder=place.folder)
            if isinstance(value, (dict, list)):
                kind = "list" if isinstance(value, list) else "mapping"
                self._fail(f"a {kind} cannot stand inside a text: {found[0]} in {text!r}", source)
            pieces.append(_as_yaml(value))
        self.size += sum(map(len, pieces))
        if self.size > MAX_BYTES:
            message = f"its variables make more than {MAX_BYTES:,} characters"
            raise ConfigError([self.document.problem(message, source)])
        return "".join([*pieces, text[end:]])

    def value(self, found: re.Match[str], source: Path, target: Path, through: str) -> Any:
        """The value of what is written as `${...}`; None after a problem."""
        name = found[1]
        if not found[2]:
            return self._fail(f"expected }} behind {found[0]!r}; the text ${{ is written $${{", source)
        if environment := _ENVIRONMENT.fullmatch(name):
            return self.environment(environment[1], environment[2], source)
        if not _NAME.fullmatch(name):
            expected = "${name}, ${env:NAME} or ${env:NAME:-value}"
            return self._fail(
                f"expected {expected}, received {found[0]!r}; the text ${{ is written $${{", source
            )
        self.used.add(name)
        if name not in self.variables:
            if self.variables:
                near = nearest(name, self.variables)
            else:
                near = f"give it a value under {VARIABLES}, or by --set {VARIABLES}.{name}=..."
            return self._fail(f"unknown variable ${{{name}}}: {near}", source)
        if name in self.within:
            shown = " -> ".join([*self.within[self.within.index(name) :], name])
            return self._fail(f"the variable leads back to itself: {shown}", source)
        if len(self.within) >= MAX_DEPTH:
            return self._fail(f"expected at most {MAX_DEPTH} variables in each other", source)
        self.within.append(name)
        here = through or f"{found[0]} at {self.document.place(source)}"
        value = self.made(self.variables[name], (VARIABLES, name), target, here)
        self.within.pop()
        return value

    def environment(self, name: str, default: str | None, source: Path) -> Any:
        """The value of an environment variable, always a text; the default if it is unset or empty."""
        value = os.environ.get(name) or default
        if value is None:
            return self._fail(
                f"the environment variable {name} is not set: set it, or name a value for when it is not, as "
                f"in ${{env:{name}:-value}}",
                source,
            )
        return value

    def _refuse_unused(self) -> None:
        """A variable that `--set` gives and nothing uses is a slip of the pen."""
        for name in self.variables:
            place = self.document.places.get((VARIABLES, name))
            if place is not None and not place.line and name not in self.used:
                near = nearest(name, self.used) if self.used else "the file uses no variables"
                self._fail(f"nothing uses ${{{name}}}: {near}", (VARIABLES, name))

    def _fail(self, message: str, path: Path) -> None:
        self.problems.append(self.document.problem(message, path))


def _as_yaml(value: Any) -> str:
    """A plain value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
