"""The command line and the folder of a run: what is written, read back exactly, refused, and told."""

import contextlib
import io
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ruamel.yaml import YAML

import jlayers as jl
from jlayers import config
from jlayers.cli import main
from jlayers.runs import Run, load_weights, save_weights, train_run
from jlayers.runs.curves import draw_curves

TINY = """\
data: {npz: {path: data.npz, test_fraction: 0.25}}
model:
  Sequential:
    - Dense: {units: 8, activation: relu}
    - BatchNormalization
    - Dropout: 0.2
    - Dense: {units: 3, activation: softmax}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
optimizer: {adam: {learning_rate: 0.01}}
training: {epochs: 2, batch_size: 16, validation: 0.2}
"""


def prepare(path: pathlib.Path) -> pathlib.Path:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    np.savez(path / "data.npz", x=rng.normal(size=(90, 4)) + y[:, None], y=y)
    (path / "tiny.yaml").write_text(TINY)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a run was trained; the tests only read it."""
    path = prepare(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out, io.StringIO() as err:
        patch.chdir(path)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(["train", "tiny.yaml"]) == 0
        (path / "out.txt").write_text(out.getvalue())
        (path / "err.txt").write_text(err.getvalue())
    return path


# --------------------------------------------------------------------------------------------- train


def test_a_run_keeps_everything(trained):
    run = trained / "runs" / "tiny-1"
    assert sorted(p.name for p in run.iterdir()) == [
        "config.yaml",
        "curves.png",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "summary.txt",
        "weights.safetensors",
    ]
    results = json.loads((run / "results.json").read_text())
    assert results["status"] == "completed"
    assert set(results["test"]) == set(results["validation"]) == set(results["train"]) == {"loss", "accuracy"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[-1]["val_loss"] == results["validation"]["loss"]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["settings"]["jax_default_prng_impl"] == "threefry2x32"
    assert "jax_threefry_partitionable" in environment["settings"]
    assert "batch_normalization" in (run / "summary.txt").read_text()
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((run / "data.json").read_text())
    assert (data["train"], data["test"]) == (66, 24)


def test_the_kept_configuration_needs_nothing_else(trained, monkeypatch, tmp_path):
    kept = YAML(typ="safe").load((trained / "runs/tiny-1/config.yaml").read_text())
    assert kept["data"]["npz"]["path"] == str(trained / "data.npz")
    assert kept["training"]["shuffle"] is True
    monkeypatch.chdir(tmp_path)
    assert config.load(trained / "runs/tiny-1/config.yaml").to_data() == kept


def test_evaluate_gives_exactly_what_training_gave(trained, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(trained / "runs/tiny-1")]) == 0
    out = capsys.readouterr().out
    printed = dict(line.split() for line in out.strip().splitlines())
    test = json.loads((trained / "runs/tiny-1/results.json").read_text())["test"]
    assert {name: float(value) for name, value in printed.items()} == test


def test_the_same_seed_gives_the_same_bits(trained, folder, capsys):
    assert main(["train", "tiny.yaml", "--run", "again"]) == 0
    first, second = trained / "runs/tiny-1", folder / "again"
    for name in ("metrics.jsonl", "weights.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_runs_are_numbered_and_never_written_over(folder, capsys):
    runs = [Run.create_next("runs", "tiny", {"seed": seed}) for seed in range(2)]
    assert [run.path.name for run in runs] == ["tiny-1", "tiny-2"]
    before = (folder / "runs/tiny-1/config.yaml").read_bytes()
    assert main(["train", "tiny.yaml", "--run", "runs/tiny-1"]) == 2
    assert "never written over" in capsys.readouterr().err
    assert (folder / "runs/tiny-1/config.yaml").read_bytes() == before


def test_what_training_says(trained):
    out, err = (trained / "out.txt").read_text(), (trained / "err.txt").read_text()
    for part in (
        "data",
        "66 for training, 24 held out",
        "Sequential, 83 parameters",
        "runs/tiny-1",
        "held out",
    ):
        assert part in out
    assert "\x1b" not in out + err
    assert [line.split()[1] for line in err.splitlines()] == ["1/2", "2/2"]


def test_early_stopping_keeps_the_best_weights(folder, capsys):
    options = "{monitor: val_loss, patience: 1, restore_best_weights: true}"
    sets = [
        f"training.early_stopping={options}",
        "optimizer={sgd: {learning_rate: 5.0}}",
        "training.epochs=12",
    ]
    assert main(["train", "tiny.yaml", "--run", "r", *(a for s in sets for a in ("--set", s))]) == 0
    results = Run("r").results()
    history = Run("r").history()
    assert results["epochs"] == len(history["loss"]) < 12
    assert results["validation"]["loss"] == min(history["val_loss"])
    assert results["kept_epoch"] == 1 + int(np.argmin(history["val_loss"]))
    assert main(["evaluate", "r"]) == 0
    assert repr(results["test"]["loss"]) in capsys.readouterr().out


def test_a_run_that_blows_up_says_so_and_harms_nothing(folder, capsys):
    assert main(["train", "tiny.yaml", "--run", "r", "--set", "optimizer={sgd: {learning_rate: 1e38}}"]) == 1
    assert "the loss became nan" in capsys.readouterr().err
    results = Run("r").results()
    assert results["status"] == "failed"
    assert "nan" in results["reason"]
    assert main(["evaluate", "r"]) == 2
    assert "status is 'failed'" in capsys.readouterr().err


def test_an_interrupted_run_keeps_its_last_epoch(folder, capsys):
    made = config.load("tiny.yaml")
    run = Run.create("r", made.to_data())

    class Interrupt(jl.Callback):
        def on_epoch_begin(self, epoch):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(made, run, [Interrupt()])
    assert run.results()["status"] == "interrupted"
    assert len(run.history()["loss"]) == 1
    assert main(["evaluate", "r"]) == 0
    assert "'interrupted'" in capsys.readouterr().out


# ------------------------------------------------------------------------------- evaluate, predict


def test_predict_from_npy_npz_and_csv(trained, capsys, tmp_path):
    run = str(trained / "runs/tiny-1")
    x = np.load(trained / "data.npz")["x"][:5].astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c,d", comments="", fmt="%.9g")
    outputs = []
    for name in ("x.npy", "x.npz", "x.csv"):
        assert (
            main(["predict", run, str(tmp_path / name), "--output", str(tmp_path / f"{name}.out.npy")]) == 0
        )
        outputs.append(np.load(tmp_path / f"{name}.out.npy"))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    made = config.load(f"{run}/config.yaml")
    weights = jax.eval_shape(lambda: made.model.init(jax.random.key(0), made.data.features))
    params, state = Run(run).weights(*weights)
    expected, _ = made.model.apply(params, state, jnp.asarray(x))
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-6)
    assert main(["predict", run, str(tmp_path / "x.npy")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", np.ones((2, 5), np.float32), r"expected samples of shape (4,), received shape (2, 5)"),
        ("x.npy", np.ones((2, 4), np.int32), "prepared as the training data were"),
        ("x.txt", None, "expected a .npy, .npz or .csv file"),
        ("none.npy", None, "No such file"),
    ],
)
def test_predict_refuses_what_does_not_fit(trained, capsys, tmp_path, name, content, message):
    if content is not None:
        np.save(tmp_path / name, content)
    assert main(["predict", str(trained / "runs/tiny-1"), str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_predict_does_not_write_over_a_file(trained, capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    (tmp_path / "out.csv").write_text("precious")
    run = str(trained / "runs/tiny-1")
    assert main(["predict", run, str(tmp_path / "x.npy"), "--output", str(tmp_path / "out.csv")]) == 2
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert main(["predict", run, str(tmp_path / "x.npy"), "--output", str(tmp_path / "new.csv")]) == 0
    assert np.loadtxt(tmp_path / "new.csv", delimiter=",").shape == (2, 3)


def test_changed_data_are_noticed(trained, capsys, tmp_path):
    shutil.copytree(trained / "runs/tiny-1", tmp_path / "r")
    facts = json.loads((tmp_path / "r/data.json").read_text())
    (tmp_path / "r/data.json").write_text(json.dumps({**facts, "fingerprint": "another"}))
    assert main(["evaluate", str(tmp_path / "r")]) == 0
    assert "the data have changed" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.yaml"], "none.yaml: cannot be read"),
        (["train", "tiny.yaml", "--set", "model.Sequential.0.Dense.unts=3"], "Dense takes no 'unts'"),
        (["train", "tiny.yaml", "--epochs", "0"], "received epochs=0"),
        (["train", "tiny.yaml", "--set", "data.npz.path=other.npz"], "tiny.yaml"),
        (["summary", "tiny.yaml", "--set", "model.Sequential.0=Conv2D"], "Conv2D needs 'filters'"),
        (["evaluate", "nowhere"], "nowhere is no run"),
        (["predict", "nowhere", "x.npy"], "nowhere is no run"),
        (["list", "layrs"], "did you mean 'layers'"),
    ],
)
def test_errors_are_told_without_a_traceback(folder, capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err.replace("\n", " ")
    assert "Traceback" not in out + err
    assert not (folder / "runs").exists()


def test_debug_shows_the_traceback(folder, capsys):
    assert main(["evaluate", "--debug", "nowhere"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_layer_that_does_not_fit_is_told_with_its_line(folder, capsys):
    assert (
        main(["train", "tiny.yaml", "--set", "model.Sequential.1={Conv1D: {filters: 1, kernel_size: 3}}"])
        == 2
    )
    err = capsys.readouterr().err
    assert "--set model.Sequential.1" in err
    assert "in layer 'conv1d'" in err
    path = pathlib.Path("tiny.yaml")
    path.write_text(path.read_text().replace("BatchNormalization", "Conv1D: {filters: 1, kernel_size: 3}"))
    assert main(["summary", "tiny.yaml"]) == 2
    assert "tiny.yaml:5: model.Sequential.layers.1.Conv1D" in capsys.readouterr().err


# -------------------------------------------------------------------------- list, schema, summary


def test_list_names_every_kind(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for part in (
        "layers",
        "Dense(units,",
        "losses",
        "MeanSquaredError(",
        "adam(learning_rate=0.001",
        "digits(",
    ):
        assert part in out
    assert main(["list", "schedules"]) == 0
    out = capsys.readouterr().out
    assert "cosine_decay_schedule(init_value, decay_steps" in out
    assert "Dense" not in out


def test_schema_is_printed_as_json(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "jlayers experiment"


def test_summary_of_a_file(folder, capsys):
    assert main(["summary", "tiny.yaml"]) == 0
    assert "dense_1" in capsys.readouterr().out


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "jlayers.cli", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2


# -------------------------------------------------------------------------------------------- weights


def test_weights_of_all_dtypes_and_orders(tmp_path):
    path = tmp_path / "w.safetensors"
    params = {
        "a": {"half": jnp.ones((2, 3), jnp.bfloat16), "scalar": jnp.zeros(()), "empty": jnp.zeros((0, 3))},
        "b": jnp.arange(3, dtype=jnp.int8),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "yes": jnp.array([True, False]),
    }
    state = {"count": jnp.uint32(7)}
    save_weights(path, params, state)
    loaded = load_weights(path, params, state)
    jax.tree.map(np.testing.assert_array_equal, loaded, (params, state))
    assert jax.tree.map(lambda a: a.dtype, loaded) == jax.tree.map(lambda a: a.dtype, (params, state))
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        assert "params/a/half" in file.keys()  # noqa: SIM118


def test_weights_that_do_not_fit_are_all_listed(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "old": jnp.ones(1)})
    model = {"dense": {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(3, jnp.bfloat16)}, "new": jnp.ones(1)}
    with pytest.raises(ValueError, match="does not fit the model") as error:
        load_weights(path, model)
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 4
    for part in (
        "params/dense/kernel as float32(2, 4)",
        "params/dense/bias as bfloat16",
        "missing params/new",
    ):
        assert part in str(error.value)
    assert "unknown params/old" in lines[-1]


def test_rubbish_is_no_weights_file(tmp_path):
    path = tmp_path / "w.safetensors"
    for content in (
        b"",
        b"\xff" * 64,
        b"\x08\0\0\0\0\0\0\0notjson!",
        (1 << 60).to_bytes(8, "little") + b"{}",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="expected a safetensors file"):
            load_weights(path, {"a": jnp.ones(1)})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": jnp.ones(2)})
    before = path.read_bytes()
    with pytest.raises(TypeError, match="params/key: expected an array of numbers"):
        save_weights(path, {"key": jax.random.key(0)})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_weights(path, {"a": jnp.zeros(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_curves_of_one_epoch_of_none_and_without_matplotlib(tmp_path, monkeypatch):
    assert draw_curves(tmp_path / "a.png", {"loss": [1.0]})
    assert not draw_curves(tmp_path / "b.png", {})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(tmp_path / "c.png", {"loss": [1.0, 0.5]})
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
