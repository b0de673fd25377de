"""`--set path=value`: one value of a document replaced, its path as error messages and summaries write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from jlayers.config.derive import section_of
from jlayers.config.errors import ConfigError, Path, Problem, dotted
from jlayers.config.reader import Document, Place, find, read_value
from jlayers.config.signatures import KINDS, arguments, registry_of
from jlayers.core.spelling import close_names, nearest, snake_case

__all__ = ["override"]


def override(document: Document, assignments: Iterable[str], section: type) -> None:
    """Write each `path=value` into the document; a value is read as YAML.

    Args:
        document: is changed.
        assignments: such as `optimizer.adam.learning_rate=0.01` or `model.Sequential.0.Conv2D.filters=8`.
        section: the dataclass that describes the document.

    Raises:
        ConfigError: an assignment without `=`, a value that is no YAML, a path that leads nowhere.
    """
    problems: list[Problem] = []
    for assignment in assignments:
        try:
            _Override(document, assignment, section).write()
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)


class _Override:
    def __init__(self, document: Document, assignment: str, section: type):
        self.document, self.section = document, section
        self.source = f"--set {assignment}"
        target, equals, text = assignment.partition("=")
        self.parts = target.strip().split(".")
        if not equals or not all(self.parts):
            raise ConfigError([Problem("expected path=value, such as training.epochs=3", source=self.source)])
        self.value = read_value(text, self.source)

    def write(self) -> None:
        """Walk down to the last part but one, then put the value there."""
        holder: list[Any] = [self.document.data]
        place: tuple[Any, Any] = (holder, 0)  # where the node hangs
        path: Path = ()
        for i, part in enumerate(self.parts):
            node = self._node_to_hold(place, path, part)
            last = i == len(self.parts) - 1
            key: Any = find(node, part)
            if key is None and (first := self._left_out(node, path, part)) is not None:
                path, place, node = (*path, first), (node, first), node[first]
                key = find(node, part)
            if key is None and isinstance(node, dict) and (last or self._may_begin(path, part)):
                key = part
                node[key] = None
            if key is None:
                self._fail(f"there is no {part!r} here: {nearest(part, self._valid(node, part))}", path)
            path = (*path, key)
            place = (node, key)
        place[0][place[1]] = self.value
        self.document.data = holder[0]
        places = self.document.places
        for old in [p for p in places if p[: len(path)] == path]:
            del places[old]
        places[path] = Place(0, 0, self.source, self.document.base)

    def _node_to_hold(self, place: tuple[Any, Any], path: Path, part: str) -> Any:
        """The node as a dict or list that can hold `part`: short forms are written out."""
        parent, key = place
        node = parent[key]
        if node is None:
            parent[key] = node = {}
        elif isinstance(node, str) and snake_case(node) == snake_case(part):
            parent[key] = node = {node: {}}
        if isinstance(node, dict) or (isinstance(node, list) and part.isdecimal()):
            return node
        first = _first_argument(str(path[-1]), part) if path else None
        if first is None:
            if isinstance(node, str) and close_names(part, [node]):
                self._fail(f"there is no {part!r} here: {nearest(part, [node])}", path)
            self._fail(f"there is nothing below {node!r} that could be set", path)
        parent[key] = {first: node}
        self._move_places(path, first)
        return parent[key]

    def _left_out(self, node: Any, path: Path, part: str) -> str | None:
        """The name of a first argument that is written out at `path` and holds `part`: a path may skip it."""
        for kind in KINDS if isinstance(node, dict) and path else ():
            registry = registry_of(kind)
            if registry is not None and str(path[-1]) in registry:
                first = next(iter(arguments(registry[str(path[-1])])), None)
                if first in node and find(node[first], part) is not None:
                    return first
        return None

    def _valid(self, node: Any, part: str) -> list[str]:
        """The names that could stand in place of `part`; numbers, where it is a number of a list."""
        lists = (
            [value for value in node.values() if isinstance(value, list)]
            if isinstance(node, dict)
            else [node]
        )
        if lists and (part.isdecimal() or isinstance(node, list)):
            return [str(k) for k in range(len(lists[0]))]
        return list(node)

    def _may_begin(self, path: Path, part: str) -> bool:
        """True if the document may have a section `part` at `path`, even if it is absent so far."""
        section: Any = self.section
        for name in (*path, part):
            known = arguments(section) if section is not None else {}
            if str(name) not in known:
                return False
            section = section_of(known[str(name)].hint)
        return section is not None

    def _move_places(self, path: Path, first: str) -> None:
        places = self.document.places
        for old in [p for p in places if len(p) > len(path) and p[: len(path)] == path]:
            places[*path, first, *old[len(path) :]] = places.pop(old)

    def _fail(self, message: str, path: Path) -> NoReturn:
        place = f"{dotted(path)}: " if path else ""
        raise ConfigError([Problem(place + message, source=self.source)])


def _first_argument(name: str, argument: str) -> str | None:
    """The first argument of a constructor called `name` that takes `argument`."""
    for kind in KINDS:
        registry = registry_of(kind)
        if registry is not None and name in registry:
            known = arguments(registry[name])
            if argument in known:
                return next(iter(known))
    return None
