"""`jlayers predict`: pictures as classes with their probabilities, one, several, or a folder of them."""

import re

import numpy as np
import pytest

import jlayers as jl
from jlayers import config
from jlayers.cli import main
from jlayers.runs import Run, predict_run
from jlayers.runs.inputs import read_inputs
from jlayers.runs.shares import class_shares

pytest.importorskip("PIL")
from PIL import Image

COLORS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
YAML = """\
data: {image_dataset_from_directory: {directory: pictures, image_size: [6, 8]}}
model: {Sequential: [{Rescaling: {scale: 0.01}}, Flatten, Dense: 3]}
loss: {SparseCategoricalCrossentropy: {from_logits: true}}
optimizer: {adam: {learning_rate: 0.05}}
training: {epochs: 8, batch_size: 6}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with pictures and a run that was trained on them, with logits as outputs."""
    path = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 50, (12, 16, 3)) + color
            Image.fromarray(pixels.astype(np.uint8)).save(path / "pictures" / name / f"{i}.png")
    (path / "c.yaml").write_text(YAML)
    assert main(["train", str(path / "c.yaml"), "--run", str(path / "run")]) == 0
    Image.new("RGB", (40, 20), (0, 10, 220)).save(path / "sky.jpg")
    return path


def test_one_picture(trained, capsys):
    assert main(["predict", str(trained / "run"), str(trained / "sky.jpg")]) == 0
    line = capsys.readouterr().out
    found = re.fullmatch(r"blue (\d+\.\d)%  (?:green|red) \d+\.\d%  (?:green|red) \d+\.\d%\n", line)
    assert found, line
    run = Run.open(trained / "run")
    logits = predict_run(run, read_inputs(run, trained / "sky.jpg"))
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    made, names = class_shares(run, logits)["output"]
    np.testing.assert_allclose(made, shares, rtol=1e-5)
    assert names == ["blue", "green", "red"]
    assert float(found[1]) == pytest.approx(100 * shares.max(), abs=0.06)


def test_several_pictures_and_folders(trained, capsys):
    red = trained / "pictures" / "red"
    given = [str(red), str(trained / "sky.jpg")]
    assert main(["predict", str(trained / "run"), *given, "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*(f"{red}/{i}.png" for i in range(6)), given[1]]
    assert [line.split()[1] for line in lines] == ["red"] * 6 + ["blue"]
    assert len({line.index(line.split()[1], len(given[0])) for line in lines}) == 1, "names in a column"
    assert main(["predict", str(trained / "run"), str(red), "--top", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("0.png  red ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["sky.jpg", "x.npy"], "expected one file, or several files .bmp,"),
        (["none.png"], "none.png"),
        (["x.npy", "x.npy"], "expected one file, or several files"),
        (["c.yaml"], "expected a .npy, .npz or .csv file, or a folder or files of .bmp"),
        (["sky.jpg", "--top", "0"], "expected at least 1 class to show"),
    ],
)
def test_what_does_not_fit(trained, monkeypatch, capsys, given, message):
    monkeypatch.chdir(trained)
    np.save("x.npy", np.zeros((1, 6, 8, 3), np.float32))
    assert main(["predict", "run", *given]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_pictures_for_a_run_on_bytes(trained, tmp_path, capsys):
    files = [trained / "pictures" / name / "0.png" for name in COLORS]
    x = np.stack([np.asarray(Image.open(file).convert("L")) for file in files] * 4)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(12) % 3)
    np.savez(tmp_path / "f.npz", x=x.astype(np.float32), y=np.arange(12) % 3)
    for name in "df":
        text = YAML.replace("image_dataset_from_directory: {directory: pictures, image_size: [6, 8]}",
                            f"npz: {{path: {name}.npz}}")  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(text.replace("epochs: 8", "epochs: 1"))
        assert main(["train", str(tmp_path / f"{name}.yaml"), "--run", str(tmp_path / name)]) == 0
    run = Run.open(tmp_path / "d")
    rows = read_inputs(run, files)
    np.testing.assert_array_equal(np.asarray(rows), x[:3])
    np.testing.assert_array_equal(predict_run(run, rows), predict_run(run, x[:3]))
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "d"), *map(str, files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(re.fullmatch(r"\S+ +[012] \S+%  [012] \S+%  [012] \S+%", line) for line in lines)
    assert main(["predict", str(tmp_path / "f"), str(files[0])]) == 2
    assert "pictures are for runs that were trained on pictures of bytes" in capsys.readouterr().err


@pytest.mark.slow
def test_an_ensemble_gives_probabilities_once(trained, capsys):
    run, rng = trained / "many", np.random.default_rng(0)
    np.savez(trained / "many.npz", x=rng.integers(0, 255, (12, 6, 8, 3), np.uint8), y=np.arange(12) % 3)
    change = ["--set", "data={npz: {path: many.npz}}", "--set", "seeds=2"]
    assert main(["train", str(trained / "c.yaml"), "--run", str(run), "--epochs", "2", *change]) == 0
    opened, x = Run.open(run), read_inputs(Run.open(run), trained / "sky.jpg")
    whole, _ = class_shares(opened, predict_run(opened, x))["output"]
    each = class_shares(opened, predict_run(opened, x, members=True), members=True)
    assert list(each) == ["seed_0", "seed_1"]
    np.testing.assert_allclose(whole, np.mean([shares for shares, _ in each.values()], 0), rtol=1e-4)
    one, _ = class_shares(opened, predict_run(opened, x, seed=1))["output"]
    np.testing.assert_allclose(one, each["seed_1"][0], rtol=1e-4)
    capsys.readouterr()
    assert main(["predict", str(run), str(trained / "sky.jpg"), "--members", "--top", "1"]) == 0
    assert re.fullmatch(r"seed_0:\n\w+ \S+%\nseed_1:\n\w+ \S+%\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("units", "loss", "names", "expected"),
    [
        ("{units: 1, activation: sigmoid}", "binary_crossentropy", ["no", "yes"], "two"),
        ("1", "{binary_crossentropy: {from_logits: true}}", None, "two"),
        ("{units: 2, activation: sigmoid}", "binary_crossentropy", ["no", "yes"], None),
        ("2", "mse", ["no", "yes"], None),
    ],
)
def test_what_outputs_mean_follows_from_the_loss(tmp_path, units, loss, names, expected):
    text = f"data: digits\nmodel: {{Sequential: [Flatten, Dense: {units}]}}\nloss: {loss}\n"
    run = Run.create(tmp_path / "r", config.loads(text).to_data())
    run.write_json("data.json", {"class_names": names})
    outputs = np.array([[0.25] * (2 if "2" in units else 1)], np.float32)
    found = class_shares(run, outputs)
    if expected is None:
        assert not found
    else:
        shares, known = found["output"]
        one = float(jl.activations.sigmoid(0.25)) if "logits" in loss else 0.25
        np.testing.assert_allclose(shares, [[1 - one, one]], rtol=1e-6)
        assert known == (names or ["0", "1"])
