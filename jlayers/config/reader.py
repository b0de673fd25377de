"""YAML as plain data with the line of every key: no tags, no objects, no doubled keys, and capped in size.

YAML 1.2: `yes`, `on` and `no` are text, `1e-3` is a number. An alias (`*name`) is a copy of what its anchor
(`&name`) marks.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from jlayers.config.errors import ConfigError, Path, Problem
from jlayers.core.spelling import snake_case

__all__ = ["Document", "find", "read_file", "read_text", "read_value"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 50_000

_TAG = "tag:yaml.org,2002:"
_MEANT = {"null": "null", "bool": "true or false", "int": "a whole number", "float": "a number"}
_SCALARS = {"null", "bool", "int", "float", "str", "timestamp"}


@dataclasses.dataclass
class Document:
    """Plain data and where each part of it was written.

    Attributes:
        data: dicts with text keys, lists, text, numbers, bools and None.
        lines: per path the line and column, counted from 1.
        source: the file's name.
        base: the folder that relative paths start from.
        overrides: per path the `--set` that wrote there.
    """

    data: Any
    lines: dict[Path, tuple[int, int]]
    source: str
    base: pathlib.Path
    overrides: dict[Path, str] = dataclasses.field(default_factory=dict)

    def problem(self, message: str, path: Path) -> Problem:
        """A problem at `path`; short forms in the file, which leave out parts of the path, are found, too."""
        written = self.written(path)
        for end in range(len(written), -1, -1):
            if written[:end] in self.overrides:
                return Problem(message, path, 0, 0, self.overrides[written[:end]])
            if written[:end] in self.lines:
                return Problem(message, path, *self.lines[written[:end]], self.source)
        return Problem(message, path, source=self.source)

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


def read_file(path: str | os.PathLike[str]) -> Document:
    """The document in a YAML file.

    Raises:
        ConfigError: with file, line and column: no such file, not YAML, a doubled key, a tag, or too large.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", source=str(path))]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError([Problem(f"expected at most {MAX_BYTES:,} bytes", source=str(path))])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError([Problem("expected text in UTF-8", line=line, source=str(path))]) from None
    return read_text(text, str(path), path.absolute().parent)


def read_text(text: str, source: str = "<text>", base: pathlib.Path | None = None) -> Document:
    """The document in a text; see `read_file`."""
    lines: dict[Path, tuple[int, int]] = {}
    problems: list[Problem] = []
    try:
        root = _yaml().compose(text)
        data = _Builder(source, lines, problems).build(root, (), 0) if root is not None else None
    except _TooLarge as error:
        message, line, column = error.args
        raise ConfigError([Problem(message, (), line, column, source)]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = f"not YAML: {error.problem or error.context}"
        raise ConfigError([Problem(message, (), line, column, source)]) from None
    except YAMLError as error:
        raise ConfigError([Problem(f"not YAML: {error}".splitlines()[0], source=source)]) from None
    if problems:
        raise ConfigError(problems)
    return Document(data, lines, source, base or pathlib.Path.cwd())


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
    pass


class _Builder:
    """Plain data from YAML nodes. Faults are collected, and the rest is still read."""

    def __init__(self, source: str, lines: dict[Path, tuple[int, int]], problems: list[Problem]):
        self.source, self.lines, self.problems = source, lines, problems
        self.count = 0

    def build(self, node: Node, path: Path, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            place = self.lines.get(path[:1], _place(node))
            message = "its aliases expand to too much, or without end"
            raise ConfigError([Problem(message, path[:1], *place, self.source)])
        self.lines.setdefault(path, _place(node))
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
                line = self.lines[(*path, key)][0]
                self.fail(
                    f"this key stands here for the second time, first on line {line}", (*path, key), key_node
                )
                continue
            self.lines[(*path, key)] = _place(key_node)
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
        self.problems.append(self.problem(message, path, node))

    def problem(self, message: str, path: Path, node: Node) -> Problem:
        return Problem(message, path, *_place(node), self.source)


@functools.cache
def _resolver() -> Any:
    return _yaml().resolver


@functools.cache
def _constructor() -> Any:
    return _yaml().constructor


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
