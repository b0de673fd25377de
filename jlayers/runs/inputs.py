"""Inputs for a run's model from files of arrays, tables, pictures or texts, read as its own data were."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jlayers.data.folders import FileRows
from jlayers.data.forms import rows_from, suffixes_of
from jlayers.data.images import SUFFIXES, ColorMode, ImageForm
from jlayers.data.numpy_files import read_npy, read_npz
from jlayers.data.table import read_like, read_numbers
from jlayers.runs.folder import Run
from jlayers.runs.restored import RunWarning

__all__ = ["names_of_rows", "read_inputs"]


def read_inputs(
    run: Run,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    header: bool | None = None,
    delimiter: str | None = None,
) -> Any:
    """The inputs of `predict_run` from a file; columns are found by the names that they had in training.

    A column that the run was not trained on is left out, with a `RunWarning`.

    Args:
        run: whose model is to be applied.
        paths: paths of a `.npy`, `.npz` or `.csv` file; for a run that was trained on pictures or texts, of
            one or several such files, or of folders with such files in them, which are taken in the order of
            their paths.
        header: whether a `.csv` file begins with the columns' names; as in the run's own data if not given.
        delimiter: between the cells of a `.csv` file; as in the run's own data if not given.

    Raises:
        ValueError: another kind of file, an unreadable one, or one without a column of the training data.
        FileNotFoundError: no such file.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    form, path = _form(run), pathlib.Path(several[0])
    if form is not None and all(_is_of(one, form) for one in several):
        rows = rows_from(several, form)
        return rows if run.form() is not None else _bytes(run, rows)
    if len(several) > 1:
        kinds = "" if form is None else f", or several files {', '.join(suffixes_of(form))}"
        raise ValueError(f"expected one file{kinds}, received {', '.join(map(str, several))}")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix != ".csv":
        raise ValueError(f"expected {_kinds(form, path)}, received {path}")
    table = run.table()
    if table is None:  # trained on other files
        return read_numbers(path, header is not False, delimiter or ",")
    x, unused = read_like(path, table, header, delimiter)
    if unused:
        text = f"{path}: columns that the run was not trained on are left out: {', '.join(unused)}"
        warnings.warn(text, RunWarning, stacklevel=2)
    return x


def names_of_rows(x: Any) -> tuple[str, ...]:
    """The files of inputs that are one file each; none for a single file and for arrays."""
    x = getattr(x, "whole", x)
    return x.files.names if isinstance(x, FileRows) and len(x) > 1 else ()


def _is_of(path: str | os.PathLike[str], form: Any) -> bool:
    return os.path.isdir(path) or pathlib.Path(path).suffix.lower() in suffixes_of(form)


def _kinds(form: Any, path: pathlib.Path) -> str:
    known = "a .npy, .npz or .csv file"
    if form is not None:
        return f"{known}, or a folder or files of {', '.join(suffixes_of(form))}"
    if path.suffix.lower() in SUFFIXES:
        return f"{known} (pictures are for runs that were trained on pictures of bytes: save them as arrays)"
    return known


def _form(run: Run) -> Any:
    """The rules by which the run's data were read; pictures also fit arrays of bytes of their shape."""
    form, inputs = run.form(), run.inputs()
    if form is not None or getattr(inputs, "dtype", None) != np.uint8:
        return form
    *sides, channels = inputs.shape[1:] if len(inputs.shape) == 4 else (*inputs.shape[1:], 1)
    modes: dict[int, ColorMode] = {1: "grayscale", 3: "rgb", 4: "rgba"}
    if len(sides) != 2 or channels not in modes:
        return None
    return ImageForm(tuple(sides), modes[channels])


def _bytes(run: Run, rows: FileRows) -> Any:
    shape = run.inputs().shape[1:]
    return rows.map(lambda images: np.round(images).astype(np.uint8).reshape(-1, *shape))
