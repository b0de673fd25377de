"""The cells of CSV files: numbers and texts, packed while they are read, each error with its place."""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jlayers.core.spelling import nearest
from jlayers.data.blocks import Blocks
from jlayers.data.dataset import FilePath
from jlayers.data.digest import digest_of
from jlayers.data.gate import check_resolution
from jlayers.data.labels import Labels, is_missing, number
from jlayers.data.reading import MAX_BYTES, Records

__all__ = ["File", "Inputs", "Numbers"]

Column = str | int
_ROWS = 4096  # rows that are parsed before they are packed as float32
_MOST = float(np.finfo(np.float32).max)


class File:
    """A CSV file: the names of its columns, then its rows. Without a header they are "0", "1", ..."""

    def __init__(self, path: FilePath, header: bool, delimiter: str, max_bytes: int = MAX_BYTES):
        self.path, self.header, self.delimiter = os.fspath(path), header, delimiter
        self.records = Records(path, delimiter, max_bytes)
        self.first = next(self.records, None)
        cells = self._some(self.first)[1]
        self.names = [name.strip() for name in cells] if header else [str(i) for i in range(len(cells))]
        if twice := [name for i, name in enumerate(self.names) if name in self.names[:i]]:
            raise ValueError(
                f"{self.path}: expected columns with different names, received {twice[0]!r} twice; rename one"
            )

    def _some(self, found: Any) -> Any:
        if found is None:
            below = " below the header" if self.header else ""
            raise ValueError(f"{self.path}: expected at least one row{below}, received none")
        return found

    def rows(self, begin: tuple[int, int], count: int) -> Iterator[tuple[int, list[str]]]:
        """Some rows from a place in the file on, each with its line."""
        return itertools.islice(Records(self.path, self.delimiter, sys.maxsize, begin), count)

    def place(self, column: Column) -> int:
        """The place of a column by its name."""
        if str(column) in self.names:
            return self.names.index(str(column))
        near = nearest(column, self.names)
        if self.header and all(math.isfinite(number(name)) for name in self.names):
            near += "; if the first line is a row of numbers, set header to false"
        raise KeyError(f"{self.path} has no column {column!r}: {near}")

    def where(self, line: int, place: int) -> str:
        return f"{self.path}, line {line}, column {place + 1} ({self.names[place]!r})"

    def read(self, *parts: Numbers | Texts | Labels) -> list[tuple[int, tuple[int, int]]]:
        """Hand each part all rows; gives rows at which a reading can begin, with their places in the file."""
        begin = self.records.place if self.header else (0, 0)
        marks: list[tuple[int, tuple[int, int]]] = []
        count = 0
        rows = self.records if self.header else itertools.chain([self._some(self.first)], self.records)
        line = 0
        for line, row in rows:
            if len(row) != len(self.names):
                raise ValueError(
                    f"{self.path}, line {line}: expected {len(self.names)} cells, as in the first line, "
                    f"received {len(row)}; correct the line, or set the delimiter"
                )
            if begin is not None and (not marks or count - marks[-1][0] >= _ROWS):
                marks.append((count, begin))
            for part in parts:
                part.add(row, line)
            count, begin = count + 1, self.records.place
        self._some(line or None)
        return marks


class Numbers:
    """Columns of numbers, packed as float32 while they are read, of one file or of several."""

    def __init__(self, file: File, places: Sequence[int], hint: str = "", keep: bool = True):
        self.file, self.places, self.hint, self.keep = file, places, hint, keep
        self.waiting: list[tuple[int, list[str]]] = []
        self.blocks: list[np.ndarray] = []
        self.low = np.full(len(places), np.inf)
        self.high = -self.low
        self.error = np.zeros(len(places))

    def turn(self, file: File, places: Sequence[int]) -> None:
        """Go on with a further file, with the same columns at other places."""
        self.pack()
        self.file, self.places = file, places

    def __len__(self) -> int:
        return sum(map(len, self.blocks)) + len(self.waiting)

    def add(self, row: list[str], line: int) -> None:
        self.waiting.append((line, row))
        if len(self.waiting) == _ROWS:
            self.pack()

    def pack(self) -> None:
        """Look over the rows that wait, and keep them as float32."""
        if not self.waiting:
            return
        cells = [row[place] for _, row in self.waiting for place in self.places]
        joined = "".join(cells)
        try:
            if "_" in joined or not joined.isascii():
                raise ValueError
            values = list(map(float, cells))
        except ValueError:
            values = list(map(number, cells))
        wide = np.array(values).reshape(len(self.waiting), len(self.places))
        held = np.abs(wide) <= _MOST
        if not held.all():
            i, j = np.argwhere(~held)[0].tolist()
            line, row = self.waiting[i]
            self._refuse(line, row, self.places[j], float(wide[i, j]))
        narrow = wide.astype(np.float32)
        self.low, self.high = np.minimum(self.low, wide.min(0)), np.maximum(self.high, wide.max(0))
        self.error = np.maximum(self.error, np.abs(narrow - wide).max(0))
        if self.keep:
            self.blocks.append(narrow)
        self.waiting = []

    def _refuse(self, line: int, row: list[str], place: int, value: float) -> None:
        cell = row[place]
        expected, hint = "a finite number", "" if is_missing(cell.strip()) else self.hint
        if math.isfinite(value):
            expected, hint = (
                f"a number of at most {_MOST:.3g} in size (float32)",
                "; scale the column down first",
            )
        elif math.isinf(value):
            hint = ""
        raise ValueError(f"{self.file.where(line, place)}: expected {expected}, received {cell!r}{hint}")

    def array(self) -> np.ndarray:
        """float32 `(rows, columns)`."""
        self.pack()
        return np.concatenate(self.blocks)

    def check_resolution(self) -> None:
        """Refuse columns whose values float32 cannot keep apart."""
        for j, place in enumerate(self.places):
            where = f"{self.file.path}, column {place + 1} ({self.file.names[place]!r})"
            check_resolution(where, self.low[j], self.high[j], self.error[j])


