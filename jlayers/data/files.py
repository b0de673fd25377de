"""Data from files of arrays: `.npz`, `.npy` and the MNIST formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jlayers.core.errors import concerning, refused
from jlayers.data.dataset import Dataset, FilePath, register
from jlayers.data.gate import as_dtype
from jlayers.data.idx import read_idx
from jlayers.data.numpy_files import read_npy, read_npz
from jlayers.data.reading import MAX_BYTES
from jlayers.data.split import hold_out

__all__ = ["mnist", "npy", "npz"]


@register
def npz(
    path: FilePath,
    x: str | list[str] = "x",
    y: str | list[str] = "y",
    x_test: str | list[str] | None = None,
    y_test: str | list[str] | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Arrays of a `.npz` file by their names.

    Floating arrays become float32, whole numbers int32 (labels, tokens), unsigned bytes stay (images).

    Args:
        path: path of the file; in YAML, relative to the YAML file.
        x: name of the inputs; a list gives a model of several inputs each under its name.
        y: name of the targets; a list for a model of several outputs.
        x_test: name of the held-out inputs; with a list, in the order of `x`.
        y_test: name of the held-out targets; with a list, in the order of `y`.
        test_fraction: the part held out at random if there is no `x_test`, of each class with labels.
        seed: seed of that split.
        max_bytes: the most that the arrays may take together.

    Raises:
        ValueError: a damaged or too large file, or arrays that hold Python objects (pickles are not read).
        KeyError: no array of that name.
    """
    if (x_test is None) != (y_test is None):
        raise refused(
            ValueError, "expected x_test and y_test together", raised_by="npz", x_test=x_test, y_test=y_test
        )

    def names(value: str | list[str]) -> list[str]:
        return value if isinstance(value, list) else [value]

    wanted = [key for value in (x, y, x_test or [], y_test or []) for key in names(value)]
    with concerning(path=path):
        arrays = read_npz(path, list(dict.fromkeys(wanted)), max_bytes)
        arrays = {key: _plain(array, f"{path}, {key}") for key, array in arrays.items()}

    def tree(called: str | list[str], value: str | list[str]) -> Any:
        if isinstance(called, str) != isinstance(value, str) or len(names(called)) != len(names(value)):
            raise refused(
                ValueError,
                f"expected held-out arrays in the form of the training arrays {called!r}: one name for one, "
                f"a list for a list",
                raised_by="npz",
                **{("x_test" if value is x_test else "y_test"): value},
            )
        if isinstance(value, str):
            return arrays[value]
        return {name: arrays[key] for name, key in zip(called, value, strict=True)}

    train = (tree(x, x), tree(y, y))
    if x_test is not None and y_test is not None:
        return Dataset(Path(path).stem, train, (tree(x, x_test), tree(y, y_test)))
    return Dataset(Path(path).stem, *hold_out(*train, test_fraction, seed))


@register
def npy(
    x: FilePath,
    y: FilePath,
    x_test: FilePath | None = None,
    y_test: FilePath | None = None,
    test_fraction: float = 0.0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Arrays of `.npy` files, one for the inputs and one for the targets; dtypes as in `npz`.

    Args:
        x: path of the inputs; in YAML, relative to the YAML file.
        y: path of the targets.
        x_test: path of the held-out inputs.
        y_test: path of the held-out targets.
        test_fraction: the part held out at random if there is no `x_test`, of each class with labels.
        seed: seed of that split.
        max_bytes: the most that one array may take.

    Raises:
        ValueError: a damaged or too large file, or arrays that hold Python objects (pickles are not read).
    """
    if (x_test is None) != (y_test is None):
        raise refused(
            ValueError, "expected x_test and y_test together", raised_by="npy", x_test=x_test, y_test=y_test
        )

    def load(**named: FilePath) -> np.ndarray:
        (path,) = named.values()
        with concerning(**named):
            return _plain(read_npy(path, max_bytes), str(path))

    train = (load(x=x), load(y=y))
    if x_test is not None and y_test is not None:
        return Dataset(Path(x).stem, train, (load(x_test=x_test), load(y_test=y_test)))
    return Dataset(Path(x).stem, *hold_out(*train, test_fraction, seed))


def _plain(array: np.ndarray, where: str) -> np.ndarray:
    """Float32, int32 or bytes: what models take, whatever precision the file was saved in."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind in "fiub":
        return as_dtype(where, array, np.float32 if array.dtype.kind == "f" else np.int32)
    raise ValueError(f"{where}: expected real numbers, received {array.dtype}{array.shape}")


_IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@register
def mnist(path: FilePath, max_bytes: int = MAX_BYTES) -> Dataset:
    """MNIST, or a set in its format (Fashion-MNIST, KMNIST), from files that you have.

    x is float32 `(samples, height, width, 1)` in [0, 1]; y is int32 `(samples,)`.

    Args:
        path: of `mnist.npz` as Keras saves it, or of a folder with the four IDX files, plain or `.gz`,
            under the names that they were published with; in YAML, relative to the YAML file.
        max_bytes: the most that one array may take.

    Raises:
        ValueError: files that are damaged, too large, or do not belong together.
        FileNotFoundError: a file is missing.
    """
    path = Path(path)
    with concerning(path=path):
        if path.is_dir():
            arrays = {name: read_idx(_find(path, file), max_bytes) for name, file in _IDX.items()}
        else:
            arrays = read_npz(path, list(_IDX), max_bytes)

    def pair(part: str) -> tuple[np.ndarray, np.ndarray]:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 3 or x.dtype != np.uint8 or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            raise ValueError(
                f"{path}, {part}: expected images as bytes (samples, height, width) and as many labels, "
                f"received {x.dtype}{x.shape} and {y.dtype}{y.shape}"
            )
        return x[..., None].astype(np.float32) / np.float32(255), as_dtype(f"{path}, y_{part}", y, np.int32)

    return Dataset(path.stem, pair("train"), pair("test"))


def _find(folder: Path, name: str) -> Path:
    dotted = ".idx".join(name.rsplit("-idx", 1))
    names = [form + end for form in (name, dotted) for end in ("", ".gz")]
    found = next((folder / n for n in names if (folder / n).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder}: expected a file named {' or '.join(names)}, and there is none")
    return found
