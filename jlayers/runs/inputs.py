"""Inputs for a run's model from `.npy`, `.npz` and `.csv` files, read as the run's own data were."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jlayers.config.reader import read_file
from jlayers.data.npy import read_npy, read_npz
from jlayers.data.table import read_columns, read_numbers
from jlayers.runs.folder import Run

__all__ = ["read_inputs"]


def read_inputs(
    run: Run, path: str | os.PathLike[str], header: bool | None = None, delimiter: str | None = None
) -> Any:
    """What `predict_run` takes, from a file.

    Args:
        run: whose model is to be applied.
        path: of a `.npy`, `.npz` or `.csv` file.
        header: whether a `.csv` file begins with the columns' names; as in the run's own data if not given.
        delimiter: between the cells of a `.csv` file; as in the run's own data if not given.

    Raises:
        ValueError: another kind of file, or an unreadable one.
        FileNotFoundError: no such file.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path)
    if suffix != ".csv":
        raise ValueError(f"expected a .npy, .npz or .csv file, received {path}")
    form: dict[str, Any] = _csv_arguments(read_file(run.config).data)
    form = {"header": True, "delimiter": ",", **{k: form[k] for k in ("header", "delimiter") if k in form}}
    form |= {} if header is None else {"header": header}
    form |= {} if delimiter is None else {"delimiter": delimiter}
    inputs = run.inputs()
    text = [n for n, spec in inputs.items() if spec.dtype == object] if isinstance(inputs, Mapping) else []
    if text:
        return read_columns(path, list(inputs), text, **form)
    return read_numbers(path, **form)


def _csv_arguments(config: Any) -> dict[str, Any]:
    """The arguments of the dataset `csv`, which may stand inside another, such as `one_hot`."""
    if not isinstance(config, Mapping):
        return {}
    data = config.get("data")
    while isinstance(data, Mapping):
        if isinstance(found := data.get("csv"), Mapping):
            return dict(found)
        inner = [value for value in data.values() if isinstance(value, Mapping)]
        data = inner[0] if inner else None
    return {}
