"""Data of several sources as one: lists of CSV files, and datasets one after the other."""

import dataclasses

import numpy as np
import pytest

from jlayers import config
from jlayers.cli import main
from jlayers.data import Dataset, LazyArray, concatenate, csv
from jlayers.data.dataset import fingerprint


class Rows(LazyArray):
    def __init__(self, values):
        super().__init__(values.shape, values.dtype)
        self.values = values

    def read(self, rows):
        return self.values[rows]

    def fingerprint(self):
        return str(self.values.sum())


def toy(count, names=None, test=0, lazy=False, begin=0.0):
    x = np.arange(count * 2, dtype=np.float32).reshape(count, 2) + np.float32(begin)
    y = (np.arange(count) % len(names)).astype(np.int32) if names else x[:, :1]
    held = (x[:test], y[:test]) if test else None
    return Dataset(f"toy{count}", (Rows(x) if lazy else x, y), held, names)


@pytest.fixture
def tables(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.csv").write_text(text)
        return [tmp_path / f"{name}.csv" for name in texts]

    return write


@pytest.mark.parametrize("in_memory", [True, False])
def test_csv_files_one_below_the_other(tables, in_memory):
    paths = tables(a="u,v,y\n1,2,cat\n3,4,dog\n", b="y,v,u\ndog,6,5\nowl,8,7\n", c="v,u,y\n0,9,owl\n")
    data = csv(paths[:2], "y", labels=True, test_path=[paths[2]], in_memory=in_memory)
    x, y = data.train
    assert np.asarray(x).tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert np.asarray(x)[[3, 0]].tolist() == [[7, 8], [1, 2]]
    assert (y.tolist(), data.class_names) == ([0, 1, 1, 2], ("cat", "dog", "owl"))
    assert (np.asarray(data.test[0]).tolist(), data.test[1].tolist()) == ([[9, 0]], [2])
    assert data.fingerprint() != csv(paths[:1], "y", labels=True, in_memory=in_memory).fingerprint()


@pytest.mark.parametrize("in_memory", [True, False])
def test_csv_files_with_columns_of_text(tables, in_memory):
    paths = tables(a="u,t,y\n1,x,0.5\n", b="y,t,u\n1.5,z,2\n2.5,w,3\n")
    x, y = csv(paths, "y", text=["t"], in_memory=in_memory).train
    assert np.asarray(x["u"]).tolist() == [[1], [2], [3]]
    assert np.asarray(x["t"]).tolist() == ["x", "z", "w"]
    assert y.tolist() == [[0.5], [1.5], [2.5]]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("u,y\n1,2\n", "u,z\n1,2\n", "b.csv has no column 'y'"),
        ("u,y\n1,2\n", "w,y\n1,2\n", "b.csv"),
        ("u,y\n1,2\n", "u,y\n1,2\nx,3\n", r"b.csv, line 3, column 1 \('u'\): expected a finite number"),
        ("u,y\n1,2\n", "u,y\n", "b.csv: expected at least one row below the header"),
        ("u,y\n1700000000001,2\n", "u,y\n1700000000002,3\n", "a.csv.*|b.csv.*float32 keeps apart"),
    ],
)
def test_csv_files_that_do_not_belong_together(tables, a, b, message):
    with pytest.raises((ValueError, KeyError), match=message):
        csv(tables(a=a, b=b), "y")


def test_a_label_that_only_the_second_file_writes_wrongly_is_found_there(tables):
    paths = tables(a="u,y\n" + "1,0\n2,1\n" * 9, b="u,y\n1,0\n2,ten\n")
    with pytest.raises(ValueError, match=r"b.csv, line 3, column 2 \('y'\): expected a number, .*'ten'"):
        csv(paths, "y", labels=True)
    with pytest.raises(ValueError, match=r"csv: expected at least one file, received path=\[\]"):
        csv([], "y")


