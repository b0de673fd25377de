"""Files of PyTorch and pickles: what is read, and what is refused before it runs."""

import collections
import io
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.interop import read_torch

# A pickle that refers to PyTorch's names, made without PyTorch.

STORAGES = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "bool": "Bool"}
MAGIC = 0x1950A86A20F9469CFC6C


class Named:
    """Is pickled as a name."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __reduce__(self):
        raise AssertionError


class Reduced:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Persistent:
    def __init__(self, *pid):
        self.pid = pid


class Built:
    """An object with a state that the pickle sets."""

    def __init__(self, made, state):
        self.made, self.state = made, state


class Writer(pickle._Pickler):
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Reduced):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, Built):
            self.save(obj.made)
            self.save(obj.state)
            self.write(pickle.BUILD)
        elif isinstance(obj, Persistent):
            self.save(obj.pid)
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def dumped(value):
    file = io.BytesIO()
    Writer(file, protocol=2).dump(value)
    return file.getvalue()


def tensor(key, flat, size, stride, offset=0):
    kind = Named("torch", STORAGES[str(flat.dtype)] + "Storage")
    storage = Persistent("storage", kind, key, "cpu", flat.size)
    hooks = Reduced(Named("collections", "OrderedDict"))
    function = Named("torch._utils", "_rebuild_tensor_v2")
    return Reduced(function, storage, offset, size, stride, False, hooks)


def zip_layout(path, tree, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dumped(tree))
        for key, flat in storages.items():
            archive.writestr(f"archive/data/{key}", flat.tobytes())
    return path


def stream_layout(path, tree, storages):
    """The five pickles, and the storages."""
    parts = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, tree]
    content = b"".join(map(dumped, parts)) + dumped(sorted(storages))
    for key in sorted(storages):
        content += struct.pack("<q", storages[key].size) + storages[key].tobytes()
    path.write_bytes(content)
    return path


LAYOUTS = pytest.mark.parametrize("write", [zip_layout, stream_layout])


@LAYOUTS
def test_tensors_of_both_layouts(write, tmp_path):
    flat = {
        "0": np.arange(12, dtype=np.float32),
        "1": np.arange(4).astype(jnp.bfloat16),
        "2": np.arange(3).astype(np.float16),
        "3": np.array(7),
        "4": np.array([True, False]),
    }
    tree = {
        "conv.weight": tensor("0", flat["0"], (3, 4), (4, 1)),
        "turned.weight": tensor("0", flat["0"], (4, 3), (1, 4)),
        "part.weight": tensor("0", flat["0"], (2, 2), (4, 1), offset=5),
        "spread.weight": tensor("0", flat["0"], (2, 3), (0, 1)),
        "half.weight": tensor("1", flat["1"], (2, 2), (2, 1)),
        "small": tensor("2", flat["2"], (3,), (1,)),
        "norm.num_batches_tracked": tensor("3", flat["3"], (), ()),
        "empty": tensor("0", flat["0"], (0, 4), (4, 1)),
        "mask": tensor("4", flat["4"], (2,), (1,)),
    }
    found = read_torch(write(tmp_path / "weights.anything", {"state_dict": tree, "epoch": 3}, flat))
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert list(found) == list(tree)
    for name, expected in {
        "conv.weight": whole,
        "turned.weight": whole.T,
        "part.weight": np.array([[5, 6], [9, 10]], np.float32),
        "spread.weight": np.array([[0, 1, 2], [0, 1, 2]], np.float32),
        "half.weight": np.arange(4).reshape(2, 2).astype(jnp.bfloat16),
        "small": flat["2"],
        "norm.num_batches_tracked": np.array(7),
        "empty": np.zeros((0, 4), np.float32),
        "mask": flat["4"],
    }.items():
        assert found[name].dtype == expected.dtype, name
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_dicts_of_arrays(protocol, tmp_path):
    arrays = {
        "conv": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))],
        "deep": collections.OrderedDict(bias=np.arange(3, dtype=">f4"), rate=np.float32(0.5)),
        "ignored": ["text", 3, None, 2.5, True],
    }
    path = tmp_path / "weights"
    path.write_bytes(pickle.dumps(arrays, protocol))
    found = read_torch(path) if protocol < 2 else jl.interop.read(path)
    assert {name: array.tolist() for name, array in found.items()} == {
        "conv.0": arrays["conv"][0].tolist(),
        "conv.1": arrays["conv"][1].tolist(),
        "deep.bias": [0, 1, 2],
        "deep.rate": 0.5,
    }
    assert all(array.dtype.isnative for array in found.values())
