"""YAML as plain data with the line of every key: no tags, no objects, no duplicate keys, and limits on size.

YAML 1.2: `yes`, `on` and `no` are text, `1e-3` is a number. An alias (`*name`) is a copy of what its anchor
(`&name`) marks.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import pathlib
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from jlayers.config.errors import ConfigError, Path, Problem
from jlayers.core.spelling import snake_case

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "Document",
    "Place",
    "find",
    "read_file",
    "read_text",
    "read_value",
]

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 50_000

_TAG = "tag:yaml.org,2002:"
_MEANT = {"null": "null", "bool": "true or false", "int": "a whole number", "float": "a number"}
_SCALARS = {"null", "bool", "int", "float", "str", "timestamp"}


class Place(NamedTuple):
    """The place at which a value was written.

    Attributes:
        line: counted from 1; 0 for what is not a line of a file, such as a `--set`.
        column: counted from 1.
        source: the file's name, or the `--set` as it was given.
        folder: that a relative path starts from.
        through: the variable that stands for the value, and where; for messages.
    """

    line: int
    column: int
    source: str
    folder: pathlib.Path
    through: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclasses.dataclass
class Document:
    """Plain data and where each part of it was written.

    Attributes:
        data: dicts with text keys, lists, text, numbers, bools and None.
        places: where it was written, by path.
        source: the file's name.
        base: the folder of the file.
    """

    data: Any
    places: dict[Path, Place]
    source: str
    base: pathlib.Path

    def copy(self) -> Document:
        """A document that can be changed without changing this one."""
        return dataclasses.replace(self, data=copy.deepcopy(self.data), places=dict(self.places))

    def place(self, path: Path) -> Place:
        """The place of the value at `path`, or of what it is a part of."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place(0, 0, self.source, self.base)

    def problem(self, message: str, path: Path) -> Problem:
        """A problem at `path`; short forms in the file, which leave out parts of the path, are found, too."""
        place = self.place(self.written(path))
        if place.through:
            first, *rest = message.split("\n", 1)
            message = "\n".join([f"{first} (written as {place.through})", *rest])
        return Problem(message, path, place.line, place.column, place.source)

    def folder(self, path: Path) -> pathlib.Path:
        """The folder that a relative path starts from which stands at `path`."""
        return self.place(self.written(path)).folder

    def written(self, path: Path) -> Path:
        """The path as the file has it: without the parts that its short forms leave out."""
        found: list[str | int] = []
        node = self.data
        for part in path:
            key = find(node, part)
            if key is not None:
                node = node[key]
                found.append(key)
        return tuple(found)


def find(node: Any, part: str | int) -> Any:
    """The key or index that `part` of a path means in `node`, or None; names may be in snake case."""
    if isinstance(node, list):
        index = int(part) if isinstance(part, int) or part.isdecimal() else -1
        return index if 0 <= index < len(node) else None
    if not isinstance(node, dict):
        return None
    if part in node:
        return part
    return next((key for key in node if snake_case(key) == snake_case(str(part))), None)


def read_file(path: str | os.PathLike[str], shown: str | None = None) -> Document:
    """The document in a YAML file.

    Args:
        path: path of the file.
        shown: its name in messages; the path if not given.

    Raises:
        ConfigError: with file, line and column: no such file, not YAML, a doubled key, a tag, or too large.
    """
    path = pathlib.Path(path)
    shown = str(path) if shown is None else shown
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", source=shown)]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError([Problem(f"expected at most {MAX_BYTES:,} bytes", source=shown)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError([Problem("expected text in UTF-8", line=line, source=shown)]) from None
    return read_text(text, shown, path.absolute().parent)


