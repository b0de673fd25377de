"""The configuration of a sweep as its folder keeps it: one file with variables, and where paths start."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from jlayers.config.reader import Document, read_text
from jlayers.config.writer import to_yaml

__all__ = ["document_of", "folders_of", "text_of"]


def text_of(document: Document) -> str:
    """The document as YAML. Variables stay, so that a sweep can try values of them."""
    return to_yaml(document.data, escape=False)


def folders_of(document: Document) -> dict[str, Any]:
    """The folder that relative paths start from, and other ones by place, of files under `defaults`."""
    others = [
        [list(path), str(place.folder)]
        for path, place in document.places.items()
        if place.folder != document.base
    ]
    return {"base": str(document.base), "folders": others}


def document_of(text: str, facts: Mapping[str, Any], source: str) -> Document:
    """The document that `text_of` and `folders_of` have described."""
    document = read_text(text, source, pathlib.Path(facts.get("base", ".")))
    for path, folder in facts.get("folders", []):
        place = document.places.get(tuple(path))
        if place is not None:
            document.places[tuple(path)] = place._replace(folder=pathlib.Path(folder))
    return document
