"""CSV: numbers, texts and labels by column, with the line and column of whatever is wrong."""

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

from jlayers.core.errors import refused
from jlayers.core.spelling import nearest
from jlayers.data.blocks import Blocks
from jlayers.data.dataset import Dataset, FilePath, Table, register
from jlayers.data.digest import digest_of
from jlayers.data.gate import check_names, check_resolution
from jlayers.data.labels import Labels, encode, is_missing, number
from jlayers.data.reading import MAX_BYTES, Records
from jlayers.data.split import hold_out

__all__ = ["csv", "read_like", "read_numbers"]

Column = str | int
_TEXT = "; if the column holds texts, name it under text"
_CLASS = "; if the target is a class, set labels to true"
_ROWS = 4096  # rows that are parsed before they are packed as float32
_MOST = float(np.finfo(np.float32).max)


class _File:
    """A CSV file: the names of its columns, then its rows. Without a header they are "0", "1", ..."""

    def __init__(self, path: FilePath, header: bool, delimiter: str, max_bytes: int = MAX_BYTES):
        self.path, self.header, self.delimiter = os.fspath(path), header, delimiter
        self.records = Records(path, delimiter, max_bytes)
        self.first = next(self.records, None)
        cells = self._some(self.first)[1]
        self.names = [name.strip() for name in cells] if header else [str(i) for i in range(len(cells))]
        if twice := [name for i, name in enumerate(self.names) if name in self.names[:i]]:
            raise ValueError(f"{self.path}: two columns are called {twice[0]!r}; rename one")

    def _some(self, found: Any) -> Any:
        if found is None:
            below = " below the header" if self.header else ""
            raise ValueError(f"{self.path}: expected rows of numbers{below}, received none")
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

    def read(self, *parts: _Numbers | _Texts | Labels) -> list[tuple[int, tuple[int, int]]]:
        """Hand each part all rows; gives rows at which a reading can begin, with their places in the file."""
        begin = self.records.place if self.header else (0, 0)
        marks: list[tuple[int, tuple[int, int]]] = []
        count = 0
        rows = self.records if self.header else itertools.chain([self._some(self.first)], self.records)
        line = 0
        for line, row in rows:
            if len(row) != len(self.names):
                raise ValueError(
                    f"{self.path}, line {line}: expected {len(self.names)} cells, received {len(row)}"
                )
            if begin is not None and (not marks or count - marks[-1][0] >= _ROWS):
                marks.append((count, begin))
            for part in parts:
                part.add(row, line)
            count, begin = count + 1, self.records.place
        self._some(line or None)
        return marks


class _Numbers:
    """Columns of numbers, packed as float32 while they are read, of one file or of several."""

    def __init__(self, file: _File, places: Sequence[int], hint: str = "", keep: bool = True):
        self.file, self.places, self.hint, self.keep = file, places, hint, keep
        self.waiting: list[tuple[int, list[str]]] = []
        self.blocks: list[np.ndarray] = []
        self.low = np.full(len(places), np.inf)
        self.high = -self.low
        self.error = np.zeros(len(places))

    def turn(self, file: _File, places: Sequence[int]) -> None:
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


class _Texts:
    """A column of texts, taken as they are."""

    def __init__(self, place: int, keep: bool = True):
        self.place, self.keep = place, keep
        self.values: list[str] = []

    def turn(self, file: _File, places: Sequence[int]) -> None:
        (self.place,) = places

    def add(self, row: list[str], line: int) -> None:
        if self.keep:
            self.values.append(row[self.place])

    def array(self) -> np.ndarray:
        return np.array(self.values, object)