def read_text(text: str, source: str = "<text>", base: pathlib.Path | None = None) -> Document:
    """The document in a text; see `read_file`."""
    document = Document(None, {}, source, base or pathlib.Path.cwd())
    problems: list[Problem] = []
    try:
        root = _yaml().compose(text)
        if root is not None:
            document.data = _Builder(document, problems).build(root, (), 0)
    except _TooLarge as error:
        raise ConfigError([Problem(str(error), (), error.line, error.column, source)]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = f"not YAML: {error.problem or error.context}"
        if mark and text[: mark.index].endswith("$"):
            message += '; between brackets and braces a variable stands in quotes, as in "${name}"'
        raise ConfigError([Problem(message, (), line, column, source)]) from None
    except YAMLError as error:
        raise ConfigError([Problem(f"not YAML: {error}".splitlines()[0], source=source)]) from None
    if problems:
        raise ConfigError(problems)
    return document


def read_value(text: str, source: str) -> Any:
    """One value as YAML writes it: `0.1`, `relu`, `[3, 3]`, `{adam: {learning_rate: 0.1}}`."""
    return read_text(text, source).data


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.composer.warn_double_anchors = False  # an anchor may be set anew
    return yaml


class _Composer(Composer):
    """Stops, before anything is built, at what is nested too deep or holds too much."""

    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH + 1 or self.nodes > MAX_NODES:
            limit = f"{MAX_DEPTH} levels" if self.depth > MAX_DEPTH + 1 else f"{MAX_NODES:,} values"
            mark = self.parser.peek_event().start_mark
            raise _TooLarge(f"expected at most {limit}", mark.line + 1, mark.column + 1)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _TooLarge(Exception):  # noqa: N818  becomes a ConfigError, which needs the file's name
    def __init__(self, text: str, line: int, column: int):
        super().__init__(text)
        self.line, self.column = line, column


class _Builder:
    """Plain data from YAML nodes. Faults are collected, and the rest is still read."""

    def __init__(self, document: Document, problems: list[Problem]):
        self.document, self.places, self.problems = document, document.places, problems
        self.count = 0

    def build(self, node: Node, path: Path, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            place = self.places.get(path[:1], self.place(node))
            message = "its aliases expand to too much, or without end"
            raise ConfigError([Problem(message, path[:1], place.line, place.column, place.source)])
        self.places.setdefault(path, self.place(node))
        tag = (node.tag or "").removeprefix(_TAG)
        if isinstance(node, MappingNode) and tag == "map":
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode) and tag == "seq":
            return [self.build(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        if isinstance(node, ScalarNode) and tag in _SCALARS:
            return self.scalar(node, tag, path)
        return self.fail(f"expected plain data without tags, received the tag {node.tag!r}", path, node)

    def mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == _TAG + "merge":
                self.fail("expected text as a key (merging with << is not supported)", path, key_node)
                continue
            key = key_node.value
            if key in built:
                line = self.places[*path, key].line
                self.fail(
                    f"this key stands here for the second time, first on line {line}", (*path, key), key_node
                )
                continue
            self.places[*path, key] = self.place(key_node)
            built[key] = self.build(value_node, (*path, key), depth + 1)
        return built

    def scalar(self, node: ScalarNode, tag: str, path: Path) -> Any:
        if tag in ("str", "timestamp"):
            return node.value
        meant = str(_resolver().resolve(ScalarNode, node.value, (True, False))).removeprefix(_TAG)
        if meant != tag and (meant, tag) != ("int", "float"):  # a tag that the value does not bear out
            return self.fail(f"expected {_MEANT[tag]}, received {node.value[:40]!r}", path, node)
        try:
            return _constructor().construct_object(node)
        except (ValueError, YAMLError):
            return self.fail(f"expected a number, received {node.value[:40]!r}", path, node)

    def fail(self, message: str, path: Path, node: Node) -> None:
        place = self.place(node)
        self.problems.append(Problem(message, path, place.line, place.column, place.source))

    def place(self, node: Node) -> Place:
        mark, document = node.start_mark, self.document
        return Place(mark.line + 1, mark.column + 1, document.source, document.base)


@functools.cache
def _resolver() -> Any:
    return _yaml().resolver


@functools.cache
def _constructor() -> Any:
    return _yaml().constructor
