"""What a model makes of the held-out data, and the report of a run as one page."""

import base64
import html.parser
import io
import json
import re
import shutil
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import jlayers as jl
from jlayers.cli import main
from jlayers.data import Dataset, register
from jlayers.data.concatenate import _chain
from jlayers.data.dataset import registry
from jlayers.experiments.outcomes import Outcomes, draw_outcomes, read_outcomes
from jlayers.experiments.outcomes.judge import judge, reliability
from jlayers.experiments.outcomes.kinds import Example
from jlayers.experiments.outcomes.samples import file_of, shown
from jlayers.experiments.report import report
from jlayers.experiments.report.html import element, page
from jlayers.experiments.report.speed import duration
from jlayers.losses.base import as_loss
from jlayers.runs import Run

HOSTILE = '<script>alert("1")</script>'
RNG = np.random.default_rng(0)


def images_and_numbers():
    """Images, texts and numbers as inputs; a class, a number and labels as targets."""
    rows = 40
    y = np.arange(rows, dtype=np.int32) % 3
    x = {
        "image": (RNG.random((rows, 6, 5)) * 0.4 + 0.2 * y[:, None, None]).astype(np.float32),
        "text": np.array([f"{HOSTILE} & {word}" for word in np.array(["a", "b", "c d"])[y]], object),
        "age": RNG.normal(size=rows).astype(np.float32),
    }
    tags = np.stack([y > 0, y > 1], 1).astype(np.float32)
    targets = {"kind": y, "size": (x["age"] * 2)[:, None], "tags": tags}
    parts = [({n: a[rows] for n, a in x.items()}, {n: a[rows] for n, a in targets.items()})
             for rows in (slice(0, 24), slice(24, 40))]  # fmt: skip
    return Dataset("hostile <b>", *parts, class_names=(HOSTILE, "b & $x$", "c\x00\n"))