@pytest.mark.parametrize("lazy", [False, True])
def test_datasets_one_after_the_other(lazy):
    parts = [toy(5, test=1), toy(3, begin=100, lazy=lazy), toy(4, begin=7, lazy=lazy, test=2)]
    data = concatenate(parts)
    expected = np.concatenate([np.asarray(part.train[0]) for part in parts])
    assert isinstance(data.train[0], LazyArray) is lazy
    np.testing.assert_array_equal(np.asarray(data.train[0]), expected)
    np.testing.assert_array_equal(data.train[0][np.array([11, 0, 6])], expected[[11, 0, 6]])
    assert data.sizes == (12, 3)
    assert data.name == "toy5 and 2 more"
    other = concatenate([parts[0], toy(3, begin=101, lazy=lazy), parts[2]])
    assert data.fingerprint() != other.fingerprint()


def test_chunks_stay_chunks():
    first, second = toy(6, lazy=True), toy(4, lazy=True)
    first.train[0].chunks = np.array([4, 6])
    x = concatenate([first, second]).train[0]
    assert x.chunks.tolist() == [4, 6, 10]


def test_classes_are_matched_by_name():
    data = concatenate([toy(4, ("cat", "dog")), toy(3, ("dog", "owl"))], test=[toy(2, ("owl", "cat"))])
    assert data.class_names == ("cat", "dog", "owl")
    assert data.train[1].tolist() == [0, 1, 0, 1, 1, 2, 1]
    assert data.test[1].tolist() == [2, 0]
    assert data.train[1].dtype == np.int32


@pytest.mark.parametrize(
    ("datasets", "test", "message"),
    [
        ([], None, "expected at least one dataset"),
        ([toy(3), toy(3, ("a",))], None, "expected class names in all datasets or in none"),
        ([toy(3, ("a",))], [toy(3, ("a", "b"))], "received the class 'b'"),
        (
            [toy(3), dataclasses.replace(toy(3), train=(np.zeros((3, 4), np.float32), toy(3).train[1]))],
            None,
            "samples have one shape and dtype, received toy3 with x=float32\\(3, 2\\)",
        ),
        (
            [toy(3), dataclasses.replace(toy(3), train=({"a": toy(3).train[0]}, toy(3).train[1]))],
            None,
            "samples have one shape and dtype",
        ),
    ],
)
def test_datasets_that_do_not_fit(datasets, test, message):
    with pytest.raises(ValueError, match=message):
        concatenate(datasets, test)


def test_lists_in_yaml_train_and_predict(tables, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = "".join(f"{u:.3f},{v:.3f},{'yes' if u > v else 'no'}\n" for u, v in rng.normal(size=(20, 2)))
    tables(a="u,v,y\n" + rows, b="u,v,y\n" + rows, new="v,u\n0,1\n")
    text = """\
variables: {files: [a.csv, b.csv]}
data:
  concatenate:
    datasets:
      - csv: {path: "${files}", target: y, labels: true}
      - csv: {path: b.csv, target: y, labels: true}
    test:
      - csv: {path: a.csv, target: y, labels: true}
model: {Sequential: [{Dense: {units: 2, activation: softmax}}]}
loss: sparse_categorical_crossentropy
training: {epochs: 1}
"""
    (tmp_path / "exp.yaml").write_text(text)
    made = config.load(tmp_path / "exp.yaml")
    assert made.source.sizes == (60, 20)
    assert fingerprint(made.source.test) != fingerprint(made.source.train)
    assert main(["train", str(tmp_path / "exp.yaml"), "--run", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv")]) == 0
    assert capsys.readouterr().out.split()[0] in ("yes", "no"), "columns are found by their names"


@pytest.mark.parametrize(
    ("listed", "line", "place"),
    [
        ("[digits, {parts: {data: digits, axis: 2, names: [a, b]}}]", 4, ("datasets", 1)),
        ("[digits]\n    test:\n    - digits\n    - one_hot: {data: digits}", 7, ("test", 1)),
    ],
)
def test_the_dataset_that_differs_is_told_at_its_line(listed, line, place):
    text = f"loss: mse\ndata:\n  concatenate:\n    datasets: {listed}\nmodel: {{Dense: 1}}\n"
    with pytest.raises(config.ConfigError, match="expected datasets whose samples have one shape") as caught:
        config.loads(text).check()
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (line, ("data", "concatenate", *place))
