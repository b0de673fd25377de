"""Limits for files of weights. Files are untrusted: a size is checked before it is allocated."""

from __future__ import annotations

import math
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

from jlayers.core.errors import of_file

__all__ = ["Budget", "check_packed", "member_of", "open_zip", "refused_file"]

_AT_LEAST = 2**26  # bytes that any file may become
_GROWTH = 16  # how many times its own size a packed file may become, if nobody knows what is needed
_GROWTH_FOR_MODEL = 4  # and if that is known, with an optimizer's arrays beside them
_MOST_PACKED = 1100  # times that zip and gzip can make something smaller; a little more than they can do
_MEMBERS = 100_000


def refused_file(path: Any, reason: object, instead: str = "") -> ValueError:
    """The error of a file that cannot be read as weights."""
    return of_file(ValueError(f"{path}: {reason}" + (f"; {instead}" if instead else "")), path)


class Budget:
    """The bytes that the arrays of one file may take together, by the size of the file.

    Args:
        path: of the file, for errors.
        size: of the file in bytes.
        needed: the bytes of the arrays that the model has, or None.

    >>> Budget("weights.npz", size=1000).spend("kernel", (10, 10), 4)
    400
    >>> Budget("weights.npz", size=1000).spend("kernel", (10**6, 10**6), 4)
    Traceback (most recent call last):
    ValueError: weights.npz: 'kernel' of shape (1000000, 1000000) asks for 4,000,000,000,000 bytes, ...
    """

    def __init__(self, path: Any, size: int, needed: int | None = None):
        self.path, self.size = path, size
        most = _GROWTH * size if needed is None else _GROWTH_FOR_MODEL * max(size, needed)
        self.left = self.most = max(_AT_LEAST, most)

    def spend(self, name: str, shape: Sequence[int], itemsize: int) -> int:
        """The bytes of an array of this shape.

        Raises:
            ValueError: that is more than is left.
        """
        if len(shape) > 32 or any(size < 0 for size in shape):
            raise refused_file(self.path, f"{name!r} has an impossible shape, {tuple(shape)[:40]}")
        bytes_ = math.prod(shape) * itemsize
        if bytes_ > self.left:
            raise refused_file(
                self.path,
                f"{name!r} of shape {tuple(shape)} asks for {bytes_:,} bytes, in a file of {self.size:,} "
                f"bytes, whose arrays may take {self.most:,}",
            )
        self.left -= bytes_
        return bytes_


def check_packed(path: Any, name: str, size: int, packed: int) -> None:
    """Refuse what declares more bytes than can have been packed into those that are there."""
    if size > _MOST_PACKED * packed:
        raise refused_file(path, f"{name!r} declares {size:,} bytes and holds {packed:,}")


def open_zip(path: str | os.PathLike[str], needed: int | None = None) -> zipfile.ZipFile:
    """A zip file whose members together are of a bounded size; `needed` as for a `Budget`.

    Raises:
        ValueError: no zip file, or one that would grow beyond bounds.
    """
    budget = Budget(path, pathlib.Path(path).stat().st_size, needed)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise refused_file(path, f"the zip file is damaged ({error})", "fetch or copy it again") from None
    try:
        members = archive.infolist()
        if len(members) > _MEMBERS:
            raise refused_file(
                path, f"expected at most {_MEMBERS:,} members in a zip file, received {len(members):,}"
            )
        for member in members:
            budget.spend(member.filename, (member.file_size,), 1)
            check_packed(path, member.filename, member.file_size, member.compress_size)
        if len({member.filename for member in members}) != len(members):
            raise refused_file(
                path, "expected members with different names in a zip file, received two with one name"
            )
    except ValueError:
        archive.close()
        raise
    return archive


def member_of(path: Any, archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member; no more is unpacked than the table of the file says.

    Raises:
        ValueError: a damaged member.
    """
    try:
        with archive.open(name) as file:
            return file.read(archive.getinfo(name).file_size)
    except Exception as error:  # of zipfile, zlib and others, by what is damaged
        raise refused_file(path, f"the member {name!r} is damaged ({error})") from None
