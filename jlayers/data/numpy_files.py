"""NumPy's `.npy` and `.npz` without pickles, with every claim of a header checked against the bytes there."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from jlayers.core.errors import about
from jlayers.core.spelling import nearest
from jlayers.data.reading import MAX_BYTES, open_file, read_bytes

__all__ = ["read_npy", "read_npz"]

_MAX_HEADER = 10_000
_KINDS = "biufcSU"


def read_npy(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> np.ndarray:
    """The array in a `.npy` file.

    Raises:
        ValueError: not such a file, truncated, of Python objects (which would need pickle, and pickle runs
            code), or larger than `max_bytes`.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    with open_file(path) as file:
        return _read_array(file, path.stat().st_size, path, str(path), max_bytes)


def read_npz(
    path: str | os.PathLike[str], keys: Sequence[str] | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Arrays out of a `.npz` file: those called `keys`, or all.

    Raises:
        ValueError: as `read_npy`; the arrays together are larger than `max_bytes`.
        KeyError: no array of that name.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    with open_file(path) as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except Exception as error:  # a damaged directory: zipfile raises whatever it stumbles over
            raise ValueError(
                f"{path}: expected a .npz file, which is a zip archive ({_short(error)})"
            ) from None
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
        arrays: dict[str, np.ndarray] = {}
        left = max_bytes
        for key in members if keys is None else keys:
            if key not in members:
                raise KeyError(f"{path} has no array {key!r}: {nearest(key, members)}")
            arrays[key] = _read_member(archive, members[key], path, f"{path}, array {key!r}", left)
            left -= arrays[key].nbytes
        return arrays


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, where: str, max_bytes: int
) -> np.ndarray:
    try:
        with archive.open(member) as file:
            return _read_array(file, member.file_size, path, where, max_bytes)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # each way to compress has errors of its own
        raise ValueError(f"{where}: damaged; expected a member of a zip archive ({_short(error)})") from None


def _read_array(file: IO[bytes], size: int, path: Path, where: str, max_bytes: int) -> np.ndarray:
    if size > max_bytes + _MAX_HEADER:
        wrong = ValueError(
            f"{where}: expected at most {max_bytes:,} bytes, received {size:,}; pass a larger max_bytes "
            f"if that is right"
        )
        raise about(wrong, max_bytes=max_bytes)
    start = io.BytesIO(file.read(min(size, _MAX_HEADER + 12)))
    shape, fortran, dtype = _header(start, where)
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise ValueError(
            f"{where}: expected numbers or text, received {dtype}; Python objects are not read, because "
            f"unpickling them could run code: save them with a numeric dtype"
        )
    head = start.tell()
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or head + expected != size:
        raise ValueError(
            f"{where}: the header says {dtype}{shape}, {head + expected:,} bytes in all, and there are "
            f"{size:,}: the file is truncated or damaged"
        )
    rest = start.read()
    data = rest[:expected] + read_bytes(file, max(0, expected - len(rest)), path, f"{dtype}{shape}")
    array = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(start: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype from the header of an array."""
    try:
        version = np.lib.format.read_magic(start)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        return read(start, max_header_size=_MAX_HEADER)
    except Exception as error:  # a damaged header is parsed as Python, and any part of that may fail
        raise ValueError(f"{where}: expected an array in the .npy format ({_short(error)})") from None


def _short(error: Exception, most: int = 100) -> str:
    """The text of an error, without the contents of the file that some errors quote."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return text if len(text) <= most else text[: most - 4] + " ..."
