"""The registry of preprocessors, and their common parts: texts as arrays, numbers as vectors."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.core.registry import Kind, Registry
from jlayers.core.shapes import describe

__all__ = [
    "MODES",
    "PreprocessorLike",
    "as_integers",
    "as_texts",
    "check_mode",
    "encoded",
    "get",
    "register",
    "registry",
    "summed",
]

PreprocessorLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("preprocessor")]

MODES = ("int", "one_hot", "multi_hot", "count")
_MAX_BYTES = 1 << 28


class _Preprocessors(Registry):
    def bind(self, name: str, signature: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments, with the tokens themselves in place of the path of a file of tokens."""
        bound = super().bind(name, signature, args, kwargs)
        if isinstance(path := bound.get("vocabulary"), (str, os.PathLike)):
            bound["vocabulary"] = _read_vocabulary(name, pathlib.Path(path))
        return bound


registry = _Preprocessors("preprocessor")
get = registry.get
register = registry.factory()


def _read_vocabulary(name: str, path: pathlib.Path) -> list[str]:
    """The tokens of a text file, one per line."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{name}: {path}: expected a file with one token per line, received something else")
    if status.st_size > _MAX_BYTES:
        raise ValueError(f"{name}: {path} has {status.st_size:,} bytes; expected at most {_MAX_BYTES:,}")
    try:
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: {path}: expected one token per line in UTF-8 ({error})") from None
    lines = lines[:-1] if lines[-1] == "" else lines
    if "" in lines[1:]:  # the first one is the mask, in a vocabulary that was written with its special tokens
        raise ValueError(
            f"{name}: {path}, line {lines.index('', 1) + 1}: expected one token per line, received a blank "
            f"line; remove it"
        )
    return lines


# --------------------------------------------------------------------------------------------- inputs


def as_texts(name: str, value: Any, encoding: str = "utf-8") -> np.ndarray:
    """Texts as an array of `str` objects, in the shape in which they came.

    Raises:
        TypeError: something that is not a text, with its place.
        ValueError: bytes that the encoding does not fit.
    """
    array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=object)
    if array.dtype.kind not in "OSUT":
        raise TypeError(f"{name}: expected texts, received {describe(array)}")
    flat = [t.decode(encoding) if isinstance(t, bytes) else t for t in array.ravel().tolist()]
    if (wrong := next((i for i, t in enumerate(flat) if not isinstance(t, str)), None)) is not None:
        ragged = ": fill lists up to one length" if isinstance(flat[wrong], list) else ""
        raise TypeError(f"{name}: expected texts, received {flat[wrong]!r} in place {wrong}{ragged}")
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = flat
    return texts


def as_integers(name: str, value: Any) -> np.ndarray:
    """Whole numbers as int64.

    Raises:
        TypeError: something else.
        ValueError: a number that int64 does not hold.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected whole numbers, received {describe(array)}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected whole numbers within 64 bits and a sign, received {array.max()}")
    return array.astype(np.int64)


def check_mode(name: str, mode: Any, valid: tuple[str, ...] = MODES) -> None:
    if mode not in valid:
        raise refused(
            ValueError,
            f"expected output_mode out of {', '.join(map(repr, valid))}",
            raised_by=name,
            output_mode=mode,
        )


# -------------------------------------------------------------------------------------------- outputs


def encoded(name: str, ids: np.ndarray, mode: str, depth: int) -> np.ndarray:
    """Numbers as they are (int32), or as vectors (float32); negative ones are left out of the vectors."""
    if mode == "int":
        return ids.astype(np.int32)
    if mode == "one_hot":
        kept = ids[..., 0] if ids.ndim > 1 and ids.shape[-1] == 1 else ids
        each = summed(np.arange(kept.size), kept.ravel(), kept.size, depth, "count")
        return each.reshape(*kept.shape, depth)
    if ids.ndim < 2:
        raise ValueError(
            f"{name}: expected the values of each sample along the last axis, received output_mode={mode!r} "
            f"and the shape {ids.shape}: write [[value], ...] for one value per sample"
        )
    rows = ids.size // ids.shape[-1] if ids.shape[-1] else int(np.prod(ids.shape[:-1]))
    vectors = summed(np.repeat(np.arange(rows), ids.shape[-1]), ids.ravel(), rows, depth, mode)
    return vectors.reshape(*ids.shape[:-1], depth)


def summed(rows: np.ndarray, ids: np.ndarray, size: int, depth: int, mode: str) -> np.ndarray:
    """Per row how often each number occurs, or whether it does: float32 `(size, depth)`."""
    vectors = np.zeros((size, depth), np.float32)
    known = ids >= 0
    if mode == "multi_hot":
        vectors[rows[known], ids[known]] = 1.0
    else:
        np.add.at(vectors, (rows[known], ids[known]), 1.0)
    return vectors
