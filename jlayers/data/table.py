"""CSV: numbers, texts and labels by column."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jlayers.core.errors import concerning, refused
from jlayers.data.csv_columns import File, Inputs, Numbers
from jlayers.data.dataset import Dataset, FilePath, Table, register
from jlayers.data.gate import check_names
from jlayers.data.labels import Labels, encode
from jlayers.data.reading import MAX_BYTES
from jlayers.data.split import hold_out

__all__ = ["csv", "read_like", "read_numbers"]

_TEXT = "; if the column holds texts, name it under text"
_CLASS = "; if the target is a class, set labels to true"


def read_numbers(path: FilePath, header: bool = True, delimiter: str = ",") -> np.ndarray:
    """All columns of a CSV file of numbers: float32 `(rows, columns)`.

    Raises:
        ValueError: a cell that is not a finite number, with its line and column, or an unreadable file.
        FileNotFoundError: no such file.
    """
    file = File(path, header, delimiter)
    numbers = Numbers(file, range(len(file.names)))
    file.read(numbers)
    return numbers.array()


def read_like(
    path: FilePath, table: Table, header: bool | None = None, delimiter: str | None = None
) -> tuple[Any, list[str]]:
    """The inputs in a new file like the training file, by the names of their columns.

    In a file without a header the columns are those of x in their order, or all those of the training file.

    Args:
        path: path of the file.
        table: how the training file was read.
        header: whether the first line holds names; as in the training file if not given.
        delimiter: between cells; as in the training file if not given.

    Returns:
        x as in training, and the names of columns that are neither inputs nor targets, which are left out.

    Raises:
        ValueError: a column is missing, or as `read_numbers`.
    """
    file = File(path, table.header if header is None else header, delimiter or table.delimiter)
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
    inputs = Inputs(file, places, texts)
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
        path: path of the file, or a list of files with the same columns, one below the other, which are found
            by their names; in YAML, relative to the YAML file.
        target: name of the target column, or its number counted from 0 in a file without a header; a list
            gives y of shape `(rows, columns)`, one gives `(rows,)` for labels and `(rows, 1)` for numbers.
        labels: True if the target is a class: whole numbers from 0 as they are, other numbers in their
            order, texts in sorted order; y is then int32, else float32.
        features: the columns of x.
        header: whether the first line holds the columns' names.
        delimiter: between cells.
        test_path: a further file, or several, held out, whose columns are found by the same names.
        test_fraction: the part held out at random if there is no `test_path`, of each class with labels.
        seed: seed of that split.
        max_bytes: the most that a file may take that is held in memory.
        text: the columns of x that are text, taken as they are.
        in_memory: False for a file that memory does not hold. It is read once to be looked over; then blocks
            of some thousand rows are read when a step needs them, and shuffling keeps to a few blocks at a
            time. The targets are in memory all the same.

    Raises:
        ValueError: a cell that is not a finite number or no label, with its line and column; numbers that
            float32 cannot keep apart; an unreadable file.
        KeyError: no column of that name.
    """
    targets = target if isinstance(target, list) else [target]
    if labels and len(targets) != 1:
        raise refused(ValueError, "expected one target column of labels", raised_by="csv", target=target)

    def wanted_columns(file: File) -> Table:
        """The columns that are asked for."""
        with concerning(target=target):
            ys = [file.place(name) for name in targets]
        with concerning(features=features):
            xs = [file.place(name) for name in features or []]
        xs = xs or [i for i in range(len(file.names)) if i not in ys]
        if not xs or set(xs) & set(ys):
            raise refused(
                ValueError,
                f"expected feature columns beside the target {target!r}",
                raised_by="csv",
                features=features,
            )
        with concerning(text=text):
            texts = {file.place(name) for name in text or []}
        if texts - set(xs):
            raise refused(ValueError, "expected text columns among those of x", raised_by="csv", text=text)
        named = [tuple(file.names[i] for i in places) for places in (xs, ys, sorted(texts))]
        return Table(named[0], tuple(xs), named[1], named[2], len(file.names), header, delimiter)

    def load(paths: Sequence[FilePath], like: Table | None = None) -> tuple[Table, Any, Any]:
        """The columns of several files, one below the other; those of the first one, if not `like` others."""
        table: Any = like
        inputs: Any = None
        y: Any = None
        marks, rows = [], [0]
        for path in paths:
            file = File(path, header, delimiter, max_bytes if in_memory else sys.maxsize)
            if table is not None and not header and len(file.names) != table.width:
                raise ValueError(f"{file.path}: expected {table.width} columns, received {len(file.names)}")
            table = table or wanted_columns(file)
            check_names(file.path, file.names, table.names)
            ys, xs = ([file.place(name) for name in names] for names in (targets, table.names))
            if inputs is None:
                inputs = Inputs(file, xs, {file.place(name) for name in table.text}, _TEXT, in_memory)
                y = Labels() if labels else Numbers(file, ys, _CLASS)
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

    with concerning(path=path):
        table, x, y = load(_several("path", path))
    with concerning(test_path=test_path):
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
