"""Parameters and state in a safetensors file, by path: `params/dense/kernel`, `state/batch_norm/moving_mean`.

The format holds names, shapes, dtypes and bytes, and nothing that could run.
"""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.calls import taught
from jlayers.core.errors import about, of_file, refused
from jlayers.core.layer import Layer
from jlayers.core.shapes import describe
from jlayers.core.spelling import nearest
from jlayers.core.tree import map_with_path
from jlayers.data.dataset import fingerprint
from jlayers.interop.keras_file import keras_content
from jlayers.interop.limits import refused_file
from jlayers.interop.safetensors import read_safetensors
from jlayers.saving.files import write_atomically

__all__ = [
    "WeightsReport",
    "arrays_by_path",
    "differences",
    "load_exactly",
    "not_finite",
    "read_metadata",
    "save_weights",
    "to_bytes",
    "weights_hash",
]


@taught
def save_weights(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    model: Layer | None = None,
) -> None:
    """Write parameters and state to a file, whole or not at all.

    The suffix says which kind: `.npz` for NumPy, `.weights.h5` for Keras, which loads it into a model of the
    same architecture; anything else is a safetensors file, which PyTorch's users can read, too. In `.npz` and
    safetensors an array stands under its path, such as `params/dense/kernel`.

    Args:
        path: path of the file; one that is there is replaced.
        params: nested dict of arrays.
        state: nested dict of arrays.
        metadata: texts to keep beside the arrays, such as the epoch; see `read_metadata`. Safetensors only.
        model: the layer that the arrays belong to; a `.weights.h5` needs it.

    Raises:
        TypeError: a leaf is not an array of numbers (PRNG keys: save `jax.random.key_data(key)`), or bfloat16
            in an `.npz`, which does not know it.
        ValueError: two arrays have the same path, as in `{"a/b": x, "a": {"b": y}}`. For Keras: no model, or
            one with layers that Keras does not have.
        ImportError: a `.weights.h5` without h5py: `pip install 'jlayers[interop]'`.

    >>> import pathlib, tempfile, jlayers as jl, jax
    >>> model = jl.Dense(2)
    >>> params, state = model.init(jax.random.key(0), (1, 3))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> jl.save_weights(path, params, state)
    >>> loaded, _ = jl.load_weights(path, params, state)
    >>> bool((loaded["kernel"] == params["kernel"]).all())
    True
    """
    tree, name = {"params": params, "state": state or {}}, str(path)
    if metadata and name.endswith((".npz", ".h5")):
        raise refused(
            ValueError, "expected a .safetensors file for texts", raised_by="save_weights", metadata=metadata
        )
    if name.endswith(".npz"):
        content = _npz(tree)
    elif name.endswith(".h5"):
        if model is None or not name.endswith(".weights.h5"):
            raise refused(
                ValueError,
                "expected a path that ends in .weights.h5 and the model, whose layers Keras counts",
                instead="write model=model",
                raised_by="save_weights",
                path=name,
                model=model,
            )
        content = keras_content(model, params, state or {})
    else:
        content = to_bytes(tree, metadata)
    write_atomically(path, content)


def _npz(tree: Mapping[str, Any]) -> bytes:
    """The content of an `.npz` file."""
    arrays = _numbers(tree)
    if half := [name for name, leaf in arrays.items() if leaf.dtype.isbuiltin != 1]:
        raise TypeError(
            f"{half[0]}: expected a dtype of NumPy in an .npz file, received {describe(arrays[half[0]])}; "
            f"save as .safetensors"
        )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # np.savez takes names as arguments, and some are its own
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return file.getvalue()


def to_bytes(tree: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file with the arrays of a nested dict, each under its path."""
    from safetensors.numpy import save

    return save(_numbers(tree), dict(metadata) if metadata else None)


def _numbers(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a nested dict by path."""
    arrays = {}
    for name, leaf in arrays_by_path(tree).items():
        if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"{name}: expected an array of numbers, received {describe(leaf)}")
        arrays[name] = np.ascontiguousarray(leaf).reshape(np.shape(leaf))
    return arrays