class Texts:
    """A column of texts, taken as they are."""

    def __init__(self, place: int, keep: bool = True):
        self.place, self.keep = place, keep
        self.values: list[str] = []

    def turn(self, file: File, places: Sequence[int]) -> None:
        (self.place,) = places

    def add(self, row: list[str], line: int) -> None:
        if self.keep:
            self.values.append(row[self.place])

    def array(self) -> np.ndarray:
        return np.array(self.values, object)


class Inputs:
    """The columns of x: one array of numbers, or a part for each column if some are texts.

    With `keep=False` the cells are looked over, and left in the files.
    """

    def __init__(
        self, file: File, places: Sequence[int], texts: Collection[int], hint: str = "", keep: bool = True
    ):
        self.files, self.keep = [(file, places)], keep
        self.texts = [places.index(place) for place in texts]
        self.parts: dict[str, Numbers | Texts] = {}
        if not texts:
            self.parts[""] = Numbers(file, places, hint, keep)
        for place in places if texts else ():
            made = Texts(place, keep) if place in texts else Numbers(file, [place], hint, keep)
            self.parts[file.names[place]] = made

    def turn(self, file: File, places: Sequence[int]) -> None:
        """Go on with a further file."""
        self.files.append((file, places))
        for part, its in zip(
            self.parts.values(), [[p] for p in places] if self.texts else [places], strict=True
        ):
            part.turn(file, its)

    def arrays(self) -> Any:
        made = {name: part.array() for name, part in self.parts.items()}
        return made[""] if list(made) == [""] else made

    def blocks(self, marks: Sequence[Sequence[tuple[int, tuple[int, int]]]], rows: Sequence[int]) -> Any:
        """The same as arrays that are read by blocks, which begin at the marks of each file."""
        pieces: list[tuple[int, tuple[int, int], int]] = []  # the file, where a block begins in it, its rows
        for which, (own, count) in enumerate(zip(marks, rows, strict=True)):
            if not own:
                raise ValueError(
                    f"{self.files[which][0].path}: expected lines that end in a line feed, since the file is "
                    f"read in blocks; save it with such line ends, or set in_memory to true"
                )
            ends = [*(row for row, _ in own[1:]), count]
            pieces += [(which, begin, end - row) for (row, begin), end in zip(own, ends, strict=True)]

        def load(number: int) -> dict[str, np.ndarray]:
            which, begin, count = pieces[number]
            file, places = self.files[which]
            part = Inputs(file, places, [places[i] for i in self.texts])
            for line, cells in file.rows(begin, count):
                for column in part.parts.values():
                    column.add(cells, line)
            return dict(zip(self.parts, (column.array() for column in part.parts.values()), strict=True))

        paths = [Path(file.path) for file, _ in self.files]
        ends = np.cumsum([count for *_, count in pieces]).tolist()
        return Blocks(
            ends, load, functools.cache(lambda: digest_of(paths, [p.name for p in paths]))
        ).columns()

    def finish(self) -> None:
        """Look over the rows that were read last."""
        for part in self.parts.values():
            if isinstance(part, Numbers):
                part.pack()

    def check_resolution(self) -> None:
        for part in self.parts.values():
            if isinstance(part, Numbers):
                part.check_resolution()
