"""Parquet files looked at, as tables are."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from jlayers.core.errors import told_apart
from jlayers.experiments.starter.lines import Source
from jlayers.experiments.starter.tables import MOST_ROWS, Column, source_of

__all__ = ["look_at_parquet"]


def look_at_parquet(path: pathlib.Path, shown: str, target: str | None, task: str | None) -> Source:
    """A Parquet file, or a folder of them, as data for the task, with a column for the target.

    Raises:
        ValueError: a file that cannot be read, or a target that cannot be learned.
        ImportError: PyArrow is missing (`pip install 'jlayers[parquet]'`).
    """
    from jlayers.data.parquet import ParquetFiles

    files = ParquetFiles(path)
    columns = {name: Column(name, files.is_text(name)) for name in files.names}
    rows = 0
    for number, end in enumerate(files.ends.tolist()):
        for column in columns.values():
            if not column.refused:
                _add(column, files, number, rows)
        if end >= MOST_ROWS:
            break
        rows = end
    refused = [column for column in columns.values() if column.refused]
    if target in [column.name for column in refused]:
        raise ValueError(f"{path}, column {target!r}, the target: {columns[target].refused}")
    count = max(column.rows for column in columns.values())
    for column in refused:
        column.rows = count
    return source_of("parquet", path, shown, list(columns.values()), target, task)


def _add(column: Column, files: Any, number: int, first: int) -> None:
    """Read the cells of a row group, which begins with this row; or note why they cannot be read."""
    try:
        (array,) = files.read(number, [column.name])
    except ValueError as error:
        column.refused, _ = told_apart(error, named=False)
        return
    column.width = array.shape[1] if array.ndim == 2 else 1
    cells = array if array.dtype == object else array.reshape(len(array), -1)[:, 0].astype(float)
    for row, cell in enumerate(cells.tolist()):
        column.add(cell if isinstance(cell, str) else np.format_float_positional(cell, trim="-"), first + row)
