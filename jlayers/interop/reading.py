"""A file of weights of any kind, which is recognized by its content and not by its name."""

from __future__ import annotations

import os
import pathlib
import zipfile

import numpy as np

from jlayers.interop.keras import read_keras
from jlayers.interop.limits import refused_file
from jlayers.interop.npz import read_npz
from jlayers.interop.safetensors import read_safetensors
from jlayers.interop.torch import read_torch

__all__ = ["read"]

_HDF5 = b"\x89HDF\r\n\x1a\n"


def read(path: str | os.PathLike[str], *, needed: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file by name: safetensors, `.npz`, PyTorch's, Keras's, or a pickled dict of arrays.

    Args:
        path: of the file.
        needed: the bytes of the arrays that are wanted, if known: a packed file may become a few times
            as much; otherwise a limited multiple of its own size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind, or one that its reader refuses.

    >>> import pathlib, tempfile, jlayers as jl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "no_suffix"
    >>> with path.open("wb") as file:
    ...     np.savez(file, kernel=np.zeros((4, 3)))
    >>> list(jl.interop.read(path))
    ['kernel']
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise refused_file(path, "expected a file, received a folder", "a saved model is read by jl.load")
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_HDF5):
        return read_keras(path, needed=needed)
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise refused_file(path, f"the zip file is damaged ({error})", "fetch or copy it again") from None
        if "config.json" in names:
            return read_keras(path, needed=needed)
        reader = read_torch if any(n.endswith("data.pkl") for n in names) else read_npz
        return reader(path, needed=needed)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return read_safetensors(path)
    if head[:1] == b"\x80":
        return read_torch(path, needed=needed)
    raise refused_file(
        path,
        f"expected weights as safetensors, .npz, .pth, .h5 or .keras, received a file that begins with "
        f"{head[:8]!r}",
    )
