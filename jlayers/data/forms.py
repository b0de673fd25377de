"""Rules for turning the files of a folder into rows, as plain data: a run reads new files alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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


def rows_from(paths: Sequence[FilePath], form: Any) -> FileRows:
    """Files, and the files in folders in the order of their paths, as rows.

    The names of the rows are relative to the folder if there is only one path, else they are whole.

    Raises:
        ValueError: a folder without such files.
        FileNotFoundError: no such file.
    """
    found = [_files(Path(path), form) for path in paths]
    if len(found) == 1:
        return _KINDS[_kind(form)][1](found[0], form)
    names = tuple((files.root / name).as_posix() for files in found for name in files.names)
    sizes = tuple(size for files in found for size in files.sizes)
    return _KINDS[_kind(form)][1](Files(Path(), names, sizes), form)


def _files(path: Path, form: Any) -> Files:
    if not path.is_dir():
        return Files(path.parent, (path.name,), (path.stat().st_size,))
    files = files_in(path, suffixes_of(form))
    if not files.names:
        raise ValueError(f"{path}: expected files that end in {', '.join(suffixes_of(form))}, received none")
    return files
