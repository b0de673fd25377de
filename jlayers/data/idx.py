"""The IDX format of the MNIST files: a header of counts in front of raw numbers.

Everything that the header claims is checked before memory is taken for it, for the file may be hostile.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from jlayers.data.reading import MAX_BYTES, open_file, read_bytes

__all__ = ["read_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMS = 4


def read_idx(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> np.ndarray:
    """The array in an IDX file, plain or compressed by gzip, in the machine's byte order.

    Args:
        path: a name that ends in `.gz` is decompressed.
        max_bytes: the most that the array may take.

    Raises:
        ValueError: no IDX file, truncated, longer than its header says, or larger than `max_bytes`.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    try:
        with open_file(path) as raw:
            file: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            return _read(file, path, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the compressed file is damaged or truncated ({error})") from None


def _read(file: IO[bytes], path: Path, max_bytes: int) -> np.ndarray:
    magic = read_bytes(file, 4, path, "the magic number")
    kind, dims = magic[2], magic[3]
    if magic[:2] != b"\0\0" or kind not in _TYPES or not 1 <= dims <= _MAX_DIMS:
        raise ValueError(
            f"{path}: expected an IDX file, whose first bytes are 00 00, a type out of "
            f"{', '.join(f'{t:02x}' for t in _TYPES)} and 1 to {_MAX_DIMS} dimensions; "
            f"received {magic.hex(' ')}"
        )
    header = read_bytes(file, 4 * dims, path, "the dimensions")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    dtype = np.dtype(_TYPES[kind])
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise ValueError(
            f"{path}: expected at most {max_bytes:,} bytes, received a header that says {shape} "
            f"{dtype.name}, {size:,} bytes; pass a larger max_bytes if that is right"
        )
    data = read_bytes(file, size, path, f"{shape} {dtype.name}")
    if file.read(1):
        raise ValueError(
            f"{path}: expected the file to end after {shape} {dtype.name}, received more bytes; is it an IDX "
            f"file?"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
