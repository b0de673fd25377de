"""Labels written as texts made into class numbers, once it is clear what each of them is."""

from __future__ import annotations

import array
import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Labels", "encode", "is_missing", "number"]

# What tables write where a value is missing: pandas' list.
_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
_MISSING |= {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
_MOST_WHOLE = 100_000  # above that, whole numbers are names


def is_missing(text: str) -> bool:
    return text in _MISSING


def number(text: str) -> float:
    """The number that a cell of a table holds, else NaN; `1_000` is Python's and no table's number."""
    if "_" in text or not text.isascii():
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


class Labels:
    """A column of labels, read cell by cell, of one file or of several one after the other."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.seen: list[tuple[Callable[[int], str], int]] = []  # of each text, where it is first seen
        self.codes = array.array("q")

    def turn(self, place: int, where: Callable[[int], str]) -> None:
        """Go on with a file, whose column is at `place`; `where` makes words such as "t.csv, line 3"."""
        self.place, self.where = place, where

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, row: list[str], line: int) -> None:
        text = row[self.place].strip()
        code = self.known.get(text)
        if code is None:
            if is_missing(text):
                raise ValueError(
                    f"{self.where(line)}: expected a label, received {text!r}, which stands for a missing "
                    f"value; fill it in or remove the row (if it is the name of a class, rename the class)"
                )
            code = self.known[text] = len(self.known)
            self.seen.append((self.where, line))
        self.codes.append(code)

    def found(self, text: str) -> str:
        """The place at which a text was first seen."""
        where, line = self.seen[self.known[text]]
        return where(line)

    def counts(self) -> dict[str, int]:
        found = np.bincount(np.frombuffer(self.codes, np.int64), minlength=len(self.known))
        return dict(zip(self.known, found.tolist(), strict=True))


def encode(train: Labels, test: Labels | None = None) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels as int32 `(rows,)` for each column, and what 0, 1, ... stand for.

    Whole numbers from 0 stay as they are, other numbers are numbered in their order, texts in sorted order.

    Raises:
        ValueError: a few texts among numbers or the reverse, or a label that only the held-out data have.
    """
    both = [train] if test is None else [train, test]
    numbers = {text: number(text) for column in both for text in column.known}
    for column in both:
        _refuse_odd_ones(column, numbers)
    if test is not None:
        _refuse_new_ones(train, test, numbers)
    if any(math.isnan(value) for value in numbers.values()):
        names = sorted(numbers)
        codes = {text: i for i, text in enumerate(names)}
    elif all(_is_whole(value) and 0 <= value < _MOST_WHOLE for value in numbers.values()):
        codes = {text: int(value) for text, value in numbers.items()}
        names = [str(i) for i in range(max(codes.values()) + 1)]
    else:
        values = sorted(set(numbers.values()))
        codes = {text: values.index(value) for text, value in numbers.items()}
        names = [min((t for t in numbers if numbers[t] == v), key=lambda t: (len(t), t)) for v in values]
    return [_codes_of(column, codes) for column in both], tuple(names)


def _codes_of(column: Labels, codes: dict[str, int]) -> np.ndarray:
    table = np.array([codes[text] for text in column.known], np.int32)
    return table[np.frombuffer(column.codes, np.int64)]


def _is_whole(value: float) -> bool:
    return math.isfinite(value) and value == round(value)


def _refuse_odd_ones(column: Labels, numbers: dict[str, float]) -> None:
    """A typo in a column of numbers would make names of all of them, and other classes."""
    counts = column.counts()

    def rows(texts: list[str]) -> int:
        return sum(counts[text] for text in texts)

    texts = [text for text in column.known if math.isnan(numbers[text])]
    others = [text for text in column.known if text not in texts]
    fractions = [text for text in others if not _is_whole(numbers[text])]
    wholes = [text for text in others if text not in fractions]
    if texts and rows(texts) < rows(others):
        _refuse(column, texts[0], "a number", "if all are names, write none of them as a plain number")
    if texts and others and (rows(others) == 1 or rows(others) < 0.1 * rows(texts)):
        _refuse(column, others[0], "a name", "if it is one, write it so that it is not a plain number")
    if not texts and fractions and rows(fractions) < rows(wholes):
        _refuse(column, fractions[0], "a whole number", "correct it, or name the classes by words")


def _refuse(column: Labels, text: str, expected: str, fix: str) -> None:
    raise ValueError(
        f"{column.found(text)}: expected {expected}, as most labels are, received {text!r}; {fix}"
    )


def _refuse_new_ones(train: Labels, test: Labels, numbers: dict[str, float]) -> None:
    known: set[Any] = set(train.known) | {numbers[text] for text in train.known} - {math.nan}
    new = [text for text in test.known if text not in known and numbers[text] not in known]
    if new:
        shown = ", ".join(sorted(train.known)[:12]) + (", ..." if len(train.known) > 12 else "")
        raise ValueError(
            f"{test.found(new[0])}: expected a label of the training data ({shown}), received {new[0]!r}; "
            f"add such samples to the training data, or remove these"
        )