class _Inputs:
    """The columns of x: one array of numbers, or a part for each column if some are texts.

    With `keep=False` the cells are looked over, and left in the files.
    """

    def __init__(
        self, file: _File, places: Sequence[int], texts: Collection[int], hint: str = "", keep: bool = True
    ):
        self.files, self.keep = [(file, places)], keep
        self.texts = [places.index(place) for place in texts]
        self.parts: dict[str, _Numbers | _Texts] = {}
        if not texts:
            self.parts[""] = _Numbers(file, places, hint, keep)
        for place in places if texts else ():
            made = _Texts(place, keep) if place in texts else _Numbers(file, [place], hint, keep)
            self.parts[file.names[place]] = made

    def turn(self, file: _File, places: Sequence[int]) -> None:
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
                    f"{self.files[which][0].path}: expected lines that end by a line feed, to be read in "
                    f"blocks; save the file with such ends, or set in_memory to true"
                )
            ends = [*(row for row, _ in own[1:]), count]
            pieces += [(which, begin, end - row) for (row, begin), end in zip(own, ends, strict=True)]

        def load(number: int) -> dict[str, np.ndarray]:
            which, begin, count = pieces[number]
            file, places = self.files[which]
            part = _Inputs(file, places, [places[i] for i in self.texts])
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
            if isinstance(part, _Numbers):
                part.pack()

    def check_resolution(self) -> None:
        for part in self.parts.values():
            if isinstance(part, _Numbers):
                part.check_resolution()


def read_numbers(path: FilePath, header: bool = True, delimiter: str = ",") -> np.ndarray:
    """All columns of a CSV file of numbers: float32 `(rows, columns)`.

    Raises:
        ValueError: a cell that is no finite number, with its line and column, or an unreadable file.
        FileNotFoundError: no such file.
    """
    file = _File(path, header, delimiter)
    numbers = _Numbers(file, range(len(file.names)))
    file.read(numbers)
    return numbers.array()


def read_like(
    path: FilePath, table: Table, header: bool | None = None, delimiter: str | None = None
) -> tuple[Any, list[str]]:
    """The inputs in a further file like the one that a model was trained on, by the names of their columns.

    In a file without a header the columns are those of x in their order, or all those of the training file.

    Args:
        path: of the file.
        table: how the training file was read.
        header: whether the first line holds names, if other than in the training file.
        delimiter: between cells, if another than in the training file.

    Returns:
        x as in training, and the names of columns that are neither inputs nor targets, which are left out.

    Raises:
        ValueError: a column is missing, or as `read_numbers`.
    """
    file = _File(path, table.header if header is None else header, delimiter or table.delimiter)
    if file.header and table.header:
        try:
            others = check_names(file.path, file.names, table.names)
        except ValueError as error:
            advice = "" if header else "; if the file has no line of names, pass --no-header"
            raise ValueError(f"{error}{advice}") from None
        places = [file.names.index(name) for name in table.names]
        others = [name for name in others if name not in table.targets]
    else:
        count, others = len(file.names), []
        if count not in (len(table.places), table.width):
            raise ValueError(
                f"{file.path}: expected {len(table.places)} columns, or the {table.width} of the training "
                f"file, in their order, received {count}"
            )
        places = list(table.places) if count == table.width else list(range(count))
    texts = {place for place, name in zip(places, table.names, strict=True) if name in table.text}
    inputs = _Inputs(file, places, texts)
    file.read(*inputs.parts.values())
    x = inputs.arrays()
    return (dict(zip(table.names, x.values(), strict=True)) if isinstance(x, dict) else x), others


