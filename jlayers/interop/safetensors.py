"""Arrays in safetensors files: names, shapes, dtypes and bytes, and nothing that could run."""

from __future__ import annotations

import os
import pathlib

import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import of_file
from jlayers.interop.limits import refused_file

__all__ = ["read_safetensors"]

_DTYPES = {
    "BOOL": "bool",
    **{f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, bfloat16 included, which safetensors' own reader lacks.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no safetensors file, a damaged one, or one with a dtype that is unknown here.

    >>> import pathlib, tempfile, jlayers as jl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> jl.save_weights(path, {"kernel": np.zeros((4, 3), np.float32)})
    >>> jl.interop.read_safetensors(path)["params/kernel"].shape
    (4, 3)
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(pathlib.Path(path).read_bytes())
    except SafetensorError as error:
        raise refused_file(path, f"expected a safetensors file ({error})") from None
    found: dict[str, np.ndarray] = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise of_file(ValueError(f"{path}, {name}: the dtype {entry['dtype']} is unknown here"), path)
        dtype = jnp.dtype(_DTYPES[entry["dtype"]])
        try:
            found[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        except ValueError as error:  # more axes, or longer ones, than arrays have
            raise of_file(ValueError(f"{path}, {name}: expected an array ({error})"), path) from None
    return found
