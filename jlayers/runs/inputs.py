"""Inputs for a run's model from `.npy`, `.npz` and `.csv` files, read as the run's own data were."""

from __future__ import annotations

import os
import pathlib
import warnings
from typing import Any

from jlayers.data.forms import rows_from, suffixes_of
from jlayers.data.npy import read_npy, read_npz
from jlayers.data.table import read_like, read_numbers
from jlayers.runs.folder import Run
from jlayers.runs.restored import RunWarning

__all__ = ["read_inputs"]


def read_inputs(
    run: Run, path: str | os.PathLike[str], header: bool | None = None, delimiter: str | None = None
) -> Any:
    """The inputs of `predict_run` from a file; columns are found by the names that they had in training.

    A column that the run was not trained on is left out, with a `RunWarning`.

    Args:
        run: whose model is to be applied.
        path: of a `.npy`, `.npz` or `.csv` file; for a run that was trained on a folder of images or texts,
            of such a file, or of a folder with such files in it, which are taken in the order of their paths.
        header: whether a `.csv` file begins with the columns' names; as in the run's own data if not given.
        delimiter: between the cells of a `.csv` file; as in the run's own data if not given.

    Raises:
        ValueError: another kind of file, an unreadable one, or one without a column of the training data.
        FileNotFoundError: no such file.
    """
    form, path = run.form(), pathlib.Path(path)
    suffix = path.suffix.lower()
    if form is not None and (path.is_dir() or suffix in suffixes_of(form)):
        return rows_from(path, form)
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix != ".csv":
        kinds = "" if form is None else f", or a folder or a file of {', '.join(suffixes_of(form))}"
        raise ValueError(f"expected a .npy, .npz or .csv file{kinds}, received {path}")
    table = run.table()
    if table is None:  # trained on other files
        return read_numbers(path, header is not False, delimiter or ",")
    x, unused = read_like(path, table, header, delimiter)
    if unused:
        text = f"{path}: columns that the run was not trained on are left out: {', '.join(unused)}"
        warnings.warn(text, RunWarning, stacklevel=2)
    return x
