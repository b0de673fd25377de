"""CSV files looked at: which columns are numbers, categories or texts, and which one is the target."""

from __future__ import annotations

import itertools
import math
import pathlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from jlayers.core.errors import refused
from jlayers.core.spelling import nearest
from jlayers.data.labels import is_missing, number
from jlayers.data.reading import Records
from jlayers.experiments.starter.lines import Call, Commented, Source, flow, line

__all__ = ["Column", "look_at_table", "source_of"]

MOST_ROWS = 100_000  # that are looked at
MOST_KINDS = 1000  # different cells of a column that are told apart
MOST_CLASSES = 100
_TARGETS = ("target", "label", "labels", "class", "classes", "category", "y", "outcome")
_DELIMITERS = ",;\t|"


class Column:
    """The kind of the cells of a column."""

    def __init__(self, name: str, text: bool = False, width: int = 1):
        self.name, self.text, self.width = name, text, width  # text although its cells may look like numbers
        self.refused = ""  # why it cannot be read as an input
        self.rows = self.missing = self.numbers = self.words = 0
        self.first_missing = 0
        self.texts: list[tuple[int, str]] = []  # some that are not numbers, with their lines
        self.kinds: set[str] = set()
        self.whole = True
        self.low, self.high = math.inf, -math.inf

    def add(self, cell: str, row: int) -> None:
        cell = cell.strip()
        self.rows += 1
        if len(self.kinds) < MOST_KINDS:
            self.kinds.add(cell)
        if is_missing(cell):
            self.missing += 1
            self.first_missing = self.first_missing or row
            return
        value = number(cell)
        if math.isfinite(value):
            self.numbers += 1
            self.low, self.high = min(self.low, value), max(self.high, value)
            self.whole = self.whole and value == round(value)
        elif len(self.texts) < 3:
            self.texts.append((row, cell))
        self.words += cell.count(" ") + 1

    @property
    def given(self) -> int:
        return self.rows - self.missing

    @property
    def is_number(self) -> bool:
        return not self.text and self.numbers > 0.9 * self.given

    @property
    def blurred(self) -> bool:
        """True if float32 cannot keep its numbers apart, as `csv` would say."""
        step = float(np.spacing(np.float32(max(abs(self.low), abs(self.high))))) / 2
        return (
            self.whole and max(abs(self.low), abs(self.high)) > 2**24 and step > 0.01 * (self.high - self.low)
        )

    @property
    def unusable(self) -> str:
        """Why the column says nothing that a model could use, or nothing."""
        if self.refused:
            return self.refused
        if not self.given:
            return "empty"
        if len(self.kinds) == 1:
            return "the same value in every row"
        if self.is_number:
            if self.missing:
                return f"{self.missing} values are missing, the first on line {self.first_missing}"
            if self.blurred:
                return "numbers too large to be told apart in float32; subtract an offset"
            counts = self.whole and len(self.kinds) == self.rows and self.high - self.low == self.rows - 1
            return "counts the rows" if counts and self.rows > 2 else ""
        names_rows = len(self.kinds) >= min(self.rows, MOST_KINDS) and self.words == self.given
        return "another text in every row" if names_rows else ""

    @property
    def is_category(self) -> bool:
        return len(self.kinds) <= min(50, max(2, self.rows // 4))


def look_at_table(path: pathlib.Path, shown: str, target: str | None, task: str | None) -> Source:
    """A CSV file as data for the task, with a column for the target.

    Raises:
        ValueError: no table, cells that are not numbers among numbers, a target that cannot be learned.
    """
    delimiter, header, columns = _read(path)
    more: dict[str, Commented] = {}
    if not header:
        more["header"] = Commented(False, "the first line is a row already")
    if delimiter != ",":
        more["delimiter"] = Commented(delimiter, "between the cells")
    return source_of("csv", path, shown, columns, target, task, header, more)


def source_of(
    kind: str,
    path: pathlib.Path,
    shown: str,
    columns: list[Column],
    target: str | None,
    task: str | None,
    named_columns: bool = True,
    more: Mapping[str, Commented] = MappingProxyType({}),
) -> Source:
    """Columns that were looked at as data for the task.

    Args:
        kind: the name of the dataset.
        path: path of the file.
        shown: how the configuration names it.
        columns: in their order.
        target: the column to predict, or None for a guess.
        task: "classification", "regression", or None for a guess.
        named_columns: False if their names are their numbers.
        more: arguments of the dataset.

    Raises:
        ValueError: cells that are not numbers among numbers, a target that cannot be learned.
    """
    by_name = {column.name: column for column in columns}
    named = target if target is not None else _target([c.name for c in columns if not c.refused])
    if named not in by_name:
        raise ValueError(f"{path} has no column {named!r} for --target: {nearest(named, by_name)}")
    goal = by_name[named]
    for column in columns:
        if column.is_number and column.texts:
            row, cell = column.texts[0]
            raise ValueError(
                f"{path}, line {row}, column {column.name!r}: expected a number, as in most rows, received "
                f"{cell!r}; correct it, or leave the cell empty"
            )
    labels = _is_class(goal, path, task)
    left_out = {c.name: c.unusable for c in columns if c is not goal and c.unusable}
    used = [c for c in columns if c is not goal and not c.unusable]
    if not used:
        raise ValueError(
            f"{path}: expected columns to learn from besides {goal.name!r}, received none: {left_out}"
        )
    rows = f"{columns[0].rows:,}{' or more' if columns[0].rows == MOST_ROWS else ''}"
    seen = [f"A table of {rows} rows and {len(columns)} columns."]
    for why in dict.fromkeys(left_out.values()):
        names = ", ".join(name or "a column without a name" for name in left_out if left_out[name] == why)
        seen.append(f"Left out: {names} ({why}).")
    texts = [c.name for c in used if not c.is_number]

    def key(name: str) -> Any:
        return name if named_columns else int(name)

    sure = target is not None or named.lower() in _TARGETS
    guess = "the column to predict" + ("" if sure else "; a guess: jlayers init --target COLUMN sets another")
    arguments = {
        "path": Commented(str(path), "relative to this file", shown),
        "target": Commented(key(named), guess),
    }
    if labels:
        arguments["labels"] = Commented(True, "the target is a class, not an amount")
    if left_out:
        arguments["features"] = Commented([key(c.name) for c in used], "the columns to learn from")
    if texts and kind == "csv":  # other files say it themselves
        arguments["text"] = Commented([key(name) for name in texts], "those that hold texts")
    arguments |= more
    arguments["test_fraction"] = Commented(
        0.2, "held out for the final test, at random, the same in every run"
    )
    arguments["seed"] = Commented(0, "of that choice")
    if not texts and all(column.width == 1 for column in used):
        normalized = [line("x: Normalization", "every column to mean 0 and variance 1, by the training rows")]
        return Source(seen, Call(kind, arguments), labels, normalized, _dense())
    alone = len(used) == 1 and kind == "csv"
    preprocess = [_preprocessor_line(column, alone) for column in used]
    layers = (
        _tokens()
        if alone and not used[0].is_category
        else [*([] if alone else _side_by_side(used)), *_dense()]
    )
    return Source(seen, Call(kind, arguments), labels, preprocess, layers)


def _read(path: pathlib.Path) -> tuple[str, bool, list[Column]]:
    """The delimiter, whether there is a header, and the columns."""
    widths = {}
    for delimiter in _DELIMITERS:
        try:
            first = [len(row) for _, row in itertools.islice(Records(path, delimiter), 20)]
        except ValueError:
            continue
        widths[delimiter] = (len(set(first)) == 1 and first[0] > 1, max(first, default=0))
    delimiter = max(widths, key=lambda d: widths[d], default=",")
    records = Records(path, delimiter)
    start = next(records, None)
    if start is None:
        raise ValueError(f"{path}: expected a table, received an empty file")
    cells = [cell.strip() for cell in start[1]]
    if len(cells) < 2:
        raise ValueError(
            f"{path}: expected two columns or more, with a comma, semicolon, tab or | between them, received "
            f"{len(cells)}"
        )
    header = all(math.isnan(number(cell)) for cell in cells) and len(set(cells)) == len(cells)
    columns = [Column(cell if header else str(i)) for i, cell in enumerate(cells)]
    rows = records if header else itertools.chain([start], records)
    for row, given in itertools.islice(rows, MOST_ROWS):
        if len(given) != len(columns):
            raise ValueError(f"{path}, line {row}: expected {len(columns)} cells, received {len(given)}")
        for column, cell in zip(columns, given, strict=True):
            column.add(cell, row)
    records.close()
    if not columns[0].rows:
        raise ValueError(f"{path}: expected rows below the header, received none")
    return delimiter, header, columns


def _target(names: list[str]) -> str:
    """The column with a name that targets have, else the last one."""
    return next((name for wanted in _TARGETS for name in names if name.lower() == wanted), names[-1])


def _is_class(goal: Column, path: pathlib.Path, task: str | None) -> bool:
    """True if the target is a class."""
    where = f"{path}, column {goal.name!r}, the target"
    if goal.missing:
        raise ValueError(
            f"{where}: {goal.missing} values are missing, the first on line {goal.first_missing}; remove "
            f"these rows"
        )
    if len(goal.kinds) < 2:
        raise ValueError(f"{where}: expected values that differ, received the same in every row")
    few = len(goal.kinds) <= min(MOST_CLASSES, max(2, goal.rows // 5))
    if not goal.is_number:
        if task == "regression":
            raise refused(ValueError, f"{where}: expected numbers, received texts", task=task)
        if not few:
            raise ValueError(
                f"{where}: expected classes of several rows each, received {len(goal.kinds)} different texts "
                f"in {goal.rows} rows; name another column by --target"
            )
        return True
    if task is not None:
        return task == "classification"
    return goal.whole and few and len(goal.kinds) <= 20


def _dense() -> list[str]:
    return [
        line("- Dense: {units: 64, activation: relu}", "more units or layers learn more, and need more rows"),
        line("- Dropout: 0.2", "against learning the rows by heart"),
        "- Dense: {units: 64, activation: relu}",
    ]


def _preprocessor_line(column: Column, alone: bool) -> str:
    name = flow(column.name)
    if column.is_number:
        return line(f"{name}: Normalization", "to mean 0 and variance 1, by the training rows")
    if column.is_category:
        return line(
            f"{name}: {{StringLookup: {{output_mode: one_hot}}}}", "one of a few texts: a 1 at its place"
        )
    if alone:
        return line(
            f"{name}: {{TextVectorization: {{max_tokens: 10000, output_sequence_length: 100}}}}",
            "the first 100 words of a text as numbers",
        )
    return line(
        f"{name}: {{TextVectorization: {{max_tokens: 1000, output_mode: tf_idf}}}}",
        "how often the most frequent words occur",
    )


def _tokens() -> list[str]:
    return [
        line(
            "- Embedding: {input_dim: 10000, output_dim: 32, mask_zero: true}",
            "a vector for each of the max_tokens words",
        ),
        line("- GlobalAveragePooling1D", "the mean over the words of a text"),
        line("- Dropout: 0.3", "against learning the texts by heart"),
    ]


def _side_by_side(columns: list[Column]) -> list[str]:
    """A layer that puts the columns, each an input of its own, side by side."""
    nodes: dict[str, str] = {}
    for column in columns:
        node = re.sub(r"\W+", "_", column.name, flags=re.ASCII).strip("_") or "column"
        while node in nodes.values() or node == "all":
            node += "_"
        nodes[column.name] = node
    width = {column.name: column.width if column.is_number else None for column in columns}
    return [
        line("- Model:", "each column is an input of its own: put them side by side"),
        f"    inputs: {flow(nodes)}",
        "    nodes:",
        *(f"      {node}: {flow({'input': [width[name]]})}" for name, node in nodes.items()),
        f"      all: {flow({'layer': 'Concatenate', 'inputs': list(nodes.values())})}",
        "    outputs: all",
    ]