CONFIG = """\
data: images_and_numbers
preprocess: {text: {TextVectorization: {output_sequence_length: 3}}}
model:
  Model:
    inputs: {image: image, text: text, age: age}
    nodes:
      image: {input: [6, 5]}
      text: {input: [3], dtype: int32}
      age: {input: []}
      flat: {layer: Flatten, inputs: image}
      words: {layer: {Embedding: {input_dim: 9, output_dim: 2}}, inputs: text}
      line: {layer: Flatten, inputs: words}
      one: {layer: {Reshape: {target_shape: [1]}}, inputs: age}
      all: {layer: Concatenate, inputs: [flat, line, one]}
      kind: {layer: {Dense: {units: 3, activation: softmax}}, inputs: all}
      size: {layer: {Dense: 1}, inputs: one}
      tags: {layer: {Dense: {units: 2, activation: sigmoid}}, inputs: all}
    outputs: {kind: kind, size: size, tags: tags}
loss: {kind: sparse_categorical_crossentropy, size: mse, tags: binary_crossentropy}
metrics: {kind: [accuracy]}
training: {epochs: 2, batch_size: 8, profile: {steps: [4, 5]}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with all kinds of inputs and outputs, and names that would like to be code."""
    folder = tmp_path_factory.mktemp("report")
    before = {name: dict(table) for name, table in vars(registry).items() if isinstance(table, dict)}
    register(images_and_numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("JLAYERS_PICTURES", "1")
        (folder / "c.yaml").write_text(CONFIG)
        assert main(["train", "c.yaml", "--run", "a $run$ <i>"]) == 0
    yield Run.open(folder / "a $run$ <i>")
    vars(registry).update(before)


class Page(html.parser.HTMLParser):
    """What is on a page: tags with their attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.texts.append(text)

    @property
    def text(self):
        return " ".join(self.texts)


def is_safe(found):
    """No script, no handler, and nothing from elsewhere."""
    for tag, attributes in found.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base", "i")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert value.startswith(("#", "data:image/png;base64,"))
            if name == "style":
                assert not re.search(r"url\((?!#)", value)
    style = next(text for text in found.texts if "--page" in text)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    return True


@pytest.mark.slow
def test_training_leaves_outcomes_and_pictures(run):
    outcomes = read_outcomes(run)
    assert (outcomes.data, outcomes.samples) == ("held out", 16)
    kind, size, tags = outcomes.outputs
    assert (kind.kind, size.kind, tags.kind) == ("classes", "numbers", "labels")
    held_out = json.loads((run.path / "results.json").read_text())["test"]
    assert 1 - kind.wrong / kind.count == pytest.approx(held_out["kind_accuracy"])
    assert size.columns[0].root_mean_squared_error ** 2 == pytest.approx(held_out["size_loss"], rel=1e-5)
    pictures = {path.name for path in run.path.glob("*.png")}
    expected = {"0-kind-confusion", "0-kind-calibration", "0-kind-worst", "1-size-regression", "1-size-worst",
                "2-tags-calibration", "2-tags-worst"}  # fmt: skip
    assert {f"{name}.png" for name in expected} <= pictures
    example = kind.worst[0]
    assert [one.kind for one in example.inputs] == ["values", "image", "text"]
    assert base64.b64decode(example.inputs[1].image).startswith(b"\x89PNG")
    assert example.inputs[2].text.startswith(HOSTILE)


@pytest.mark.slow
def test_the_page_is_whole_and_safe(run, tmp_path):
    path = report(run.path, tmp_path / "page.html")
    text = path.read_text()
    found = Page(text)
    assert is_safe(found)
    assert HOSTILE not in text
    assert HOSTILE in found.text
    for words in (
        "a $run$ <i>", "completed", "hostile <b>", "24 samples to train on, 16 held out", "Output kind",
        "precision", "Predicted wrongly", "samples per second", "waited for data", "Steps 4 to 5 took",
        "RMSE", "TextVectorization", "jaxlib", "sparse_categorical_crossentropy", "SHA-256",
    ):  # fmt: skip
        assert words in found.text, words
    assert sum(tag == "svg" for tag, _ in found.tags) == 10  # five curves, and five of what is held out
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for t, a in found.tags if t in ("a", "use") and "href" in a}
    assert links <= set(ids)


@pytest.mark.slow
def test_a_run_that_has_not_ended_well(run, tmp_path, monkeypatch):
    """What is there is shown, what is not is told; without matplotlib a table stands for the curves."""
    copy = tmp_path / "failed"
    shutil.copytree(run.path, copy)
    results = json.loads((copy / "results.json").read_text())
    results |= {"status": "failed", "reason": f"ValueError: {HOSTILE}"}
    for name in ("test", "seconds"):
        del results[name]
    (copy / "results.json").write_text(json.dumps(results))
    for name in ("weights.safetensors", "outcomes.json", "times.jsonl"):
        (copy / name).unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = Page(report(copy).read_text())
    assert is_safe(found)
    assert f"ValueError: {HOSTILE}" in found.text
    assert "the run has saved no weights" in found.text
    assert "pip install 'jlayers[plot]'" in found.text
    assert "epoch" in found.text
    assert not [tag for tag, _ in found.tags if tag == "svg"]
    (copy / "metrics.jsonl").unlink()
    assert "No epoch has ended." in report(copy).read_text()


@pytest.mark.slow
def test_a_run_of_many_seeds(run, tmp_path, monkeypatch):
    copy = tmp_path / "seeds"
    shutil.copytree(run.path, copy)
    results = json.loads((copy / "results.json").read_text())
    one = {"mean": 0.5, "std": None, "low": 0.25, "high": 0.75}
    results["seeds"] = {"numbers": [4, 5], "test": {"kind_accuracy": one}}
    results["ensemble"] = {"test": {"kind_accuracy": 0.625}}
    (copy / "results.json").write_text(json.dumps(results))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = Page(report(copy).read_text()).text
    for words in ("Over the seeds 4, 5", "25.00% to 75.00%", "of the ensemble", "62.50%"):
        assert words in text


def test_a_report_of_no_run_says_so(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is not a run" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_the_page(run, tmp_path, capsys):
    assert main(["report", str(run.path), "--output", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    assert main(["report", str(tmp_path)]) == 2
    assert main(["report", str(run.path), "--output", str(tmp_path / "no" / "r.html")]) == 2
    assert "is not a run" in (err := capsys.readouterr().err)
    assert "make it first" in err
    (run.path / "outcomes.json").rename(tmp_path / "kept.json")
    (run.path / "outcomes.json").write_text('{"data": "held out", "samples": 3}')
    assert "is damaged" in Page(report(run.path, tmp_path / "d.html").read_text()).text
    (tmp_path / "kept.json").rename(run.path / "outcomes.json")


# ------------------------------------------------------------------------------------ single outputs


def show(row, loss, true, predicted):
    return Example(row, loss, true, predicted)


def judged(loss, target, output, names=None):
    return judge("", as_loss(jl.losses.get(loss)), target, output, names, show)


def test_classes_are_counted_as_scikit_learn_counts_them():
    metrics = pytest.importorskip("sklearn.metrics")
    logits = RNG.normal(size=(200, 4)).astype(np.float32)
    y = RNG.integers(0, 3, 200).astype(np.int32)  # class 3 has no sample
    found = judged({"sparse_categorical_crossentropy": {"from_logits": True}}, y, logits)
    said = logits.argmax(1)
    np.testing.assert_array_equal(found.matrix, metrics.confusion_matrix(y, said, labels=range(4)))
    expected = metrics.precision_recall_fscore_support(y, said, labels=range(4), zero_division=0)
    rates = [[r.precision or 0, r.recall or 0, r.f1 or 0, r.support] for r in found.rates]
    np.testing.assert_allclose(np.array(rates).T, expected)
    assert found.rates[3].recall is None
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(200), y]
    order = [row for row in np.argsort(-losses) if said[row] != y[row]][:12]
    assert [one.row for one in found.worst] == order
    assert found.worst[0].loss == pytest.approx(losses[order[0]], rel=1e-5)
    one_hot = judged(
        {"categorical_crossentropy": {"from_logits": True}}, np.eye(4, dtype=np.float32)[y], logits
    )
    assert one_hot.confusion == found.confusion
    # Guo et al. (2017), by their formula
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure, places = shares.max(1), np.minimum((shares.max(1) * 15).astype(int), 14)
    gaps = [abs((said == y)[places == b].mean() - sure[places == b].mean()) * (places == b).mean()
            for b in range(15) if (places == b).any()]  # fmt: skip
    assert found.calibration_error == pytest.approx(sum(gaps), rel=1e-5)


def test_yes_or_no_labels_and_what_does_not_count():
    p = np.float32([[0.9], [0.2], [0.6], [np.nan]])
    found = judged("binary_crossentropy", np.float32([[1], [0], [0], [1]]), p, ["no", "yes"])
    assert (found.classes, found.confusion) == (["no", "yes"], [(0, 0, 1), (0, 1, 1), (1, 1, 1)])
    assert (found.count, found.left_out, found.worst[0].predicted) == (3, 1, "yes (60%)")
    several = judged(
        "binary_crossentropy", np.float32([[1, 0], [1, 1]]), np.float32([[0.9, 0.1], [0.2, 0.8]])
    )
    assert [(r.precision, r.recall, r.support) for r in several.rates] == [(1.0, 0.5, 2), (1.0, 1.0, 1)]
    assert [(one.row, one.true, one.predicted) for one in several.worst] == [(1, "0, 1", "1")]
    # positions in padding, and a class that the loss ignores, are left out
    logits = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    masked = jl.Masked(jnp.asarray(logits), jnp.array([[True, True, False], [True, True, True]]))
    loss = {"SparseCategoricalCrossentropy": {"from_logits": True, "ignore_class": 3}}
    words = judged(loss, np.int32([[0, 3, 1], [2, 1, 0]]), masked, ["a", "b", "c", "d"])
    assert (words.count, words.left_out) == (4, 2)
    assert {one.true for one in words.worst} <= {"a", "c b a"}


def test_numbers_and_what_has_no_picture():
    true = RNG.normal(size=(50, 2)).astype(np.float32)
    made = true + RNG.normal(size=(50, 2)).astype(np.float32)
    found = judged("mse", true, made, ["height", "weight"])
    assert [column.name for column in found.columns] == ["height", "weight"]
    for column, t, p in zip(found.columns, true.T.astype(float), made.T.astype(float), strict=True):
        assert column.mean_error == pytest.approx(float((p - t).mean()))
        assert column.r2 == pytest.approx(1 - ((t - p) ** 2).sum() / ((t - t.mean()) ** 2).sum())
        assert sum(column.counts) == len(column.points) == 50
    assert found.worst[0].row == int(((made - true) ** 2).mean(1).argmax())
    constant = judged("mae", np.ones((3, 1), np.float32), np.float32([[1], [2], [np.inf]]))
    assert (constant.columns[0].r2, constant.left_out) == (None, 1)
    wide = judged("mse", np.zeros((4, 9), np.float32), np.ones((4, 9), np.float32))
    assert [(column.name, sum(column.counts)) for column in wide.columns] == [("all", 36)]
    assert judged("mse", None, made).kind == "other"
    assert judged("mse", np.zeros((2, 1), np.float32), np.full((2, 1), np.nan, np.float32)).kind == "other"


def test_samples_as_people_see_them():
    table = shown(np.float32([[1, 2.5]]), 0, ["age", "height"])
    assert [(one.kind, one.values) for one in table] == [("values", [("age", "1"), ("height", "2.5")])]
    (image,) = shown(np.zeros((2, 300, 200, 3), np.uint8), 1)
    with pytest.MonkeyPatch.context() as patch:
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(image.image)))
        assert picture.size == (85, 128)
        patch.setitem(sys.modules, "PIL", None)
        assert shown(np.zeros((1, 4, 4)), 0)[0].kind == "values"
    (long,) = shown(np.array(["x" * 999], object), 0)
    assert len(long.text) == 300


def test_a_sample_of_a_folder_has_a_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            PIL.Image.new("RGB", (2, 2)).save(tmp_path / name / f"{number}.png")
    images = jl.data.image_dataset_from_directory(tmp_path, image_size=(2, 2)).train[0]
    chosen = images.map(lambda a: a).select([3, 1])
    assert [file_of(chosen, row) for row in (0, 1)] == [file_of(images, row) for row in (3, 1)]
    assert sorted(file_of(images, row) for row in range(4)) == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert file_of(_chain([images, np.zeros((2, 2, 2, 3), np.float32), chosen]), 6) == file_of(chosen, 0)
    assert file_of(np.zeros(3), 0) is None
    for name in ("a", "b"):
        (tmp_path / name / "0.txt").write_text(f"{name} word")
    texts = jl.data.text_dataset_from_directory(tmp_path).train[0]
    assert {one.text for row in (0, 1) for one in shown(texts, row)} == {"a word", "b word"}


def test_reliability_of_edges():
    assert reliability(np.zeros(0), np.zeros(0, bool)) == []
    (last,) = reliability(np.ones(2), np.array([True, False]))
    assert (last.count, last.confidence, last.accuracy) == (2, 1.0, 0.5)


def test_texts_are_escaped_by_construction():
    made = page(HOSTILE, "a{}", element("p", HOSTILE, "\x00\ud800", title='" onclick="x'))
    assert HOSTILE not in made
    found = Page(made)
    assert ("p", {"title": '" onclick="x'}) in found.tags
    assert "\x00" not in made
    assert made.encode()


def test_pictures_of_many_classes_and_odd_names(tmp_path):
    y = np.arange(50, dtype=np.int32)
    names = [f"class {n} \\frac$x_{{1}}$ \N{GRINNING FACE}" for n in y]
    found = judged("sparse_categorical_crossentropy", y, np.full((50, 50), 0.02, np.float32), names)
    outcomes = Outcomes("held out", found.count, "", [found])
    (tmp_path / "worst.png").write_bytes(b"of earlier weights")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = draw_outcomes(outcomes, tmp_path)
    assert [file.name for file in files] == ["confusion.png", "calibration.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["calibration.png", "confusion.png"]


def test_durations():
    assert [duration(t) for t in (float("nan"), -1.0, 59.99)] == ["–", "–", "60 s"]
