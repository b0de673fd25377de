"""CSV: numbers and texts by column, with the line and column of whatever is no number."""

from __future__ import annotations

import csv as csvlib
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jlayers.core.registry import nearest
from jlayers.data.dataset import Dataset, FilePath, register
from jlayers.data.idx import MAX_BYTES
from jlayers.data.split import hold_out

__all__ = ["csv", "read_columns", "read_csv", "read_numbers"]

Column = str | int
_TEXT = "; if the column holds texts, name it under text"
_CLASS = "; if the target is a class, set labels to true"


def read_csv(
    path: FilePath, header: bool = True, delimiter: str = ",", max_bytes: int = MAX_BYTES
) -> tuple[list[str], list[list[str]], list[int]]:
    """Column names, cells as text, and the line number of each row.

    Without a header the columns are called "0", "1", ...

    Raises:
        ValueError: no rows, rows of different lengths, a column name twice, not UTF-8, or too large.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"{path}: {size:,} bytes; expected at most {max_bytes:,}")
    if len(delimiter) != 1:
        raise ValueError(f"csv: expected a delimiter of one character, received delimiter={delimiter!r}")
    rows: list[list[str]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csvlib.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
        try:
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
        except (csvlib.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {reader.line_num + 1}: not readable as CSV ({error})") from None
    names = [name.strip() for name in rows[0]] if header and rows else []
    if header:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise ValueError(f"{path}: expected rows of numbers{' below the header' * header}, received none")
    names = names or [str(i) for i in range(len(rows[0]))]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; rename one")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise ValueError(f"{path}, line {line}: expected {len(names)} cells, received {len(row)}")
    return names, rows, lines


def read_numbers(path: FilePath, header: bool = True, delimiter: str = ",") -> np.ndarray:
    """All columns of a CSV file of numbers: float32 `(rows, columns)`.

    Raises:
        ValueError: a cell that is no finite number, with its line and column, or an unreadable file.
        FileNotFoundError: no such file.
    """
    names, rows, lines = read_csv(path, header, delimiter)
    return _numbers(rows, lines, list(range(len(names))), names, path)


def read_columns(
    path: FilePath, columns: Collection[str], text: Collection[str], header: bool = True, delimiter: str = ","
) -> dict[str, np.ndarray]:
    """Columns of a CSV file by name: those in `text` as texts `(rows,)`, others as float32 `(rows, 1)`.

    Raises:
        KeyError: no column of that name.
        ValueError: as `read_numbers`.
    """
    names, rows, lines = read_csv(path, header, delimiter)
    places = [_column(name, names, path) for name in columns]
    return _by_column(rows, lines, places, {_column(name, names, path) for name in text}, names, path)


@register
def csv(
    path: FilePath,
    target: str | int | list[str | int],
    labels: bool = False,
    features: list[str | int] | None = None,
    header: bool = True,
    delimiter: str = ",",
    test_path: FilePath | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    text: list[str | int] | None = None,
) -> Dataset:
    """Rows of a CSV file: x is float32 `(rows, columns)`, all but the target unless `features` names some.

    With columns of text, x is a dict with one input for each column: text `(rows,)`, which a configuration
    makes into numbers under `preprocess`, and float32 `(rows, 1)`.

    Args:
        path: of the file; in YAML, relative to the YAML file.
        target: name of the target column, or its number counted from 0 in a file without a header; a list
            gives y of shape `(rows, columns)`, one gives `(rows,)` for labels and `(rows, 1)` for numbers.
        labels: True if the target is a class: whole numbers from 0 as they are, other texts numbered in
            sorted order; y is then int32, else float32.
        features: the columns of x.
        header: whether the first line holds the columns' names.
        delimiter: between cells.
        test_path: a second file of the same columns, held out.
        test_fraction: the part held out at random if there is no `test_path`, of each class with labels.
        seed: of that split.
        max_bytes: the most that a file may take.
        text: the columns of x that are text, taken as they are.

    Raises:
        ValueError: a cell that is no finite number, with its line and column, or an unreadable file.
        KeyError: no column of that name.
    """
    targets = target if isinstance(target, list) else [target]
    if labels and len(targets) != 1:
        raise ValueError(f"csv: expected one target column of labels, received target={target!r}")

    def load(file: FilePath) -> tuple[Any, np.ndarray]:
        names, rows, lines = read_csv(file, header, delimiter, max_bytes)
        ys = [_column(name, names, file) for name in targets]
        xs = [_column(n, names, file) for n in features] if features is not None else []
        xs = xs or [i for i in range(len(names)) if i not in ys]
        if not xs or set(xs) & set(ys):
            raise ValueError(
                f"csv: expected feature columns beside the target {target!r}, received {features!r}"
            )
        texts = {_column(name, names, file) for name in text or []}
        if texts - set(xs):
            raise ValueError(f"csv: expected text columns among those of x, received text={text}")
        x: Any
        if texts:
            x = _by_column(rows, lines, xs, texts, names, file, _TEXT)
        else:
            x = _numbers(rows, lines, xs, names, file, _TEXT)
        if labels:
            return x, np.array([row[ys[0]].strip() for row in rows])
        return x, _numbers(rows, lines, ys, names, file, _CLASS)

    x, y = load(path)
    held = None if test_path is None else load(test_path)
    class_names = None
    if labels:
        both = [y] if held is None else [y, held[1]]
        encoded, class_names = _encode(both)
        y, held = encoded[0], None if held is None else (held[0], encoded[1])
    name = Path(path).stem
    if held is not None:
        return Dataset(name, (x, y), held, class_names)
    return Dataset(name, *hold_out(x, y, test_fraction, seed), class_names)


def _column(name: Column, names: list[str], path: FilePath) -> int:
    if str(name) in names:
        return names.index(str(name))
    raise KeyError(f"{path} has no column {name!r}: {nearest(name, names)}")


def _by_column(
    rows: list[list[str]],
    lines: list[int],
    columns: Collection[int],
    texts: Collection[int],
    names: list[str],
    path: FilePath,
    hint: str = "",
) -> dict[str, np.ndarray]:
    def read(column: int) -> np.ndarray:
        if column in texts:
            return np.array([row[column] for row in rows], object)
        return _numbers(rows, lines, [column], names, path, hint)

    return {names[column]: read(column) for column in columns}


def _numbers(
    rows: list[list[str]],
    lines: list[int],
    columns: list[int],
    names: list[str],
    path: FilePath,
    hint: str = "",
) -> np.ndarray:
    """The columns as float32 `(rows, columns)`; the hint says what to do where a cell is text."""
    out = np.empty((len(rows), len(columns)), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            try:
                value, advice = float(row[column]), ""
            except ValueError:
                value, advice = math.nan, hint if row[column].strip() else ""
            if not math.isfinite(value):
                raise ValueError(
                    f"{path}, line {lines[i]}, column {column + 1} ({names[column]!r}): expected a finite "
                    f"number, received {row[column]!r}{advice}"
                )
            out[i, j] = value
    return out


def _encode(columns: list[np.ndarray]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels as int32 and their names: whole numbers stay as they are, texts are numbered in sorted order."""
    known = sorted(set(np.concatenate(columns).tolist()))
    if all(text.isascii() and text.isdigit() and len(text) < 6 for text in known):
        top = max(map(int, known))
        return [c.astype(np.int32) for c in columns], tuple(map(str, range(top + 1)))
    return [np.searchsorted(known, c).astype(np.int32) for c in columns], tuple(known)
