"""CSV: the right value or a refusal with line and column; columns of new data are found by their names."""

import io
import os
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jlayers import data
from jlayers.cli import main
from jlayers.data import csv_columns
from jlayers.data.reading import Records
from jlayers.data.table import csv, read_like


def write(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ("10.0 9.0 0.0 2.0", [10, 9, 0, 2], (*"0123456789", "10")),
        ("1 1.0 0 01", [1, 1, 0, 1], ("0", "1")),
        ("-1 1 0", [0, 2, 1], ("-1", "0", "1")),
        ("10.5 9.5 9.50", [1, 0, 0], ("9.5", "10.5")),
        ("1000000 200000", [1, 0], ("200000", "1000000")),
        ("b a b", [1, 0, 1], ("a", "b")),
        ("none some", [0, 1], ("none", "some")),
        ("a b a b 1 2 1", [2, 3, 2, 3, 0, 1, 0], ("1", "2", "a", "b")),
    ],
)
def test_labels_are_ordered_as_what_they_are(tmp_path, labels, codes, names):
    found = csv(write(tmp_path, "x,y\n" + "".join(f"1,{v}\n" for v in labels.split())), "y", labels=True)
    assert (found.train[1].dtype, found.train[1].tolist()) == (np.int32, codes)
    assert found.class_names == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["cat", "", "dog"],
            r"line 3, column 2 \('y'\): expected a label, received '', which stands for a missing value",
        ),
        (["cat", "nan"], "line 3, .* received 'nan'"),
        (["1", "2", "NA"], "line 4, .* received 'NA'"),
        (["1", "2", "NULL"], "line 4, .* received 'NULL'"),
        (["0", "1", "0", "l"], "line 5, .*expected a number, as most labels are, received 'l'"),
        (["0", "1_0", "2"], "line 3, .*expected a number, .*received '1_0'"),
        (["a", "b", "a", "1.0"], "line 5, .*expected a name, as most labels are, received '1.0'"),
        (["0", "1", "1.5"], "line 4, .*expected a whole number, as most labels are, received '1.5'"),
    ],
)
def test_labels_that_are_refused(tmp_path, labels, message):
    path = write(tmp_path, "x,y\n" + "".join(f"1,{v}\n" for v in labels))
    with pytest.raises(ValueError, match=message):
        csv(path, "y", labels=True)


def test_a_label_of_the_held_out_file_alone_is_told_with_its_line(tmp_path):
    train = write(tmp_path, "x,y\n1,a\n2,b\n")
    held = write(tmp_path, "x,y\n1,b\n1,c\n", "held.csv")
    with pytest.raises(ValueError, match=r"held\.csv, line 3, .*training data \(a, b\), received 'c'"):
        csv(train, "y", labels=True, test_path=held)
    numbers = csv(
        write(tmp_path, "x,y\n1,0\n2,1\n"),
        "y",
        labels=True,
        test_path=write(tmp_path, "y,x\n1.0,7\n", "held.csv"),
    )
    assert numbers.test[1].tolist() == [1]
    assert numbers.test[0].tolist() == [[7.0]]


# -------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1_000", "finite number, received '1_000'"),
        ("\u0661", "finite number"),
        ("1e39", r"at most 3.4e\+38 in size \(float32\), received '1e39'; scale"),
        ("-inf", "finite number, received '-inf'$"),
        ("NA", "finite number, received 'NA'$"),
        ("one", "received 'one'; if the column holds texts"),
    ],
)
def test_cells_that_are_no_numbers(tmp_path, cell, message):
    path = write(tmp_path, f"a,b,y\n1,2,3\n1,{cell},3\n")
    with pytest.raises(ValueError, match=rf"t\.csv, line 3, column 2 \('b'\): expected .*{message}"):
        csv(path, "y")


