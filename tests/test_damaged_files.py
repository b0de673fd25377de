"""Files that were damaged at random: each is read or refused with one clear error that names it."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from jlayers import data
from jlayers.config import ConfigError
from jlayers.config.reader import read_file
from jlayers.data.idx import read_idx
from jlayers.data.numpy_files import read_npy, read_npz
from jlayers.data.table import csv


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def packed(compression):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("x.npy", npy(np.arange(40.0).reshape(10, 4)))
        archive.writestr("y.npy", npy(np.arange(10)))
    return buffer.getvalue()


IDX = b"\0\0\x08\x02" + struct.pack(">II", 5, 4) + bytes(range(20))
YAML = b"""data: {npz: {path: d.npz, x: [a, b]}}
model:
  Sequential:
    - &d Dense: {units: 3, activation: relu}
    - *d
seed: !!int 3
freeze: ['**', "a\\nb"]
training: {epochs: 0x3, validation: .5}
"""
FORMS = {
    "npy": (npy(np.arange(40.0).reshape(10, 4)), read_npy),
    "npz": (packed(zipfile.ZIP_STORED), data.npz),
    "deflated": (packed(zipfile.ZIP_DEFLATED), read_npz),
    "bzip2": (packed(zipfile.ZIP_BZIP2), read_npz),
    "lzma": (packed(zipfile.ZIP_LZMA), read_npz),
    "idx": (IDX, read_idx),
    "gz": (gzip.compress(IDX), read_idx),
    "csv": (
        b'\xef\xbb\xbfa,"b ""c""",y\r\n' + b"".join(b"%d,%d.5,k%d\n" % (i, i, i % 3) for i in range(9)),
        lambda path: csv(path, "y", labels=True),
    ),
    "yaml": (YAML, read_file),
}
BYTES = b"\0\n\r\"',:;#&*!-{}[]<>()0159._eE\xff\x80\x01"


def damaged(raw, rng):
    """One to three cuts, insertions, doublings or other bytes."""
    made = bytearray(raw)
    for _ in range(rng.integers(1, 4)):
        at, end = sorted(rng.integers(0, len(made) + 1, 2).tolist())
        match rng.integers(0, 5):
            case 0 if at < len(made):
                made[at] = BYTES[rng.integers(len(BYTES))] if rng.random() < 0.5 else rng.integers(256)
            case 1:
                made[at:at] = bytes(rng.choice(list(BYTES), rng.integers(1, 5)).tolist())
            case 2:
                del made[at : min(end, at + 8)]
            case 3:
                made[at:at] = made[at : min(end, at + 30)]
            case _:
                del made[end:]
    return bytes(made)


def refusal(read, path):
    """The error of reading, if it is of a kind that tells what is wrong; others are raised."""
    try:
        read(path)
    except (ConfigError, ValueError, KeyError) as error:
        return error
    return None


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_read_or_refused_with_its_name(tmp_path, form, pytestconfig):
    raw, read = FORMS[form]
    path = tmp_path / f"file.{form}"
    path.write_bytes(raw)
    read(path)
    rng = np.random.default_rng(len(form))
    for number in range(2000 if pytestconfig.getoption("--full") else 40):
        path.write_bytes(spoiled := damaged(raw, rng))
        told = refusal(read, path)
        if told is not None:
            assert "file." in str(told), (number, spoiled, told)
            assert len(str(told)) < 1000 or isinstance(told, ConfigError), (number, spoiled, told)
