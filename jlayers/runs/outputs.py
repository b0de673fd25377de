"""A model's outputs as named arrays, written to `.npy`, `.npz` and `.csv` files."""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.core.masks import Masked
from jlayers.core.precision import widen
from jlayers.core.shapes import describe
from jlayers.saving.files import replacing

__all__ = ["check_output", "named_outputs", "write_outputs"]

_SUFFIXES = (".npy", ".npz", ".csv")


def named_outputs(outputs: Any) -> dict[str, Any]:
    """Every output by name, arrays or `Masked`; half precision as float32, which all programs can read.

    >>> list(named_outputs((np.zeros(2), {"box": np.zeros((2, 4))})))
    ['output_0', 'output_1_box']
    """
    named: dict[str, Any] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, part in value.items():
                collect(f"{name}_{key}" if name else str(key), part)
        elif isinstance(value, (list, tuple)):
            for place, part in enumerate(value):
                collect(f"{name or 'output'}_{place}", part)
        else:
            named[name or "output"] = value

    collect("", widen(outputs))
    return named


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse, before any work, a file that cannot be written or that exists already.

    Raises:
        ValueError: another kind of file.
        FileExistsError: the file is there.
        FileNotFoundError: its folder is not.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"expected a .npy, .npz or .csv file to write, received --output {path}")
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already: choose another name for --output")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: make it first")


def write_outputs(path: str | os.PathLike[str], named: Mapping[str, Any]) -> None:
    """Write all outputs, whole or not at all.

    A `.npz` file holds each output under its name, and the mask of a masked one under `<name>_mask`. The
    other two hold one array without a mask; in a `.csv` file each sample is a line.

    Raises:
        ValueError: more than one output, or a mask, for a file of one array.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    arrays: dict[str, np.ndarray] = {}
    for name, output in named.items():
        masked = isinstance(output, Masked)
        arrays[name] = np.asarray(output.values if masked else output)
        if masked:
            arrays[f"{name}_mask"] = np.asarray(output.mask)
    if suffix != ".npz" and len(arrays) != 1:
        found = ", ".join(f"{name} {describe(array)}" for name, array in arrays.items())
        raise ValueError(
            f"expected a .npz file, which holds several arrays, received --output {path} for {found}"
        )
    with replacing(path) as file:
        if suffix == ".npz":
            _write_npz(file, arrays)
            return
        (array,) = arrays.values()
        if suffix == ".npy":
            np.save(file, array, allow_pickle=False)
        else:
            _write_csv(file, array)


def _write_npz(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """As `np.savez`, which has no room for an array called "file"."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_csv(file: Any, array: np.ndarray) -> None:
    rows = array.reshape(len(array), -1 if array.size else 0)
    digits = 17 if rows.dtype.itemsize > 4 else 9  # enough to read the same numbers again
    np.savetxt(file, rows, fmt=f"%.{digits}g" if rows.dtype.kind == "f" else "%d", delimiter=",")
