"""Arrays in NumPy's `.npz` files; those of Python objects are refused."""

from __future__ import annotations

import math
import os
from typing import IO

import numpy as np

from jlayers.interop.limits import open_zip, refused_file

__all__ = ["read_npz"]


def read_npz(path: str | os.PathLike[str], *, needed: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file that `np.savez` has written, by name.

    Args:
        path: of the file.
        needed: the bytes of the arrays that are wanted, if known: a packed file may become a few times
            as much; otherwise a limited multiple of its own size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, holds Python objects, or declares more than it holds.

    >>> import pathlib, tempfile, jlayers as jl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
    >>> np.savez(path, **{"dense/kernel": np.zeros((4, 3))})
    >>> jl.interop.read_npz(path)["dense/kernel"].shape
    (4, 3)
    """
    found = {}
    with open_zip(path, needed) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                raise refused_file(
                    path, f"expected arrays as the members of an .npz file, received {member.filename!r}"
                )
            name = member.filename.removesuffix(".npy")
            try:
                with archive.open(member) as file:
                    found[name] = _read_array(file, member.file_size)
            except Exception as error:  # of zipfile, zlib and NumPy, by what is damaged
                raise refused_file(path, f"the array {name!r} is damaged ({error})") from None
    return found


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"expected version 1.0 or 2.0 of the format, received {version}")
    shape, fortran, dtype = read[version](file)
    if dtype.kind not in "biufc":
        raise ValueError(f"expected numbers, received the dtype {dtype}")
    content = file.read(size)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"the shape {shape} of {dtype} does not fit {len(content):,} bytes")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
