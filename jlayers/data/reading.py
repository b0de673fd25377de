"""Untrusted files, read within limits: no more memory than allowed, whatever the files claim."""

from __future__ import annotations

import contextlib
import csv
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

from jlayers.core.errors import about, refused

__all__ = ["MAX_BYTES", "Records", "open_file", "read_bytes"]

MAX_BYTES = 4 << 30
_CHUNK = 1 << 20
_LINE = 16 << 20  # bytes of a line of text


@contextlib.contextmanager
def open_file(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Iterator[IO[bytes]]:
    """A regular file for reading in binary.

    Raises:
        ValueError: a folder, a device or a pipe, which may have no end, or a file larger than `max_bytes`.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"{path}: expected a file, received {_kind(status.st_mode)}; save the data as a file"
        )
    if status.st_size > max_bytes:
        wrong = ValueError(
            f"{path}: expected at most {max_bytes:,} bytes, received {status.st_size:,}; pass a larger "
            f"max_bytes if that is right"
        )
        raise about(wrong, max_bytes=max_bytes)
    with path.open("rb") as file:
        yield file


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def read_bytes(file: IO[bytes], size: int, path: Path, what: str) -> bytes:
    """Exactly `size` bytes, read bit by bit, so that a lying header takes no more memory than the file.

    Raises:
        ValueError: the file ends before.
    """
    parts, left = [], size
    while left:
        part = file.read(min(left, _CHUNK))
        if not part:
            raise ValueError(
                f"{path}: the file is truncated: expected {size:,} bytes of {what}, received {size - left:,}"
            )
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class Records:
    """The rows of a CSV file as texts, each with the line on which it begins; empty lines are left out.

    Args:
        path: path of the file.
        delimiter: between cells.
        max_bytes: the most that the file may take.
        start: a `place` of an earlier reading, to continue from.

    Attributes:
        place: the byte and the line at which the next row begins; None behind a line that ends by a bare
            carriage return, where a reading cannot begin.

    Raises:
        ValueError: not UTF-8, quotes that do not close, a line too long, or as `open_file`.
        FileNotFoundError: no such file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        delimiter: str = ",",
        max_bytes: int = MAX_BYTES,
        start: tuple[int, int] = (0, 0),
    ):
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
            raise refused(
                ValueError, "expected a delimiter of one character", raised_by="csv", delimiter=delimiter
            )
        self.place: tuple[int, int] | None = start
        self._rows = self._read(path, delimiter, max_bytes, start)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self._rows

    def __next__(self) -> tuple[int, list[str]]:
        return next(self._rows)

    def close(self) -> None:
        """Closes the file before its end."""
        self._rows.close()

    def _read(
        self, path: str | os.PathLike[str], delimiter: str, max_bytes: int, start: tuple[int, int]
    ) -> Generator[tuple[int, list[str]], None, None]:
        with open_file(path, max_bytes) as file:
            file.seek(start[0])
            lines = _Lines(file, Path(path), start)
            reader = csv.reader(iter(lines), delimiter=delimiter, strict=True, skipinitialspace=True)
            while True:
                line = lines.number + 1
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    raise ValueError(
                        f"{path}, line {line}: expected a line of CSV, received one that cannot be read as "
                        f"such ({error})"
                    ) from None
                if row is None:
                    return
                self.place = lines.place
                if row:
                    yield line, row


class _Lines:
    """Lines of text with the number of the last one."""

    def __init__(self, file: IO[bytes], path: Path, start: tuple[int, int] = (0, 0)):
        self.file, self.path = file, path
        self.offset, self.number = start
        self.place: tuple[int, int] | None = start

    def __iter__(self) -> Iterator[str]:
        while raw := self.file.readline(_LINE):
            if len(raw) == _LINE:
                raise self.wrong(f"expected lines of at most {_LINE:,} bytes")
            self.offset += len(raw)
            if not self.number:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            lines = raw.splitlines(keepends=True)  # some programs end a line by \r
            for left, line in zip(reversed(range(len(lines))), lines, strict=True):
                self.number += 1
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    self.number -= 1
                    raise self.wrong(f"expected text in UTF-8 ({error.reason})") from None
                if "\0" in text:
                    self.number -= 1
                    raise self.wrong("expected text in UTF-8, received bytes of 0; save it as UTF-8")
                self.place = None if left else (self.offset, self.number)
                yield text

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"{self.path}, line {self.number + 1}: {what}")
