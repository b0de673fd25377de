"""Files of weights that are cut off or flipped at random: each is read or refused in words, within bounds."""

import contextlib
import pickle
import random
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from test_interop_hostile import FLAT, hdf5
from test_interop_torch import stream_layout, tensor, zip_layout

import jlayers as jl
from jlayers.interop import read


def torch_zip(path):
    return zip_layout(path, {"w": tensor("0", FLAT["0"], (3, 4), (4, 1))}, FLAT)


def torch_stream(path):
    return stream_layout(path, {"w": tensor("0", FLAT["0"], (3, 4), (4, 1))}, FLAT)


def pickled(path):
    path.write_bytes(pickle.dumps({"w": np.arange(6.0), "x": [np.ones((2, 3), np.float32)]}))
    return path


def npz(path):
    with path.open("wb") as file:
        np.savez_compressed(file, w=np.arange(6.0), x=np.ones((2, 3)))
    return path


def keras_hdf5(path):
    return hdf5(
        path, lambda file, group, path: group.create_dataset("0", data=np.arange(60.0).reshape(3, 20))
    )


def keras_names(path):
    """The older layout, packed by gzip."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        file.create_group("dense").attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
        group = file.create_group("dense/dense")
        group.create_dataset("kernel:0", data=np.arange(60.0).reshape(3, 20), compression="gzip")
        group.create_dataset("bias:0", data=np.arange(20.0))
    return path


def keras_zip(path):
    content = keras_hdf5(path.parent / "inner").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", content)
    return path


def our_own(path):
    jl.save_weights(path.with_suffix(".safetensors"), {"w": np.arange(6.0), "x": np.ones((2, 3))})
    return path.with_suffix(".safetensors").rename(path)


KINDS = [torch_zip, torch_stream, pickled, npz, keras_hdf5, keras_zip, keras_names, our_own]
READ = """
import pathlib, random, resource, sys
from jlayers.interop import read

path, before = pathlib.Path(sys.argv[1]), int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (before + 2**28, before + 2**28))
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
whole, rng, refused = path.read_bytes(), random.Random(0), 0
read(path)
places = [rng.randrange(len(whole)) for _ in range(200)]
for place in places:
    flipped = whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]
    other = whole[:place] + bytes([rng.randrange(256)]) + whole[place + 1 :]
    for content in (whole[:place], flipped, other):
        path.write_bytes(content)
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error), error
            refused += 1
print(refused)
"""


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_damaged_at_random(make, tmp_path):
    """A damaged file is read or refused by a ValueError that names it, never something else."""
    path = make(tmp_path / "weights")
    whole = path.read_bytes()
    assert read(path)
    rng = random.Random(0)
    for number in range(60):
        content = bytearray(whole)
        if number % 3:
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        with contextlib.suppress(RefusedError):
            refused(read, path)


class RefusedError(Exception):
    """A ValueError that names the file."""


def refused(read, path):
    try:
        read(path)
    except ValueError as error:
        if str(path) in str(error):
            raise RefusedError from error
        raise


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_damaged_at_200_places_within_bounds(make, tmp_path, request):
    """In a process of its own, which may not take 256 MiB or two minutes, and would be seen to crash."""
    if not request.config.option.full:
        pytest.skip("with --full")
    path = make(tmp_path / "weights")
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 200 <= int(done.stdout) <= 600  # whatever is cut off is refused