def test_a_column_that_float32_cannot_keep_apart_is_refused(tmp_path):
    times = [1_700_000_000_000, 1_700_000_000_060, 1_700_000_086_400]
    path = write(tmp_path, "t,y\n" + "".join(f"{t},0\n" for t in times))
    with pytest.raises(ValueError, match=r"column 1 \('t'\).*keeps apart.*subtract an offset"):
        csv(path, "y")
    prices = write(tmp_path, "t,y\n23456789,0\n98765432,1\n")
    assert csv(prices, "y").train[0].tolist() == [[23456788.0], [98765432.0]]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'a,y\n1,"2\n3\n4,5\n', "line 2: expected a line of CSV, .*unexpected end"),
        (b'a,y\n1,2\n"1"x,2\n', "line 3: expected a line of CSV"),
        (b'a,y\n"1\n",2\nx,3\n', "line 4, column 1"),
        (b"a,y\n1,2\n" + b"1,2\n" * 3000 + b"\xff,2\n", "line 3003: expected text in UTF-8"),
        ("a,y\n1,2\n".encode("utf-16"), "line 1: expected text in UTF-8"),
        (b"a,y\n1,2\n\n\nx,2\n", "line 5, column 1"),
        (b"a,y\r1,2\rx,2\r", "line 3, column 1"),
        (b"a,y\n" + b"1" * (17 << 20), "line 2: .*lines of at most 16,777,216 bytes"),
    ],
)
def test_lines_are_counted_as_an_editor_counts_them(tmp_path, raw, message):
    with pytest.raises(ValueError, match=message):
        csv(write(tmp_path, raw), "y")


def test_the_first_line_may_be_the_fault(tmp_path):
    with pytest.raises(KeyError, match="set header to false"):
        csv(write(tmp_path, "1,2\n3,4\n"), "y")


def test_devices_and_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path, what in [("/dev/zero", "a device"), (tmp_path / "pipe.csv", "a pipe"), (tmp_path, "a folder")]:
        with pytest.raises(ValueError, match=f"expected a file, received {what}"):
            csv(path, "y")
        with pytest.raises(ValueError, match=f"expected a file, received {what}"):
            data.npy(path, path)


def test_a_file_takes_little_more_memory_than_its_numbers(tmp_path, monkeypatch):
    """All rows as texts at once would take eight times as much."""
    monkeypatch.setattr(csv_columns, "_ROWS", 256)
    rows = np.random.default_rng(0).integers(0, 9, (4000, 8))
    text = io.StringIO()
    np.savetxt(text, rows, fmt="%d", delimiter=",")
    path = write(tmp_path, text.getvalue())
    csv(path, target=[7], header=False)  # what is loaded and kept by the first call does not count
    tracemalloc.start()
    try:
        found = csv(path, target=[7], header=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found.train[0], rows[:, :7])
    assert peak < 3 * rows.size * 4 + 200_000  # packed twice, and one block of rows as texts


# ------------------------------------------------------------------------- new data, by columns' names

NAMES = ["a", "b", "c d", "10", "y"]


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    order=st.permutations(NAMES),
    dropped=st.sampled_from([None, *NAMES]),
    renamed=st.sampled_from([None, *NAMES]),
    added=st.sampled_from([None, "id", "A", "a "]),
)
def test_columns_are_found_by_their_names(tmp_path_factory, order, dropped, renamed, added):
    folder = tmp_path_factory.mktemp("csv")
    values = {name: float(i) for i, name in enumerate(NAMES)}
    train = csv(write(folder, ",".join(NAMES) + "\n0,1,2,3,4\n"), "y")
    names = [f"{n}!" if n == renamed else n for n in order if n != dropped]
    cells = [values[n.removesuffix("!")] for n in names]
    if added:
        names, cells = [added, *names], [9.0, *cells]
    text = f"{','.join(names)}\n{','.join(map(str, cells))}\n"
    path = write(folder, text, "new.csv")
    lost = [n for n in NAMES[:-1] if n in (dropped, renamed)]
    if added and added.strip() in names[1:]:
        with pytest.raises(ValueError, match="columns with different names"):
            read_like(path, train.table)
    elif [n for n in lost if n != (added or "").strip()]:
        with pytest.raises(ValueError, match=f"new.csv: expected the columns .*{lost[0]!r}.* missing"):
            read_like(path, train.table)
    else:
        x, unused = read_like(path, train.table)
        expected = [9.0 if n in lost else values[n] for n in NAMES[:-1]]
        assert x.tolist() == [expected]
        assert unused == [n for n in names if n not in NAMES and n.strip() not in lost]


