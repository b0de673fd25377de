"""Weights that PyTorch has saved, and pickled dicts of arrays, without PyTorch; nothing runs."""

from __future__ import annotations

import io
import os
import pathlib
import sys
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.interop.limits import Budget, member_of, open_zip, refused_file
from jlayers.interop.pickle_names import Storage
from jlayers.interop.pickles import flat_arrays, read_pickle

__all__ = ["read_torch"]

_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote before 1.6 begins with
_INSIDE = ("state_dict", "model_state_dict", "model", "params")


def read_torch(path: str | os.PathLike[str], *, needed: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file that `torch.save` or `pickle.dump` has written, by name, in their order.

    Both layouts of PyTorch are read, the zip file and the older stream, with float16, bfloat16 and tensors
    that are views of others. Of a checkpoint that holds the weights under `state_dict` (or
    `model_state_dict`, `model`, `params`) beside other things, only those are given. The reader builds
    arrays, dicts, lists and numbers; a file that asks for anything else is refused and nothing of it runs.

    Args:
        path: path of the file.
        needed: the bytes of the arrays that are wanted, if known: a packed file may become a few times
            as much; otherwise a limited multiple of its own size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, asks for something other than arrays, or declares more than it holds.

    Source: the layouts follow `torch.serialization` of PyTorch.

    >>> import pathlib, pickle, tempfile, jlayers as jl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.pkl"
    >>> _ = path.write_bytes(pickle.dumps({"conv1": [np.zeros((3, 3, 1, 8)), np.zeros(8)]}))
    >>> {name: array.shape for name, array in jl.interop.read_torch(path).items()}
    {'conv1.0': (3, 3, 1, 8), 'conv1.1': (8,)}
    """
    path = pathlib.Path(path)
    if zipfile.is_zipfile(path):
        tree = _read_zip(path, needed)
    else:
        with path.open("rb") as file:
            tree = _read_stream(path, file)
    if isinstance(tree, Mapping):
        tree = next((tree[key] for key in _INSIDE if isinstance(tree.get(key), Mapping)), tree)
    return flat_arrays(path, tree, Budget(path, path.stat().st_size, needed))


def _read_zip(path: pathlib.Path, needed: int | None) -> Any:
    with open_zip(path, needed) as archive:
        names = dict.fromkeys(archive.namelist())
        main = next((name for name in names if name.split("/")[1:] == ["data.pkl"]), None)
        if main is None:
            raise refused_file(path, "a zip file without data.pkl, expected one that torch.save has written")
        folder = main.rpartition("/")[0]
        if any(name.startswith(f"{folder}/code/") for name in names):
            raise refused_file(
                path, "a TorchScript program", "save weights instead: torch.save(model.state_dict(), path)"
            )
        order = f"{folder}/byteorder"
        swap = order in names and member_of(path, archive, order).strip() not in (b"", sys.byteorder.encode())
        storages: dict[str, Storage] = {}
        tree = read_pickle(path, io.BytesIO(member_of(path, archive, main)), storages)
        for key, storage in storages.items():
            name = f"{folder}/data/{key}"
            if name not in names:
                raise refused_file(path, f"the storage {key[:40]!r} is missing")
            _fill(path, storage, member_of(path, archive, name), swap)
    return tree


def _fill(path: Any, storage: Storage, content: bytes, swap: bool) -> None:
    expected = storage.count * storage.dtype.itemsize
    if len(content) != expected:
        raise refused_file(
            path, f"the storage {storage.key[:40]!r} declares {expected:,} bytes and holds {len(content):,}"
        )
    values = np.frombuffer(content, storage.dtype)
    storage.values = values.byteswap() if swap else values


def _read_stream(path: pathlib.Path, file: Any) -> Any:
    """A plain pickle, or PyTorch's older layout: five pickles, and the storages behind them."""
    first = read_pickle(path, file)
    if type(first) is not int or first != _MAGIC:
        return first
    protocol, system = read_pickle(path, file), read_pickle(path, file)
    if type(protocol) is not int or protocol != 1001 or not isinstance(system, dict):
        raise refused_file(path, "a protocol of PyTorch that is unknown, expected 1001")
    little = bool(system.get("little_endian", True))
    storages: dict[str, Storage] = {}
    tree, keys = read_pickle(path, file, storages), read_pickle(path, file)
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise refused_file(path, "expected a list of the keys of the storages")
    if sorted(map(str, keys)) != sorted(storages):
        raise refused_file(path, "the list of storages is not that of the tensors")
    for key in keys:  # each: the number of elements in 8 bytes, and the elements
        storage = storages[str(key)]
        count = int.from_bytes(file.read(8), "little" if little else "big")
        if count != storage.count:
            raise refused_file(
                path,
                f"the storage {storage.key[:40]!r} declares {storage.count:,} and holds {count:,}",
            )
        left = path.stat().st_size - file.tell()
        size = min(count * storage.dtype.itemsize, left)
        _fill(path, storage, file.read(size), little != (sys.byteorder == "little"))
    return tree
