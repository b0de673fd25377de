"""Tables larger than the memory: CSV in blocks and Parquet by row groups, against the same data in memory."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jlayers as jl
from jlayers.cli import main
from jlayers.data import csv, parquet
from jlayers.data.blocks import Blocks
from jlayers.data.lazy import LazyArray
from jlayers.data.reading import Records

RNG = np.random.default_rng(0)
ROWS = 300
NUMBERS = RNG.normal(size=(ROWS, 2)).astype(np.float32)
KINDS = np.array(["cat", "dog", "eel"])[RNG.integers(0, 3, ROWS)]
TEXTS = np.array(
    [f'row {i}, "quoted"\nover two lines' if i % 7 == 0 else f"row {i}" for i in range(ROWS)], object
)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("jlayers.data.csv_columns._ROWS", 32)
    monkeypatch.setattr(Blocks.__init__, "__defaults__", (2048,))


def write_csv(path, header=True):
    def cell(text):
        return '"' + text.replace('"', '""') + '"'

    lines = ["a,words,b,kind"] if header else []
    for (a, b), kind, text in zip(NUMBERS, KINDS, TEXTS, strict=True):
        lines.append(f"{a!r},{cell(text)},{b!r},{kind}".replace("np.float32(", "").replace(")", ""))
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode() + b"\n")
    return path


def write_parquet(path, rows=slice(None), **columns):
    made = {"a": NUMBERS[:, 0], "words": TEXTS, "b": NUMBERS[:, 1].astype(np.float64), "kind": KINDS}
    table = pa.table({k: v[rows] for k, v in {**made, **columns}.items() if v is not None})
    pq.write_table(table, path, row_group_size=40)
    return path


def same(lazy, whole):
    assert isinstance(lazy, LazyArray)
    assert lazy.shape == whole.shape
    assert lazy.dtype == whole.dtype
    rows = RNG.permutation(len(whole))
    np.testing.assert_array_equal(lazy[:], whole)
    np.testing.assert_array_equal(lazy.take(rows[:50]), whole[rows[:50]])


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_csv_in_blocks_holds_what_it_holds_in_memory(tmp_path, small_blocks, header, text):
    path = write_csv(tmp_path / "t.csv", header)
    names = ["a", "words", "b", "kind"] if header else [0, 1, 2, 3]
    options = {"target": names[3], "labels": True, "header": header, "test_fraction": 0.2}
    options |= {"text": [names[1]]} if text else {"features": [names[0], names[2]]}
    whole, lazy = csv(path, **options), csv(path, in_memory=False, **options)
    assert str(lazy) == str(whole)
    assert lazy.class_names == whole.class_names
    for one, other in ((lazy.train, whole.train), (lazy.test, whole.test)):
        np.testing.assert_array_equal(one[1], other[1])
        pairs = [(one[0][n], other[0][n]) for n in other[0]] if text else [(one[0], other[0])]
        for a, b in pairs:
            same(a, b)
    first = next(iter(lazy.train[0].values())) if text else lazy.train[0]
    assert len(first.chunks) == 10
    assert first.together < 9


def test_only_a_few_blocks_are_held(tmp_path, small_blocks):
    x = csv(write_csv(tmp_path / "t.csv"), "kind", labels=True, features=["a", "b"], in_memory=False).train[0]
    x[:]
    assert len(x.blocks._kept) <= x.together + 1 < 10


def test_cells_are_looked_over_before_training(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 9000 + "1,x\n")
    with pytest.raises(ValueError, match="line 9002, column 2"):
        csv(path, "a", in_memory=False)
    path.write_text("a,b\n1700000000000,1\n1700000000001,2\n")
    with pytest.raises(ValueError, match="float32 keeps apart"):
        csv(path, "b", in_memory=False)
    path.write_bytes(b"a,b\r1,2\r3,4\r")
    assert csv(path, "b").sizes == (2, 0)
    with pytest.raises(ValueError, match="end in a line feed"):
        csv(path, "b", in_memory=False)


def test_places_in_a_file(tmp_path):
    path = write_csv(tmp_path / "t.csv")
    reading = Records(path)
    found = [(line, row, reading.place) for line, row in reading]
    for at in (0, 7, 100, ROWS - 1):
        rest = list(itertools.islice(Records(path, start=found[at][2]), 2))
        assert rest == [(line, row) for line, row, _ in found[at + 1 : at + 3]]


@pytest.mark.parametrize("several", [True, False])
def test_parquet(tmp_path, small_blocks, several):
    if several:
        (tmp_path / "t").mkdir()
        for i in range(3):
            write_parquet(tmp_path / "t" / f"{i}.parquet", slice(100 * i, 100 * i + 100))
        path = tmp_path / "t"
    else:
        path = write_parquet(tmp_path / "t.parquet")
    data = parquet(path, "kind", labels=True, features=["a", "b"])
    assert data.class_names == ("cat", "dog", "eel")
    np.testing.assert_array_equal(np.array(data.class_names)[data.train[1]], KINDS)
    same(data.train[0], NUMBERS)
    assert len(data.train[0].chunks) == (9 if several else 8)
    data = parquet(path, ["a", "b"], features=["words"], test_fraction=0.1)
    x, y = data.train
    assert y.shape == (270, 2)
    assert x["words"].dtype == object
    np.testing.assert_array_equal(y[:, 0], [NUMBERS[list(TEXTS).index(t), 0] for t in x["words"][:]])
    assert (
        data.fingerprint() == parquet(path, ["a", "b"], features=["words"], test_fraction=0.1).fingerprint()
    )


def test_parquet_types(tmp_path):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3 * ROWS, dtype=np.float32)), 3)
    path = tmp_path / "t.parquet"
    kinds = pa.array(KINDS).dictionary_encode()
    flags = pa.array(np.arange(ROWS) % 2 == 0)
    codes = pa.array(10 * RNG.integers(1, 4, ROWS))
    pq.write_table(
        pa.table({"v": vectors, "kind": kinds, "flag": flags, "code": codes}), path, row_group_size=50
    )
    data = parquet(path, "code", labels=True)
    assert {name: a.shape[1:] for name, a in data.train[0].items()} == {"v": (3,), "kind": (), "flag": (1,)}
    assert data.train[0]["v"][2].tolist() == [6, 7, 8]
    assert data.classes == 31
    assert parquet(path, "kind", labels=True, features=["flag"]).train[0][:2].tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        ({"a": pa.array([None, *NUMBERS[1:, 0]])}, {}, ValueError, "column 'a', row 0: expected a value"),
        ({"a": np.where(np.arange(ROWS) == 45, np.inf, NUMBERS[:, 0])}, {}, ValueError, "row group 1.*row 5"),
        ({"a": 1.7e12 + np.arange(ROWS, dtype=np.float64)}, {}, ValueError, "float32 keeps apart"),
        ({"a": np.arange(ROWS).astype("datetime64[s]")}, {}, ValueError, "received timestamp"),
        ({}, {"features": ["c"]}, KeyError, "no column 'c'"),
        ({}, {"features": ["kind"]}, ValueError, "beside the target"),
        ({}, {"target": ["a", "kind"]}, ValueError, "one target column of labels"),
    ],
)
def test_parquet_that_is_refused(tmp_path, change, options, error, text):
    path = write_parquet(tmp_path / "t.parquet", **change)
    with pytest.raises(error, match=text):
        parquet(path, **{"target": "kind", "labels": True, "features": ["a", "b"], **options}).train[0][:]


def test_parquet_files_that_are_none(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 is not enough")
    with pytest.raises(ValueError, match="expected a Parquet file"):
        parquet(path, "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"files that end in .parquet, received none"):
        parquet(tmp_path / "empty", "a")
    write_parquet(path)
    other = write_parquet(tmp_path / "other.parquet", kind=np.array(["fox"] * ROWS))
    with pytest.raises(ValueError, match="labels of the training data, received 'fox'"):
        parquet(path, "kind", labels=True, features=["a"], test_path=other)


YAML = """
data: {DATA}
model: {Sequential: [Dense: {units: 3, activation: softmax}]}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
training: {epochs: 2, validation: 0.1}
"""
COMMON = "target: kind, labels: true, features: [a, b], test_fraction: 0.2"
LOADERS = {
    "csv": f"{{csv: {{path: t.csv, {COMMON}, in_memory: false}}}}",
    "parquet": f"{{parquet: {{path: t.parquet, {COMMON}}}}}",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_from_yaml(tmp_path, small_blocks, capsys, kind):
    write_csv(tmp_path / "t.csv")
    write_parquet(tmp_path / "t.parquet")
    (tmp_path / "run.yaml").write_text(YAML.replace("{DATA}", LOADERS[kind]))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    out, err = capsys.readouterr()
    assert "accuracy" in out
    assert not err
    new = tmp_path / "new.csv"
    new.write_text("a,b\n1,2\n3,4\n")
    assert main(["predict", str(run), str(new)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    write_parquet(tmp_path / "t.parquet", a=-NUMBERS[:, 0])
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("0.", "1."))
    assert main(["evaluate", str(run)]) == 0
    assert "data have changed" in capsys.readouterr().err


def test_training_in_blocks_learns(tmp_path, small_blocks):
    codes = (NUMBERS[:, 0] > 0).astype(np.int64)
    data = parquet(
        write_parquet(tmp_path / "t.parquet", kind=codes), "kind", labels=True, features=["a", "b"]
    )
    trainer = jl.compile(
        jl.Dense(2, "softmax"), jl.optimizers.adam(0.1), "sparse_categorical_crossentropy", ["accuracy"]
    )
    _, history = jl.fit(trainer, *data.train, epochs=5, validation_split=0.2)
    assert history["val_accuracy"][-1] > 0.9
