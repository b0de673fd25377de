"""Data: what the loaders return, and that damaged, lying or hostile files are refused with a reason."""

import gzip
import io
import pathlib
import pickle
import struct
import sys
import zipfile

import jax
import numpy as np
import pytest

from jlayers import data
from jlayers.data.idx import read_idx
from jlayers.data.numpy_files import read_npy, read_npz
from jlayers.data.split import hold_out
from jlayers.data.table import csv


def idx_bytes(array: np.ndarray) -> bytes:
    kinds = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    kind = kinds[array.dtype.str[1:]]
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


# --------------------------------------------------------------------------------------- the record


def test_digits_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.datasets")
    images, labels = sklearn.load_digits(return_X_y=True)
    found = data.digits()
    x, y = (np.concatenate(part) for part in zip(found.train, found.test, strict=True))
    assert x.dtype == np.float32
    assert y.dtype == np.int32
    assert x.shape == (1797, 8, 8, 1)
    assert x.min() == 0.0
    assert x.max() == 1.0
    rows = {(tuple(a), int(b)) for a, b in zip(np.round(x.reshape(1797, -1) * 16), y, strict=True)}
    assert rows == {(tuple(a), int(b)) for a, b in zip(images, labels, strict=True)}


def test_digits_split_is_fixed_and_stratified():
    first, again, other = data.digits(), data.digits(), data.digits(seed=1)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    share = np.bincount(first.test[1]) / np.bincount(np.concatenate([first.train[1], first.test[1]]))
    np.testing.assert_allclose(share, 0.2, atol=0.003)
    assert data.digits(test_fraction=0.0).test is None


def test_digits_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "jlayers\[examples\]"'):
        data.digits()


def test_dataset_facts():
    x, y = np.zeros((6, 2), np.float32), np.array([0, 1, 2, 0, 1, 2], np.int32)
    found = data.Dataset("toy", (x, y))
    assert found.classes == 3
    assert found.sizes == (6, 0)
    assert found.features == jax.ShapeDtypeStruct((1, 2), np.float32)
    assert data.Dataset("toy", (x, x)).classes is None
    with pytest.raises(ValueError, match=r"same number of samples .* x=float32\(6, 2\), y=int32\(5,\)"):
        data.Dataset("toy", (x, y[:5]))


