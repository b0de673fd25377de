"""`defaults: [base.yaml]`: a file laid over others, which say what it leaves out.

Sections, such as `training`, are merged key by key. Everything else is one value, and replaces the one below:
lists, and what has a name, such as a layer, a loss or a dataset.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union

from jlayers.config.derive import Record
from jlayers.config.errors import ConfigError, Path
from jlayers.config.reader import MAX_BYTES, Document, read_file
from jlayers.config.signatures import arguments
from jlayers.config.variables import VARIABLES
from jlayers.core.registry import Kind
from jlayers.core.spelling import nearest

__all__ = ["DEFAULTS", "lay_over_defaults"]

DEFAULTS = "defaults"
MAX_FILES = 64


def lay_over_defaults(document: Document, section: type) -> None:
    """Put what the files say that the document names under `defaults` below what it says itself.

    Args:
        document: is changed. Each file is relative to the folder of the one that names it. Later ones are
            laid over earlier ones, and the document over all of them.
        section: the dataclass that describes the document; it tells which mappings are sections.

    Raises:
        ConfigError: no list of files, a file that is missing or no YAML, one that leads back to itself, or
            too many; with the line that names the file.
    """
    if isinstance(document.data, dict) and DEFAULTS in document.data:
        _Files(section).resolve(document, [_real(document.base / pathlib.Path(document.source).name)])


class _Files:
    def __init__(self, section: type):
        known = arguments(section)
        self.hints = {VARIABLES: dict[str, Any], **{name: known[name].hint for name in known}}
        self.read: dict[str, Document] = {}
        self.count = self.bytes = 0

    def resolve(self, document: Document, chain: list[str]) -> None:
        """Lay a document over its own defaults; `chain` holds the files that led to it, itself last."""
        names = document.data.get(DEFAULTS, [])
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            self._fail(document, (DEFAULTS,), f"expected a list of files, received {DEFAULTS}={names!r}")
        below = Document({}, {}, document.source, document.base)
        for i, name in enumerate(names):
            self._lay(self._document_named(document, (DEFAULTS, i), name, chain), below)
        self._lay(document, below)
        below.data.pop(DEFAULTS, None)
        document.data, document.places = below.data, below.places

    def _document_named(self, document: Document, path: Path, name: str, chain: list[str]) -> Document:
        """The document that a file names, laid over its own defaults."""
        if "${" in name:
            self._fail(document, path, f"a file is named without variables, received {name!r}")
        file = pathlib.Path(os.path.join(document.base, os.path.expanduser(name)))
        real = _real(file)
        if real in chain:
            shown = " -> ".join(os.path.basename(f) for f in [*chain[chain.index(real) :], real])
            self._fail(document, path, f"{name} leads back to itself: {shown}")
        self.count += 1
        if self.count > MAX_FILES:
            self._fail(document, path, f"expected at most {MAX_FILES} files in all")
        if real not in self.read:
            if not file.is_file():
                there = {f.name for f in file.parent.glob("*.y*ml")} - {os.path.basename(chain[-1])}
                near = nearest(file.name, there) if there else f"there is none in {file.parent}"
                self._fail(document, path, f"there is no file {name}: {near}")
            self.bytes += file.stat().st_size
            if self.bytes > MAX_BYTES:
                self._fail(document, path, f"expected at most {MAX_BYTES:,} bytes in all files together")
            self.read[real] = read_file(file, os.path.normpath(os.path.join(document.source, "..", name)))
        found = dataclasses.replace(self.read[real])
        if found.data is None:
            found.data = {}
        if not isinstance(found.data, dict):
            self._fail(found, (), "expected a mapping of sections")
        self.resolve(found, [*chain, real])
        return found

    def _lay(self, over: Document, below: Document) -> None:
        """Lay one document over another, which is changed."""
        replaced: set[Path] = set()
        below.data = _merged(below.data, over.data, (), self.hints.get, replaced)
        if replaced:
            kept = {p: place for p, place in below.places.items() if not _within(p, replaced)}
            below.places = kept
        below.places = {**below.places, **over.places}

    def _fail(self, document: Document, path: Path, message: str) -> typing.NoReturn:
        raise ConfigError([document.problem(message, path)])


def _real(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(path)


def _within(path: Path, places: set[Path]) -> bool:
    return any(path[:end] in places for end in range(1, len(path) + 1))


Parts = Callable[[str], Any]  # from a key of a section to the hint of its value


def _merged(below: Any, over: Any, path: Path, parts: Parts | None, replaced: set[Path]) -> Any:
    """The value of `over`, or of both; the paths whose lower value is gone are added to `replaced`."""
    if parts is None or not isinstance(below, dict) or not isinstance(over, dict):
        replaced.add(path)
        return over
    merged = dict(below)
    for key, value in over.items():
        place = (*path, key)
        merged[key] = (
            _merged(below[key], value, place, _parts(parts(key)), replaced) if key in below else value
        )
    return merged


def _parts(hint: Any) -> Parts | None:
    """The hints of the parts of a section by their keys; None for what is one value."""
    found: list[Parts] = []
    for member in _members(hint):
        if isinstance(member, Kind):
            return None
        make = member.make if isinstance(member, Record) else member
        if isinstance(member, Record) or dataclasses.is_dataclass(make):
            known = arguments(typing.cast(Any, make))
            found.append({name: known[name].hint for name in known}.get)
        elif typing.get_origin(member) in (dict, Mapping):
            value = typing.get_args(member)[1]
            found.append(lambda key, value=value: value)
    return found[0] if found else None


def _members(hint: Any) -> list[Any]:
    """The members of a union, each as its mark if it has one; else the hint as the only one."""
    hint = getattr(hint, "__value__", hint)  # a `type X = ...` statement
    if typing.get_origin(hint) in (Union, types.UnionType):
        return [part for member in typing.get_args(hint) for part in _members(member)]
    if typing.get_origin(hint) is Annotated:
        marks = [mark for mark in hint.__metadata__ if isinstance(mark, (Kind, Record))]
        return marks[:1] or _members(typing.get_args(hint)[0])
    return [hint]
