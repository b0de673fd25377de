"""Parameters and state in a safetensors file, by path: `params/dense/kernel`, `state/batch_norm/moving_mean`.

The format holds names, shapes, dtypes and bytes, and nothing that could run.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.registry import nearest
from jlayers.core.shapes import describe
from jlayers.core.tree import map_with_path
from jlayers.runs.files import write_atomically

__all__ = ["load_weights", "not_finite", "read_metadata", "save_weights"]


def save_weights(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write parameters and state to a safetensors file, whole or not at all.

    Args:
        path: of the file; one that is there is replaced.
        params: nested dict of arrays.
        state: nested dict of arrays.
        metadata: texts to keep beside the arrays, such as the epoch; see `read_metadata`.

    Raises:
        TypeError: a leaf is no array of numbers (PRNG keys: save `jax.random.key_data(key)`).
        ValueError: two arrays have the same path, as in `{"a/b": x, "a": {"b": y}}`.

    >>> import pathlib, tempfile, jlayers as jl, jax
    >>> from jlayers.runs import load_weights, save_weights
    >>> model = jl.Dense(2)
    >>> params, state = model.init(jax.random.key(0), (1, 3))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> save_weights(path, params, state)
    >>> loaded, _ = load_weights(path, params, state)
    >>> bool((loaded["kernel"] == params["kernel"]).all())
    True
    """
    from safetensors.numpy import save

    arrays = {}
    for name, leaf in _by_path({"params": params, "state": state or {}}).items():
        if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"{name}: expected an array of numbers, received {describe(leaf)}")
        arrays[name] = np.ascontiguousarray(leaf).reshape(np.shape(leaf))
    write_atomically(path, save(arrays, dict(metadata) if metadata else None))


def load_weights(
    path: str | os.PathLike[str], params: Mapping[str, Any], state: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and state from a safetensors file, exactly those that the model has.

    Args:
        path: of the file.
        params: what is expected: arrays, or the `jax.ShapeDtypeStruct`s of `jax.eval_shape(model.init, ...)`.
        state: the same for the state.

    Raises:
        ValueError: no safetensors file, or a weight that is missing, that the model does not have, or whose
            shape or dtype differs; all of them are listed. Or two weights of the model have the same path.
        FileNotFoundError: no such file.
    """
    found = _read(pathlib.Path(path))
    tree = {"params": params, "state": state or {}}
    expected = _by_path(tree)
    problems = []
    for name, leaf in expected.items():
        if name not in found:
            extra = [n for n in found if n not in expected]
            problems.append(
                f"missing {name}, {describe(leaf)}" + (f"; {nearest(name, extra)}" if extra else "")
            )
        elif found[name].shape != leaf.shape or found[name].dtype != leaf.dtype:
            problems.append(f"expected {name} as {describe(leaf)}, the file has {describe(found[name])}")
    problems += [f"unknown {n}, {describe(found[n])}" for n in sorted(found) if n not in expected]
    if problems:
        raise ValueError(f"{path} does not fit the model:\n  " + "\n  ".join(problems))
    loaded = map_with_path(lambda name, leaf: jnp.asarray(found[name]), tree)
    return loaded["params"], loaded["state"]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that `save_weights` kept beside the arrays.

    Raises:
        ValueError: no safetensors file.
        FileNotFoundError: no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file ({error})") from None


def not_finite(params: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """The paths of arrays that hold NaN or infinity.

    >>> not_finite({"dense": {"kernel": np.array([1.0, np.nan])}}, {"mean": np.zeros(2)})
    ['params/dense/kernel']
    """

    def bad(leaf: Any) -> bool:
        return jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(np.asarray(leaf)).all()

    arrays = _by_path({"params": params, "state": state})
    return [path for path, leaf in arrays.items() if bad(leaf)]


def _by_path(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a nested dict by path, each path once."""
    found: dict[str, Any] = {}

    def note(path: str, leaf: Any) -> None:
        if path in found:
            raise ValueError(
                f"two arrays have the path {path!r}, {describe(found[path])} and {describe(leaf)}; a file "
                f"would hold only one of them: rename one of the two layers or parameters, without '/'"
            )
        found[path] = leaf

    map_with_path(note, tree)
    return found


_DTYPES = {
    "BOOL": "bool",
    **{f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file; safetensors' own NumPy reader knows no bfloat16."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file ({error})") from None
    found = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{path}, {name}: the dtype {entry['dtype']} is unknown here")
        dtype = jnp.dtype(_DTYPES[entry["dtype"]])
        found[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return found
