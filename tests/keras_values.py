"""Keras's values, from Keras itself or from what was recorded of it.

`keras_values(compute)` gives what `compute()` returns: dicts, lists and tuples of arrays, numbers and names.
By default they are read from `tests/recorded/keras/`, so that Keras's programs need not be compiled.
`pytest -m live_keras` runs Keras; `pytest -n 0 --record-keras tests/test_x.py` runs it and writes down what
it gives.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "recorded" / "keras"
RECORDED, LIVE, RECORDING = "recorded", "live", "recording"
mode = RECORDED  # conftest.py sets it from the command line

made: dict[str, dict[str, Any]] = {}  # by test file, by row: what Keras gave in this run
read: dict[str, dict[str, Any]] = {}  # likewise, what was recorded
asked: dict[str, int] = {}  # how often each test asked


def keras_values(compute: Callable[[], Any], name: str | None = None) -> Any:
    """What `compute()` returns, live or recorded.

    The row is that of the running test. What several tests share (a fixture of a module) needs a `name`.
    """
    file, row = _running()
    if name is None:
        asked[row] = asked.get(row, 0) + 1
        name = row if asked[row] == 1 else f"{row} #{asked[row]}"
    if mode == RECORDED:
        return _recorded(file, name)
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Explicitly requested dtype")  # of Keras, by a newer JAX
        value = jax.tree.map(_plain, compute())
    made.setdefault(file, {})[name] = value
    if mode == LIVE:
        _recorded(file, name)  # the recording is complete
    return value


def comparing(items: list[Any]) -> list[Any]:
    """Those of the tests that have a recorded row; where tests share rows, all of their file."""
    by_file: dict[str, list[Any]] = {}
    for item in items:
        by_file.setdefault(item.path.stem, []).append(item)
    found = []
    for file, members in by_file.items():
        rows = {name.rpartition(" #")[0] or name for name in load(FOLDER / f"{file}.safetensors")}
        own = [item for item in members if item.nodeid.partition("::")[2] in rows]
        shared = any("test_" not in name for name in rows)
        found += members if shared else own
    return found


def command(file: str) -> str:
    return f"pytest -n 0 --record-keras tests/{file}.py"


def _running() -> tuple[str, str]:
    path, _, row = os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0].partition("::")
    return Path(path).stem, row


def _plain(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, (jax.Array, np.generic)) else leaf


def _recorded(file: str, name: str) -> Any:
    if file not in read:
        read[file] = load(FOLDER / f"{file}.safetensors")
    if name not in read[file]:
        raise LookupError(f"nothing is recorded of Keras for {name!r}: run {command(file)}")
    return read[file][name]


# ------------------------------------------------------------------------------------- files


def load(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with safe_open(path, "numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        rows = json.loads(file.metadata()["rows"])

    def decoded(form: Any) -> Any:
        if isinstance(form, list):
            return [decoded(f) for f in form]
        if not isinstance(form, dict):
            return form
        ((kind, value),) = form.items()
        if kind == "array":
            index, dtype = value
            array = arrays[index].view(jax.numpy.dtype(dtype))
            array.flags.writeable = False
            return array
        if kind == "tuple":
            return tuple(map(decoded, value))
        return {key: decoded(v) for key, v in value.items()}

    return {name: decoded(form) for name, form in rows.items()}


def save(path: Path, rows: dict[str, Any]) -> None:
    """The same rows give the same bytes."""
    arrays: dict[str, np.ndarray] = {}

    def encoded(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            index = f"{len(arrays):05}"
            plain = value.dtype.isbuiltin == 1
            array = np.ascontiguousarray(value).reshape(value.shape)
            arrays[index] = array if plain else array.view(f"uint{8 * value.dtype.itemsize}")
            return {"array": [index, str(value.dtype)]}
        if isinstance(value, dict):
            return {"dict": {key: encoded(v) for key, v in value.items()}}
        if isinstance(value, (list, tuple)):
            forms = [encoded(v) for v in value]
            return {"tuple": forms} if isinstance(value, tuple) else forms
        return value

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: encoded(rows[name]) for name in sorted(rows)}, separators=(",", ":"))
    save_file(arrays, path, {"rows": text})


def write(whole: bool) -> None:
    """Write down what Keras gave; `whole` files forget the rows that they no longer have."""
    for file, rows in made.items():
        path = FOLDER / f"{file}.safetensors"
        save(path, rows if whole else {**load(path), **rows})
