"""`jlayers init`: what it writes for each kind of data trains as it is, and is a file for people."""

import os
import pathlib
import re

import numpy as np
import pytest

from jlayers import config, train
from jlayers.cli import main
from jlayers.config.reader import read_text
from jlayers.config.writer import to_yaml
from jlayers.experiments.starter import starter
from jlayers.experiments.starter.arrays import _is_tokens
from jlayers.experiments.starter.lines import flow

pytest.importorskip("PIL")
from PIL import Image


def digits(count=120):
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images[:count], data.target[:count]


def digits_csv(path):
    x, y = digits()
    head = ",".join(f"p{i}" for i in range(64))
    rows = "".join(",".join(map(str, map(int, a.ravel()))) + f",{b}\n" for a, b in zip(x, y, strict=True))
    (path / "digits.csv").write_text(f"{head},digit\n{rows}")
    return path / "digits.csv"


def digits_npz(path):
    x, y = digits()
    np.savez(path / "digits.npz", x=x, y=y)
    return path / "digits.npz"


def digits_bytes(path):
    """As published sets are: bytes, and the split in the file."""
    x, y = digits()
    x, y = (x * 15).astype(np.uint8), y.astype(np.uint8)[:, None]
    np.savez(path / "set.npz", x_train=x[20:], y_train=y[20:], x_test=x[:20], y_test=y[:20])
    return path / "set.npz"


def digits_png(path):
    for i, (x, y) in enumerate(zip(*digits(), strict=True)):
        folder = path / "png" / str(y)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x * 15).astype(np.uint8)).save(folder / f"{i}.png")
    return path / "png"


def photographs(path):
    """In color, of several sizes, with a folder of their own for the test."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name, color in (("sea", (0, 0, 200)), ("wood", (0, 200, 0)), ("sand", (200, 180, 0))):
            folder = path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(0, 50, (30 + i, 40, 3)) + color
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i}.jpg")
    return path / "photos"


def houses_csv(path):
    """A regression with numbers, categories, texts, names of rows and missing values."""
    rng = np.random.default_rng(0)
    rows = ["id;size (m2);city;age;remark;price"]
    for i in range(60):
        size, city = rng.uniform(30, 200), str(rng.choice(["Rome", "Oslo", "yes"]))
        remark = f"{rng.choice(['nice view', 'small garden', 'needs repair'])} and number {i}"
        rows.append(f"h{i};{size:.1f};{city};{'' if i == 7 else i % 9};{remark};{round(1000 * size)}")
    (path / "houses.csv").write_text("\n".join(rows) + "\n")
    return path / "houses.csv"


def numbers_csv(path):
    """Without a header; three columns of the same scale, and the target in the last one."""
    x = np.random.default_rng(0).normal(size=(50, 3)).round(4)
    rows = [",".join(map(str, [*row, round(float(row.sum()) * 1000, 2)])) for row in x]
    (path / "numbers.csv").write_text("\n".join(rows) + "\n")
    return path / "numbers.csv"


def reviews_csv(path):
    """One column of texts, two classes that are not equally frequent."""
    rng = np.random.default_rng(0)
    rows = ["text,label"]
    for i in range(60):
        word = "bad" if i % 6 == 0 else "good"
        rows.append(f'"A {word} film, {" ".join(rng.choice(list("abcdef"), 6))} {i}",{word}')
    (path / "reviews.csv").write_text("\n".join(rows) + "\n")
    return path / "reviews.csv"


def reviews_txt(path):
    rng = np.random.default_rng(0)
    for word in ("bad", "fair", "good"):
        (path / "txt" / word).mkdir(parents=True)
        for i in range(20):
            text = f"a {word} film {' '.join(rng.choice(list('abcdef'), 12))}"
            (path / "txt" / word / f"{i}.txt").write_text(text)
    return path / "txt"


def sequences_npz(path):
    rng = np.random.default_rng(0)
    np.savez(path / "waves.npz", x=rng.normal(size=(40, 30, 2)), y=rng.normal(size=(40, 3)) + 5)
    return path / "waves.npz"


def sales_parquet(path):
    """Numbers, categories, a vector, a text, dates, missing values; the target is not the last column."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    draw = np.random.default_rng(0)
    shop = draw.choice(["north", "south", "1"], 80)
    table = pyarrow.table(
        {
            "price": draw.normal(20, 5, 80),
            "shop": shop,
            "vector": pyarrow.array(list(draw.normal(size=(80, 3))), pyarrow.list_(pyarrow.float64(), 3)),
            "remark": [
                f"{word} sale of day {i}" for i, word in enumerate(draw.choice(["good", "bad", "odd"], 80))
            ],
            "day": pyarrow.array(range(80), pyarrow.date32()),
            "open": draw.random(80) < 0.5,
            "gap": pyarrow.array([None, *range(79)], pyarrow.int64()),
            "label": draw.integers(0, 3, 80),
            "weight": draw.normal(size=80),
        }
    )
    parquet.write_table(table, path / "sales.parquet", row_group_size=30)
    return path / "sales.parquet"