def weights_hash(params: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> str:
    """A SHA-256 over paths, shapes, dtypes and bytes of all arrays: equal bits, equal hash.

    >>> a, b = ({"dense": {"kernel": np.float32([zero])}} for zero in (0.0, -0.0))
    >>> weights_hash(a) == weights_hash(a), weights_hash(a) == weights_hash(b)
    (True, False)
    """
    return fingerprint(_numbers({"params": params, "state": state or {}}))


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """The paths that `load_weights` has filled or left, where not everything had to fit.

    Attributes:
        loaded: from the file.
        missing: not in the file; they stay as they were given, or are drawn.
        misshapen: of another shape or dtype in the file, as sentences; likewise.
        extra: in the file only.
        sources: for each array that was loaded the names that it, or its parts, have in the file.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    extra: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        kept = [f"missing {path}" for path in self.missing] + list(self.misshapen)
        lines = [*kept, *(f"unused {path}" for path in self.extra)]
        total = len(self.loaded) + len(kept)
        return "\n  ".join([f"{len(self.loaded)} of {total} arrays loaded", *lines])


@taught
def load_exactly(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    *,
    partial: bool = False,
) -> Any:
    """Parameters and state from a safetensors file, exactly those that the model has.

    Args:
        path: path of the file.
        params: what is expected: arrays, or the `jax.ShapeDtypeStruct`s of `jax.eval_shape(model.init, ...)`.
        state: the same for the state.
        partial: load the arrays whose path, shape and dtype fit, and keep the given ones elsewhere.

    Returns:
        `(params, state)`; with `partial`, `(params, state, report)`.

    Raises:
        ValueError: no safetensors file, or an array that is missing, that the model does not have, or whose
            shape or dtype differs; all of them are listed. With `partial`, if no array fits, or if one that
            is to stay is not an array. Or two arrays of the model have the same path.
        FileNotFoundError: no such file.

    Example: a new head on trained features.

    >>> import pathlib, tempfile, jlayers as jl, jax
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "old.safetensors"
    >>> old = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
    >>> jl.save_weights(path, *old.init(jax.random.key(0), (1, 4)))
    >>> new = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(5, name="head"))
    >>> params, state = new.init(jax.random.key(1), (1, 4))
    >>> params, state, report = jl.load_weights(path, params, state, partial=True)
    >>> print(report)
    2 of 4 arrays loaded
      expected params/head/kernel as float32(8, 5), the file has float32(8, 2)
      expected params/head/bias as float32(5,), the file has float32(2,)
    """
    found = read_safetensors(path)
    tree = {"params": params, "state": state or {}}
    expected = arrays_by_path(tree)
    if not partial and (problems := differences(found, expected)):
        raise of_file(ValueError(f"{path} does not fit the model:\n  " + "\n  ".join(problems)), path)
    extra = tuple(sorted(set(found) - set(expected)))
    missing = tuple(name for name in expected if name not in found)
    misshapen = _misshapen(found, expected)
    lost = {*missing, *misshapen}
    if expected and len(lost) == len(expected):
        first = next(iter(expected))
        error = ValueError(
            f"{path} holds no array that fits the model: expected arrays such as {first}, received "
            f"{', '.join(sorted(found)[:3]) or 'none'}; {nearest(first, found)}"
        )
        raise of_file(error, path)
    if shapes := [name for name in lost if isinstance(expected[name], jax.ShapeDtypeStruct)]:
        error = ValueError(
            f"{path} does not hold {shapes[0]}: expected an array to keep in its place, received a shape; "
            f"give the arrays of model.init"
        )
        raise about(error, params=params)
    loaded = map_with_path(lambda name, leaf: leaf if name in lost else jnp.asarray(found[name]), tree)
    if not partial:
        return loaded["params"], loaded["state"]
    taken = tuple(name for name in expected if name not in lost)
    return loaded["params"], loaded["state"], WeightsReport(taken, missing, tuple(misshapen.values()), extra)


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """In what arrays differ from those that are expected, a sentence for each path.

    >>> differences({"kernl": np.zeros(2)}, {"kernel": np.zeros(2)})[0]
    "missing kernel, float64(2,); did you mean 'kernl'?"
    """
    extra = sorted(set(found) - set(expected))
    return [
        *(
            f"missing {path}, {describe(leaf)}" + (f"; {nearest(path, extra)}" if extra else "")
            for path, leaf in expected.items()
            if path not in found
        ),
        *_misshapen(found, expected).values(),
        *(f"unknown {path}, {describe(found[path])}" for path in extra),
    ]


def _misshapen(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, str]:
    return {
        path: f"expected {path} as {describe(leaf)}, the file has {describe(found[path])}"
        for path, leaf in expected.items()
        if path in found and (found[path].shape, found[path].dtype) != (leaf.shape, leaf.dtype)
    }


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
        raise refused_file(path, f"expected a safetensors file ({error})") from None


def not_finite(params: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """The paths of arrays that hold NaN or infinity.

    >>> not_finite({"dense": {"kernel": np.array([1.0, np.nan])}}, {"mean": np.zeros(2)})
    ['params/dense/kernel']
    """

    def bad(leaf: Any) -> bool:
        return jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(np.asarray(leaf)).all()

    arrays = arrays_by_path({"params": params, "state": state})
    return [path for path, leaf in arrays.items() if bad(leaf)]


def arrays_by_path(tree: Mapping[str, Any]) -> dict[str, Any]:
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
