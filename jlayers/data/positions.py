"""The position of an iterator as plain data, for sources that can tell it, such as pipelines of Grain."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["iterator_from", "position"]

_BYTES = "$bytes"


def position(iterator: Any) -> Any:
    """The position of the iterator, in a form that JSON holds; None if it cannot be told.

    It is asked for by `iterator.get_state()`, as Grain has it. The `state_dict` of other libraries is left
    alone: that of a Hugging Face `IterableDataset` forgets the buffer that it shuffles in, so that other
    batches would follow.
    """
    if not (hasattr(iterator, "get_state") and hasattr(iterator, "set_state")):
        return None
    try:
        return json.loads(json.dumps(_plain(iterator.get_state())))
    except (TypeError, ValueError):  # arrays or objects: an iterator that must be run through again
        return None


def iterator_from(source: Any, where: Any) -> Iterator[Any]:
    """An iterator over what comes after a position."""
    iterator: Any = iter(source)
    iterator.set_state(_from_plain(where))
    return iterator


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("the names in JSON are texts")
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        if list(value) == [_BYTES]:
            return base64.b64decode(value[_BYTES])
        return {name: _from_plain(part) for name, part in value.items()}
    return [_from_plain(part) for part in value] if isinstance(value, list) else value
