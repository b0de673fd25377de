"""Rules for turning the files of a folder into rows, as plain data: a run reads new files alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jlayers.data import images, texts
from jlayers.data.dataset import FilePath
from jlayers.data.folders import FileRows, Files, files_in

__all__ = ["form_of_data", "form_to_data", "rows_from", "suffixes_of"]

_KINDS: dict[str, Any] = {"images": (images.ImageForm, images.ImageFiles, images.SUFFIXES)}
_KINDS["texts"] = (texts.TextForm, texts.TextFiles, texts.SUFFIXES)


def _kind(form: Any) -> str:
    return next(kind for kind, (make, *_) in _KINDS.items() if isinstance(form, make))


def form_to_data(form: Any) -> dict[str, Any]:
    """A form as plain data.

    >>> form_to_data(texts.TextForm())
    {'kind': 'texts', 'max_length': None, 'encoding': 'utf-8'}
    """
    return {"kind": _kind(form), **dataclasses.asdict(form)}


def form_of_data(data: Mapping[str, Any]) -> Any:
    """The form that `form_to_data` wrote."""
    return _KINDS[data["kind"]][0](**{name: value for name, value in data.items() if name != "kind"})


def suffixes_of(form: Any) -> tuple[str, ...]:
    """The suffixes of the files that a form is for."""
    return _KINDS[_kind(form)][2]


def rows_from(path: FilePath, form: Any) -> FileRows:
    """A file, or the files in a folder in the order of their paths, as rows.

    Raises:
        ValueError: a folder without such files.
    """
    path = Path(path)
    if path.is_dir():
        files = files_in(path, suffixes_of(form))
    else:
        files = Files(path.parent, (path.name,), (path.stat().st_size,))
    if not files.names:
        raise ValueError(f"{path}: expected files {', '.join(suffixes_of(form))}, received none")
    return _KINDS[_kind(form)][1](files, form)