def test_columns_of_text_are_found_by_their_names_too(tmp_path):
    train = csv(write(tmp_path, "n,word,y\n1,hi,0\n"), "y", text=["word"])
    x, unused = read_like(write(tmp_path, "id,word,n\n7,ho,2\n", "new.csv"), train.table)
    assert (x["word"].tolist(), x["n"].tolist(), unused) == (["ho"], [[2.0]], ["id"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5;7\n", [[5, 7]]), ("5;0;7\n6;0;8\n", [[5, 7], [6, 8]]), ("5;0;7;1\n", None), ("5\n", None)],
)
def test_without_a_header_columns_are_told_by_their_number(tmp_path, text, expected):
    train = csv(write(tmp_path, "1;2;3\n4;5;6\n"), 1, header=False, delimiter=";")
    path = write(tmp_path, text, "new.csv")
    if expected is None:
        with pytest.raises(ValueError, match=r"expected 2 columns, or the 3 of the training file"):
            read_like(path, train.table)
    else:
        assert read_like(path, train.table)[0].tolist() == expected


def test_the_held_out_file_is_read_by_names(tmp_path):
    path = write(tmp_path, "a,b,y\n1,2,3\n")
    found = csv(path, "y", test_path=write(tmp_path, "id,y,b,a\n9,6,5,4\n", "held.csv"))
    assert found.test[0].tolist() == [[4.0, 5.0]]
    with pytest.raises(ValueError, match=r"held\.csv: expected the columns 'a', 'b', .* 'b' is missing"):
        csv(path, "y", test_path=write(tmp_path, "a,y\n9,6\n", "held.csv"))


EXPERIMENT = """
data: {csv: {path: d.csv, target: y, test_fraction: 0.25, delimiter: ';'}}
model: {Dense: {units: 1}}
loss: mse
optimizer: {sgd: {learning_rate: 0.05}}
training: {epochs: 60, batch_size: 8}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that learned y = 3a - b from a file with `;` between its cells."""
    folder = tmp_path_factory.mktemp("run")
    x = np.random.default_rng(0).normal(size=(64, 2)).round(3)
    lines = ["a;b;y", *(f"{a};{b};{3 * a - b:.4f}" for a, b in x)]
    write(folder, "\n".join(lines) + "\n", "d.csv")
    write(folder, EXPERIMENT, "e.yaml")
    assert main(["train", str(folder / "e.yaml"), "--run", str(folder / "r")]) == 0
    return folder


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("a;b\n2;1\n", 0, ""),
        ("b;a\n1;2\n", 0, ""),
        ("b;y;a\n1;7;2\n", 0, ""),
        ("id;b;a\n7;1;2\n", 0, "columns that the run was not trained on are left out: id"),
        ("b;c\n1;2\n", 2, "'a' is missing; is it called 'c'?"),
        ("a\n1\n", 2, "'b' is missing"),
        ("a,b\n1,2\n", 2, "are missing"),
        ("2;1\n2;1\n", 2, "pass --no-header"),
    ],
)
def test_predict_takes_columns_by_name(run, tmp_path, capsys, text, code, told):
    path = write(tmp_path, text, "new.csv")
    assert main(["predict", str(run / "r"), str(path)]) == code
    out, err = capsys.readouterr()
    assert told in err.replace("\n", " ")
    if code == 0:
        assert float(out) == pytest.approx(5.0, abs=0.1)


def test_predict_without_a_header_when_told_so(run, tmp_path, capsys):
    assert main(["predict", str(run / "r"), str(write(tmp_path, "2;1\n")), "--no-header"]) == 0
    assert float(capsys.readouterr().out) == pytest.approx(5.0, abs=0.1)


def test_evaluate_refuses_columns_that_changed_their_order(run, capsys):
    path = run / "d.csv"
    kept = path.read_bytes()
    rows = [row for _, row in Records(path, ";")]
    path.write_text("".join(f"{b};{a};{y}\n" for a, b, y in rows))
    try:
        assert main(["evaluate", str(run / "r")]) == 2
        assert "was trained on the columns ['a', 'b']" in capsys.readouterr().err
    finally:
        path.write_bytes(kept)
    assert main(["evaluate", str(run / "r")]) == 0