def test_fingerprint_sees_values_shapes_and_names():
    x, y = np.zeros((6, 2), np.float32), np.zeros(6, np.int32)
    prints = {
        data.Dataset("d", part).fingerprint()
        for part in [(x, y), (x + 1, y), (x.reshape(6, 1, 2), y), ({"a": x}, y), ({"b": x}, y)]
    }
    assert len(prints) == 5


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_hold_out_refuses_fractions(fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        hold_out(np.zeros(4), np.zeros(4), fraction, 0)


def test_hold_out_of_numbers_parts_without_overlap():
    x = np.arange(10.0)
    (a, _), (b, _) = hold_out(x, x, 0.3, 0)
    assert sorted([*a, *b]) == list(x)
    assert len(b) == 3
    with pytest.raises(ValueError, match="both sides"):
        hold_out(x, x, 0.01, 0)


def test_parts_put_together_are_the_whole():
    whole, cut = data.digits(), data.parts("digits", axis=2, names=["left", "right"])
    np.testing.assert_array_equal(np.concatenate(list(cut.train[0].values()), axis=2), whole.train[0])
    np.testing.assert_array_equal(cut.test[1], whole.test[1])
    for axis, names in [(0, ["a"]), (2, ["a", "b", "c"]), (4, ["a"]), (2, []), (2, ["a", "a"])]:
        with pytest.raises(ValueError, match="parts"):
            data.parts("digits", axis=axis, names=names)
    with pytest.raises(ValueError, match="single array"):
        data.parts(cut, axis=1, names=["a", "b"])


# ----------------------------------------------------------------------------------------- npz, npy


def test_npz_by_names_with_dtypes_and_several_inputs(tmp_path):
    path = tmp_path / "toy.npz"
    np.savez(
        path,
        a=np.ones((4, 2)),
        b=np.zeros((4, 3), np.uint8),
        y=np.arange(4),
        ta=np.ones((2, 2)),
        ty=np.arange(2),
    )
    found = data.npz(path, x=["a", "b"], y="y")
    assert {k: (v.shape, v.dtype.name) for k, v in found.train[0].items()} == {
        "a": ((4, 2), "float32"),
        "b": ((4, 3), "uint8"),
    }
    assert found.train[1].dtype == np.int32
    held = data.npz(path, x="a", y="y", x_test="ta", y_test="ty")
    assert held.sizes == (4, 2)
    with pytest.raises(KeyError, match=r"no array 'yy'.*'y'"):
        data.npz(path, x="a", y="yy")
    with pytest.raises(ValueError, match="together"):
        data.npz(path, x="a", x_test="ta")


def test_npz_compressed_is_read_and_split(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", x=np.ones((10, 2)), y=np.ones((10, 1)))
    assert data.npz(tmp_path / "c.npz", test_fraction=0.2).sizes == (8, 2)


def test_npy_pair(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(np.arange(12.0).reshape(4, 3)))
    np.save(tmp_path / "y.npy", np.arange(4))
    found = data.npy(tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_array_equal(found.train[0], np.arange(12, dtype=np.float32).reshape(4, 3))


class Trap:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(TRAP),)


TRAP = ""


def test_pickles_are_not_read(tmp_path):
    global TRAP
    TRAP = str(tmp_path / "sprung")
    np.save(tmp_path / "o.npy", np.array([Trap()], object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", x=np.array([Trap()], object), y=np.zeros(1))
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="Python objects are not read"):
        read_npy(tmp_path / "o.npy")
    with pytest.raises(ValueError, match="Python objects are not read"):
        data.npz(tmp_path / "o.npz")
    with pytest.raises(ValueError, match=r"expected an array in the \.npy format"):
        read_npy(tmp_path / "p.npy")
    assert not (tmp_path / "sprung").exists()


def npy_bytes(shape: str, dtype: str = "<f4", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-4,)", "(3,)", "(65536, 65536, 65536, 65536)"])
def test_npy_headers_that_lie(tmp_path, shape):
    (tmp_path / "bad.npy").write_bytes(npy_bytes(shape, data=b"\0" * 16))
    with pytest.raises(ValueError, match=r"truncated or damaged|\.npy format"):
        read_npy(tmp_path / "bad.npy")


def test_npz_bombs_and_rubbish(tmp_path):
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_bytes("(4000000,)", data=bytes(16_000_000)))
    assert bomb.stat().st_size < 40_000
    with pytest.raises(ValueError, match="expected at most 1,000"):
        read_npz(bomb, ["x"], max_bytes=1000)
    (tmp_path / "rubbish.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="zip archive"):
        read_npz(tmp_path / "rubbish.npz")
    np.savez(tmp_path / "good.npz", x=np.arange(1000.0))
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:3000])
    with pytest.raises(ValueError, match="zip archive"):
        read_npz(tmp_path / "cut.npz")
    spoiled = bytearray(whole)
    spoiled[2000] ^= 255
    (tmp_path / "spoiled.npz").write_bytes(spoiled)
    with pytest.raises(ValueError, match="zip archive"):
        read_npz(tmp_path / "spoiled.npz")


def test_whole_numbers_beyond_32_bits_are_refused(tmp_path):
    np.savez(tmp_path / "big.npz", x=np.ones((1, 1)), y=np.array([2**40]))
    with pytest.raises(ValueError, match=r"big.npz, y\[0\]=1099511627776"):
        data.npz(tmp_path / "big.npz")
    np.savez(tmp_path / "huge.npz", x=np.array([[1.0], [-1e39]]), y=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"huge.npz, x\[1, 0\]=-1e\+39"):
        data.npz(tmp_path / "huge.npz")


def test_mnist_labels_beyond_32_bits_are_refused(tmp_path):
    images, labels = np.zeros((2, 3, 3), np.uint8), np.array([1, 2**32 + 1])
    np.savez(tmp_path / "m.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match=r"m.npz, y_train\[1\]=4294967297"):
        data.mnist(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([-1, 0, 1], None, "from 0 to 1, .* received -1 as label 0 of toy, train"),
        ([0, 1], [0, 2], "from 0 to 1, .* received 2 as label 1 of toy, test"),
    ],
)
def test_one_hot_refuses_labels_out_of_range(train, test, message):
    def pair(y):
        return None if y is None else (np.zeros((len(y), 1), np.float32), np.array(y))

    with pytest.raises(ValueError, match=message):
        data.one_hot(data.Dataset("toy", pair(train), pair(test)))


def test_data_without_samples_are_refused():
    empty = np.zeros((0, 2), np.float32)
    with pytest.raises(ValueError, match=r"toy, train: expected at least one sample, received x=float32"):
        data.Dataset("toy", (empty, np.zeros(0, np.int32)))
    full = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="toy, test: expected at least one sample"):
        data.Dataset("toy", (full, full), (empty, empty))


