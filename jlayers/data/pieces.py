"""Checksums of pieces of a dataset, by which two versions of it can be told apart: which part, which rows."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jlayers.data.dataset import Dataset, as_bytes
from jlayers.data.lazy import is_lazy

__all__ = ["changed_pieces", "pieces"]

PIECES = 64  # of each array


def pieces(data: Dataset) -> dict[str, dict[str, Any]]:
    """By the name of each array its rows and the checksums of up to 64 pieces of them.

    Data that are read as they are needed have the checksum of their fingerprint, as one piece.

    >>> found = pieces(Dataset("toy", (np.zeros((300, 2)), np.zeros(300))))
    >>> found["train x"]["rows"], len(found["train x"]["checksums"].split())
    (300, 64)
    """
    tree = {"train": dict(zip("xy", data.train, strict=True))}
    if data.test is not None:
        tree["held-out"] = dict(zip("xy", data.test, strict=True))
    return {
        " ".join(str(key.key) for key in path): {"rows": len(array), "checksums": " ".join(_checksums(array))}
        for path, array in jax.tree.leaves_with_path(tree)
    }


def _checksums(array: Any) -> list[str]:
    if is_lazy(array):
        return [f"{zlib.crc32(array.fingerprint().encode()):08x}"]
    edges = _edges(len(array), PIECES)
    parts = (array[start:stop] for start, stop in itertools.pairwise(edges))
    return [f"{zlib.crc32(as_bytes(np.ascontiguousarray(part)).tobytes()):08x}" for part in parts]


def _edges(rows: int, most: int) -> list[int]:
    """The first row of each piece, and the number of rows."""
    return np.linspace(0, rows, min(rows, most) + 1).astype(int).tolist()


def changed_pieces(
    then: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, str]]:
    """In what two versions of a dataset differ: by the name of the array, and rows in it.

    >>> then, now = (pieces(Dataset("toy", (np.arange(6), np.eye(6)[k]))) for k in (0, 4))
    >>> list(changed_pieces(then, now))
    ['train y, row 0 of 6', 'train y, row 4 of 6']
    """
    found: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys([*then, *now]):
        if name not in then or name not in now:
            found[name] = ("there", "absent") if name in then else ("absent", "there")
        elif then[name]["rows"] != now[name]["rows"]:
            found[name] = f"{then[name]['rows']} rows", f"{now[name]['rows']} rows"
        else:
            found |= _changed_rows(name, now[name]["rows"], then[name]["checksums"], now[name]["checksums"])
    return found


def _changed_rows(name: str, rows: int, then: str, now: str) -> dict[str, tuple[str, str]]:
    """Runs of neighboring pieces that differ, each with its first two checksums."""
    old, new = then.split(), now.split()
    edges = _edges(rows, len(new))
    differ = [a != b for a, b in zip(old, new, strict=True)]
    found: dict[str, tuple[str, str]] = {}
    for is_changed, group in itertools.groupby(range(len(new)), lambda piece: differ[piece]):
        if is_changed:
            changed = list(group)
            where = _rows(edges[changed[0]], edges[changed[-1] + 1])
            found[f"{name}, {where} of {rows}"] = old[changed[0]], new[changed[0]]
    return found


def _rows(start: int, stop: int) -> str:
    return f"row {start}" if stop - start == 1 else f"rows {start} to {stop - 1}"