@register
def csv(
    path: FilePath | list[FilePath],
    target: str | int | list[str | int],
    labels: bool = False,
    features: list[str | int] | None = None,
    header: bool = True,
    delimiter: str = ",",
    test_path: FilePath | list[FilePath] | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    text: list[str | int] | None = None,
    in_memory: bool = True,
) -> Dataset:
    """Rows of a CSV file: x is float32 `(rows, columns)`, all but the target unless `features` names some.

    With columns of text, x is a dict with one input for each column: text `(rows,)`, which a configuration
    makes into numbers under `preprocess`, and float32 `(rows, 1)`.

    Args:
        path: of the file, or a list of files with the same columns, one below the other, which are found by
            their names; in YAML, relative to the YAML file.
        target: name of the target column, or its number counted from 0 in a file without a header; a list
            gives y of shape `(rows, columns)`, one gives `(rows,)` for labels and `(rows, 1)` for numbers.
        labels: True if the target is a class: whole numbers from 0 as they are, other numbers in their
            order, texts in sorted order; y is then int32, else float32.
        features: the columns of x.
        header: whether the first line holds the columns' names.
        delimiter: between cells.
        test_path: a further file, or several, held out, whose columns are found by the same names.
        test_fraction: the part held out at random if there is no `test_path`, of each class with labels.
        seed: of that split.
        max_bytes: the most that a file may take that is held in memory.
        text: the columns of x that are text, taken as they are.
        in_memory: False for a file that memory does not hold. It is read once to be looked over; then blocks
            of some thousand rows are read when a step needs them, and shuffling keeps to a few blocks at a
            time. The targets are in memory all the same.

    Raises:
        ValueError: a cell that is no finite number or no label, with its line and column; numbers that
            float32 cannot keep apart; an unreadable file.
        KeyError: no column of that name.
    """
    targets = target if isinstance(target, list) else [target]
    if labels and len(targets) != 1:
        raise refused(ValueError, "expected one target column of labels", raised_by="csv", target=target)

    def chosen(file: _File) -> Table:
        """The columns that are asked for."""
        ys = [file.place(name) for name in targets]
        xs = [file.place(name) for name in features or []] or [
            i for i in range(len(file.names)) if i not in ys
        ]
        if not xs or set(xs) & set(ys):
            raise ValueError(
                f"csv: expected feature columns beside the target {target!r}, received {features!r}"
            )
        texts = {file.place(name) for name in text or []}
        if texts - set(xs):
            raise ValueError(f"csv: expected text columns among those of x, received text={text}")
        named = [tuple(file.names[i] for i in places) for places in (xs, ys, sorted(texts))]
        return Table(named[0], tuple(xs), named[1], named[2], len(file.names), header, delimiter)

    def load(paths: Sequence[FilePath], like: Table | None = None) -> tuple[Table, Any, Any]:
        """The columns of several files, one below the other; those of the first one, if not `like` others."""
        table: Any = like
        inputs: Any = None
        y: Any = None
        marks, rows = [], [0]
        for path in paths:
            file = _File(path, header, delimiter, max_bytes if in_memory else sys.maxsize)
            if table is not None and not header and len(file.names) != table.width:
                raise ValueError(f"{file.path}: expected {table.width} columns, received {len(file.names)}")
            table = table or chosen(file)
            check_names(file.path, file.names, table.names)
            ys, xs = ([file.place(name) for name in names] for names in (targets, table.names))
            if inputs is None:
                inputs = _Inputs(file, xs, {file.place(name) for name in table.text}, _TEXT, in_memory)
                y = Labels() if labels else _Numbers(file, ys, _CLASS)
            else:
                inputs.turn(file, xs)
            if isinstance(y, Labels):
                y.turn(ys[0], functools.partial(file.where, place=ys[0]))
            else:
                y.turn(file, ys)
            marks.append(file.read(*inputs.parts.values(), y))
            rows.append(len(y))
        inputs.finish()
        if like is None:
            inputs.check_resolution()
        x = inputs.arrays() if in_memory else inputs.blocks(marks, np.diff(rows).tolist())
        return table, x, y if isinstance(y, Labels) else y.array()

    table, x, y = load(_several("path", path))
    held = None if test_path is None else load(_several("test_path", test_path), table)[1:]
    class_names = None
    if labels:
        (y, *rest), class_names = encode(y, None if held is None else held[1])
        held = None if held is None else (held[0], rest[0])
    train, test = ((x, y), held) if held is not None else hold_out(x, y, test_fraction, seed)
    return Dataset(Path(_several("path", path)[0]).stem, train, test, class_names, table)


def _several(name: str, given: FilePath | list[FilePath]) -> list[FilePath]:
    if isinstance(given, list) and not given:
        raise refused(ValueError, "expected at least one file", raised_by="csv", **{name: given})
    return given if isinstance(given, list) else [given]