def test_each_class_keeps_a_sample_to_train_on():
    y = np.array([0, 0, 0, 1, 2, 2])
    (_, kept), _ = hold_out(y, y, 0.8, 0)
    assert set(kept.tolist()) == {0, 1, 2}


# --------------------------------------------------------------------------------------------- MNIST


@pytest.fixture
def small_mnist():
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28)).astype(np.uint8),
        "train-labels-idx1-ubyte": (np.arange(20) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (10, 28, 28)).astype(np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
    }


@pytest.mark.parametrize("form", ["plain", "gz", "dotted", "npz"])
def test_mnist_in_all_its_forms(tmp_path, small_mnist, form):
    path = tmp_path
    if form == "npz":
        path = tmp_path / "mnist.npz"
        names = ["x_train", "y_train", "x_test", "y_test"]
        np.savez(path, **dict(zip(names, small_mnist.values(), strict=True)))
    for name, array in small_mnist.items() if form != "npz" else ():
        raw = idx_bytes(array)
        if form == "gz":
            (path / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (path / (name.replace("-idx", ".idx") if form == "dotted" else name)).write_bytes(raw)
    found = data.mnist(path)
    assert found.train[0].shape == (20, 28, 28, 1)
    assert found.train[0].dtype == np.float32
    np.testing.assert_array_equal(
        found.train[0][..., 0] * np.float32(255), small_mnist["train-images-idx3-ubyte"]
    )
    np.testing.assert_array_equal(found.test[1], np.arange(10))
    assert found.classes == 10


def test_mnist_files_that_are_missing_or_do_not_belong_together(tmp_path, small_mnist):
    for name, array in small_mnist.items():
        (tmp_path / name).write_bytes(idx_bytes(array[:7] if "train-labels" in name else array))
    with pytest.raises(ValueError, match=r"train: expected images as bytes .* uint8\(7,\)"):
        data.mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        data.mnist(tmp_path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", "<i4", "<f4", "<f8"])
def test_idx_types(tmp_path, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    (tmp_path / "a").write_bytes(idx_bytes(array))
    found = read_idx(tmp_path / "a")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


GOOD = idx_bytes(np.arange(6, dtype=np.uint8))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "truncated: expected 4 bytes of the magic number, received 0"),
        (b"\x00\x00\x08", "truncated: expected 4 bytes"),
        (b"\x1f\x8b\x08\x00", "expected an IDX file"),
        (b"\x00\x00\x07\x01" + GOOD[4:], "expected an IDX file"),
        (b"\x00\x00\x08\x00" + GOOD[4:], "expected an IDX file"),
        (b"\x00\x00\x08\xff" + GOOD[4:], "expected an IDX file"),
        (GOOD[:6], "truncated: expected 4 bytes of the dimensions"),
        (GOOD[:-1], "truncated: expected 6 bytes of .* received 5"),
        (GOOD + b"\0", "received more bytes"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "expected at most"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 2**31) + b"123", "truncated: expected 2,147,483,648 bytes"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_that_are_damaged(tmp_path, raw, message, zipped):
    path = tmp_path / ("a.gz" if zipped else "a")
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_idx_compressed_files_that_are_cut(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.arange(4000, dtype="<i4")))[:500])
    with pytest.raises(ValueError, match="damaged or truncated"):
        read_idx(path)