def plain_parquet(path):
    """A folder of files that hold numbers only."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    draw = np.random.default_rng(0)
    (path / "parts").mkdir()
    for name in ("a", "b"):
        table = pyarrow.table(
            {"x": draw.normal(size=40), "y2": draw.normal(size=40), "size": draw.normal(size=40)}
        )
        parquet.write_table(table, path / "parts" / f"{name}.parquet")
    return path / "parts"


def tokens_npz(path):
    """Sentences as numbers of words, filled up with 0."""
    draw = np.random.default_rng(0)
    x = draw.integers(1, 200, (60, 12))
    x[np.arange(12) >= draw.integers(4, 13, 60)[:, None]] = 0
    np.savez(
        path / "tokens.npz",
        x_train=x,
        y_train=draw.integers(0, 2, 60),
        x_test=x[:9] * 2,
        y_test=np.arange(9) % 2,
    )
    return path / "tokens.npz"


KINDS = {
    digits_csv: ["labels: true", "units: 10, activation: softmax", "Left out: p0,", "x: Normalization"],
    digits_npz: ["Reshape: {target_shape: [8, 8, 1]}", "Rescaling: {scale: 0.0625} # pixels from 0..16"],
    digits_bytes: ["x_test: x_test", "Rescaling: {scale: 0.0039", "units: 10"],
    digits_png: ["image_size: [8, 8]", "color_mode: grayscale", "120 gray pictures of 8 by 8"],
    photographs: ["test_directory: photos/test", "color_mode: rgb", "of several sizes", "RandomFlip"],
    houses_csv: ["Rescaling: {scale:", "city: {StringLookup", "tf_idf", "Left out: id", "Left out: age"],
    numbers_csv: ["header: false", "target: 3", "metrics: [mae, R2Score]"],
    reviews_csv: ["activation: sigmoid", "binary_crossentropy", "class_weight: balanced", "Embedding"],
    reviews_txt: ["TextVectorization:", "output_sequence_length: 20", "units: 3"],
    sequences_npz: ["Conv1D", "- Dense: 3", "x: Normalization"],
    sales_parquet: [
        "shop: {StringLookup",
        "remark: {TextVectorization",
        "vector: Normalization",
        "vector: {input: [3]}",
        "Left out: day (expected numbers or texts, received date32[day])",
        "Left out: gap (expected a value",
        "target: label # the column to predict",
        "features: [price, shop, vector, remark, open, weight]",
    ],
    plain_parquet: ["path: parts", "target: size", "x: Normalization", "metrics: [mae, R2Score]"],
    tokens_npz: ["- Embedding: {input_dim: 399, output_dim: 32, mask_zero: true}", "units: 1", "0 fills up"],
}


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_written_trains_as_it_is(make, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = make(tmp_path)
    assert main(["init", str(data)]) == 0
    told = capsys.readouterr().out
    path = tmp_path / f"{data.stem}.yaml"
    text = path.read_text()
    assert f"wrote {path.name}; train with: jlayers train {path.name}" in told
    for part in KINDS[make]:
        assert part in text
    read_text(text)
    assert max(map(len, text.splitlines())) <= 125
    bare = [
        line for line in text.splitlines() if re.match(r"\s+(?!- )\w[\w ()]*: \S", line) and " # " not in line
    ]
    assert all(
        "{input:" in line or "inputs:" in line or "outputs:" in line or "all:" in line for line in bare
    )
    assert main(["train", path.name, "--epochs", "1", "--run", "run"]) == 0


@pytest.mark.slow
def test_it_learns(tmp_path):
    data = digits_png(tmp_path)
    made = config.loads(starter(data, tmp_path, "x.yaml").text, ["training.epochs=15"], base=tmp_path)
    (x, y), _ = made.parts
    _, history = train.fit(made.compile(), x, y, epochs=15, batch_size=16, seed=0)
    assert history["accuracy"][-1] > 0.9


def test_a_file_is_never_written_over_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = str(numbers_csv(tmp_path))
    path = tmp_path / "numbers.yaml"
    path.write_text("mine")
    assert main(["init", data]) == 2
    assert (
        "numbers.yaml exists already: choose another name by --output, or pass --force"
        in capsys.readouterr().err
    )
    assert path.read_text() == "mine"
    assert main(["init", data, "--output", "other.yaml"]) == 0
    assert main(["init", data, "--force"]) == 0
    assert path.read_text().startswith("# A table of 50 rows and 4 columns.")
    assert main(["init", data, "--output", "x.txt"]) == 2
    assert main(["init", data, "--output", "no/x.yaml"]) == 2


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "data").mkdir()
    numbers_csv(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "data/numbers.csv", "--output", "configs/n.yaml"]) == 0
    assert "path: ../data/numbers.csv #" in (tmp_path / "configs" / "n.yaml").read_text()
    far = starter("data/numbers.csv", tmp_path / "a" / "b" / "c", "x.yaml").text
    assert f"path: {tmp_path}/data/numbers.csv" in far.replace('"', "")


def test_target_and_task(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal():.3f},{i % 4},{rng.normal():.3f}" for i in range(40)]
    path = tmp_path / "t.csv"
    path.write_text("a,grade,b\n" + "\n".join(rows) + "\n")
    assert "Regression: " in starter(path, tmp_path, "x.yaml").text, "the last column"
    grades = starter(path, tmp_path, "x.yaml", target="grade").text
    assert "Classification: 4 classes" in grades
    amounts = starter(path, tmp_path, "x.yaml", target="grade", task="regression").text
    assert "Regression: the target goes from 0 to 3" in amounts
    path.write_text("a,Target,b\n" + "\n".join(rows) + "\n")
    assert "target: Target # the column to predict\n" in starter(path, tmp_path, "x.yaml").text


BAD = {
    "no.csv": (None, "no.csv: no such file or folder; expected a .csv, .parquet or .npz file, or a folder"),
    "empty.csv": ("", "empty.csv: expected a table, received an empty file"),
    "one.csv": ("a\n1\n2\n", "expected two columns or more"),
    "header.csv": ("a,b\n", "header.csv: expected rows below the header, received none"),
    "ragged.csv": ("a,b\n1,2\n1\n", "ragged.csv, line 3: expected 2 cells, received 1"),
    "odd.csv": ("a,b\n" + "1,2\n2,3\n" * 20 + "x,4\n", "odd.csv, line 42, column 'a': expected a number"),
    "missing.csv": (
        "a,y\n" + "1,2\n2,3\n" * 5 + "3,\n",
        "the target: 1 values are missing, the first on line 12",
    ),
    "same.csv": ("a,y\n1,2\n2,2\n", "the target: expected values that differ"),
    "names.csv": ("a,y\n" + "".join(f"{i % 7},n{i}\n" for i in range(20)), "name another column by --target"),
    "few.csv": ("a,b,y\n1,2,0.5\n2,5,0.7\n3,9,0.9\n", "expected at least 10 samples, received 3"),
    "nothing.csv": ("a,y\n" + "1,2\n1,3\n" * 9, "expected columns to learn from besides 'y', received none"),
    "x.feather": ("?", "expected a .csv, .parquet or .npz file, or a folder"),
    "x.npz": ("?", "x.npz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_told(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[name]
    if content is not None:
        pathlib.Path(name).write_text(content)
    assert main(["init", name]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"a": np.zeros((4, 2)), "b": np.zeros(4)},
            "expected arrays called x and y, received a float64(4, 2)",
        ),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, "expected samples along the first axis of both"),
        ({"x": np.zeros((4, 2)), "y": np.array(list("abcd"))}, "number the classes from 0"),
        ({"x": np.full((20, 2), np.nan), "y": np.zeros(20)}, "expected finite numbers"),
        ({"x": np.zeros((20, 2)), "y": np.zeros(20)}, "expected targets that are finite and differ"),
    ],
)
def test_bad_arrays_are_told(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape(message)):
        starter(tmp_path / "a.npz", tmp_path, "x.yaml")


def test_bad_folders_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected a folder of pictures or .txt files for each class"):
        starter(tmp_path / "empty", tmp_path, "x.yaml")
    folder = digits_png(tmp_path)
    (folder / "3" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"0.png: expected an image"):
        starter(folder, tmp_path, "x.yaml")
    with pytest.raises(ValueError, match=r"expected a --target with a .csv or .parquet file only"):
        starter(folder, tmp_path, "x.yaml", target="x")
    with pytest.raises(ValueError, match="folders are classes, received task='regression'"):
        starter(folder, tmp_path, "x.yaml", task="regression")


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "a b",
        "no",
        "1",
        "",
        "a: b",
        "a # b",
        "${x}",
        "é",
        "[",
        "-x",
        'q"',
        "a-b c",
        ["x", "1, 2"],
        {"k v": 1.5},
    ],
)
def test_values_on_one_line_are_read_back(value):
    read = read_text(f"v: {flow(value)}").data["v"]
    assert read == (value.replace("${", "$${") if isinstance(value, str) else value)


def test_names_of_columns_are_safe(tmp_path):
    path = tmp_path / "odd names.csv"
    names = ["a: b", "${x}", "no", "a-b", "all", "ä ö", "y"]
    rng = np.random.default_rng(0)
    rows = [
        ",".join([f"{rng.normal():.3f}"] * 2 + ["uv"[i % 2], "1", f"{i % 3}", "pq"[i % 2], f"{i % 2}"])
        for i in range(40)
    ]
    path.write_text(",".join(names) + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    made = starter(path, tmp_path, "x.yaml")
    loaded = config.loads(made.text, base=tmp_path)
    loaded.check()
    kept = config.loads(to_yaml(loaded.to_data()), base=tmp_path)
    assert list(kept.settings.preprocess) == list(loaded.settings.preprocess)
    assert set(loaded.source.train[0]) == {"a: b", "${x}", "no", "all", "ä ö"}, "a-b is the same in every row"
    assert os.fspath(path) == loaded.to_data()["data"]["csv"]["path"]


@pytest.mark.parametrize(
    ("x", "tokens"),
    [
        ([[5, 40, 30, 0], [37, 33, 0, 0]], True),
        ([[0, 0, 5, 40], [0, 30, 33, 9]], True),
        ([[5, 0, 40, 0], [37, 33, 30, 0]], False),  # a zero between others is a number
        ([[5, 40, 900, 0], [7, 33, 800, 0]], False),  # columns of other sizes are columns of a table
        ([[1, 2, 3, 0], [3, 2, 1, 0]], False),  # few numbers may be amounts
        ([[1.0, 40.0, 0.0, 0.0]], False),
    ],
)
def test_sequences_of_tokens_are_told_from_tables(x, tokens):
    assert _is_tokens(np.array(x)) == tokens
