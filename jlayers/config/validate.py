"""From a document to calls: pydantic finds what is wrong, and every finding gets its line and its text."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic_core import ErrorDetails, ValidationError

from jlayers.config.derive import Entry, derive
from jlayers.config.errors import ConfigError, Path, Problem
from jlayers.config.reader import Document
from jlayers.config.types import FileName, adapter
from jlayers.core.spelling import nearest
from jlayers.optimizers import keras_word, registry

__all__ = ["validate"]


def validate(document: Document, section: type) -> Entry:
    """The call that makes a `section` (a dataclass) out of a document.

    Raises:
        ConfigError: all that is wrong with the document, by line.
    """
    data = {} if document.data is None else document.data
    try:
        return _absolute(adapter(derive(section).type).validate_python(data), (), document)
    except ValidationError as error:
        raise ConfigError(_problem(detail, document) for detail in error.errors(include_url=False)) from None


def _absolute(value: Any, path: Path, document: Document) -> Any:
    """The value with every path in it made absolute."""
    if isinstance(value, FileName):
        return value.below(document.folder(path))
    if isinstance(value, Entry):
        below = (*path, value.name) if value.kind else path
        return dataclasses.replace(value, arguments=_absolute(value.arguments, below, document))
    if isinstance(value, dict):
        return {key: _absolute(part, (*path, key), document) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_absolute(part, (*path, i), document) for i, part in enumerate(value))
    return value


def _problem(detail: ErrorDetails, document: Document) -> Problem:
    path: Path = detail["loc"]
    context = detail.get("ctx", {})
    key = path[-1] if path else "document"
    shown = _shown(detail["input"])
    received = f"received {shown}" if isinstance(key, int) else f"received {key}={shown}"
    match detail["type"]:
        case "missing":
            owner = f"{path[-2]} needs" if len(path) > 1 else "the file needs"
            return document.problem(f"{owner} {key!r}, which is missing", path[:-1])
        case "unknown":
            owner = path[-2] if len(path) > 1 else "the file"
            word = keras_word(str(owner), context["names"], str(key), detail["input"])
            near = f"write {word}" if word and owner in registry else nearest(key, context["names"])
            return document.problem(f"{owner} takes no {key!r} ({received}): {near}", path)
        case "expected":
            return document.problem(f"expected {context['expected']}, {received}", path)
        case "list_type" | "tuple_type":
            return document.problem(f"expected a list, {received}", path)
        case "dict_type":
            return document.problem(f"expected a mapping, {received}", path)
        case "name" | "several":
            return document.problem(detail["msg"], path)
    return document.problem(f"{detail['msg']}, {received}", path)


def _shown(value: Any, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 4] + " ..."