# ---------------------------------------------------------------------------------------------- CSV


def write(tmp_path: pathlib.Path, text: str) -> pathlib.Path:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_numbers_and_targets_by_name(tmp_path):
    path = write(tmp_path, "a,b,y\n1,2,3\n4,5.5,6\n")
    found = csv(path, target="y")
    np.testing.assert_array_equal(found.train[0], np.array([[1, 2], [4, 5.5]], np.float32))
    np.testing.assert_array_equal(found.train[1], np.array([[3], [6]], np.float32))
    two = csv(path, target=["y", "a"], features=["b"])
    assert two.train[0].shape == (2, 1)
    np.testing.assert_array_equal(two.train[1], np.array([[3, 1], [6, 4]], np.float32))


def test_csv_labels(tmp_path):
    found = csv(
        write(tmp_path, "x;kind\n1;setosa\n2;virginica\n3;setosa\n"), "kind", labels=True, delimiter=";"
    )
    np.testing.assert_array_equal(found.train[1], np.array([0, 1, 0], np.int32))
    assert found.train[1].dtype == np.int32
    assert found.class_names == ("setosa", "virginica")
    found = csv(write(tmp_path, "1,2\n2,0\n"), target=1, labels=True, header=False)
    assert found.train[1].tolist() == [2, 0]
    assert found.classes == 3


def test_csv_held_out_file_shares_the_labels(tmp_path):
    test = tmp_path / "test.csv"
    test.write_text("x,k\n1,c\n")
    found = csv(write(tmp_path, "x,k\n1,a\n2,c\n3,b\n"), "k", labels=True, test_path=test)
    assert found.test[1].tolist() == [2]
    assert found.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,y\n1,2\nx,3\n",
            r"t\.csv, line 3, column 1 \('a'\): expected a finite number, received 'x'; .*under text",
        ),
        ("a,y\n1,2\n\n1,\n", r"line 4, column 2 \('y'\): expected a finite number, received ''$"),
        ("a,y\n1,cat\n", "received 'cat'; if the target is a class, set labels to true"),
        ("a,y\n1,nan\n", r"line 2, column 2 .* received 'nan'$"),
        ("a,y\n1,2,3\n", "line 2: expected 2 cells, as in the first line, received 3"),
        ("a,a\n1,2\n", "different names, received 'a' twice"),
        ("a,y\n", "at least one row below the header"),
        ("", "at least one row"),
        ('a,y\n"1,2\n', "expected a line of CSV"),
    ],
)
def test_csv_that_is_wrong(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        csv(write(tmp_path, text), target="y")


def test_csv_unknown_column_wrong_encoding_and_size(tmp_path):
    path = write(tmp_path, "apple,y\n1,2\n")
    with pytest.raises(KeyError, match="no column 'aple': did you mean 'apple'"):
        csv(path, target="aple")
    with pytest.raises(ValueError, match="beside the target"):
        csv(path, target="y", features=["y"])
    with pytest.raises(ValueError, match="expected at most 3"):
        csv(path, target="y", max_bytes=3)
    path.write_bytes(b"a,y\n\xff,2\n")
    with pytest.raises(ValueError, match="line 2: expected text in UTF-8"):
        csv(path, target="y")


def test_npz_data_in_memory_equal_numpys(tmp_path):
    """Our reader against NumPy's own, over dtypes and orders."""
    rng = np.random.default_rng(0)
    arrays = {
        "f": rng.normal(size=(3, 4)),
        "i": rng.integers(0, 9, (5,)),
        "b": rng.random((2, 2)) > 0.5,
        "o": np.asfortranarray(rng.normal(size=(3, 2))).astype(">f4"),
        "s": np.array(["ab", "c"]),
        "e": np.zeros((0, 3), np.float32),
        "n": np.float32(3.0),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    for name, array in read_npz(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == np.asarray(arrays[name]).dtype
