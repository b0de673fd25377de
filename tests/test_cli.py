"""The command line and the folder of a run: what is written, read back exactly, refused, and told."""

import asyncio
import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors import safe_open

import jlayers as jl
from jlayers import config
from jlayers.cli import _parser, main
from jlayers.cli.arguments import spread
from jlayers.cli.commands.predict import _print_outputs
from jlayers.cli.terminal import console, lasting_streams, no_lost_loops
from jlayers.runs import Run, RunWarning, evaluate_run, load_weights, save_weights, train_run
from jlayers.runs.curves import curves_figure, draw_curves
from jlayers.runs.outputs import named_outputs, write_outputs
from jlayers.runs.restored import weights_of

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
        "model.json",
        "requirements.txt",
        "results.json",
        "summary.txt",
        "times.jsonl",
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


@pytest.mark.slow
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
    assert "'interrupted'" in capsys.readouterr().err


# ------------------------------------------------------------------------------- evaluate, predict


def test_predict_from_npy_npz_and_csv(trained, capsys, tmp_path):
    run = str(trained / "runs/tiny-1")
    with np.load(trained / "data.npz") as file:
        x = file["x"][:5].astype(np.float32)
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
        ("x.npy", np.ones((2, 4), np.int32), "as the training data were, received int32"),
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
    out, err = capsys.readouterr()
    assert out.startswith("loss")
    assert "the data have changed" in err
    assert "data.json has changed" in err


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.yaml", lambda old: old.replace(b"relu", b"tanh"), "config.yaml has changed"),
        ("weights.safetensors", lambda old: old[:-4] + b"\x00\x00\xc0\x7f", "weights that are not finite"),
        (
            "environment.json",
            lambda old: old.replace(jax.__version__.encode(), b"0.0.1"),
            f"jax 0.0.1, now {jax.__version__}",
        ),
    ],
)
def test_what_differs_from_the_training_is_told(trained, capsys, tmp_path, name, change, message):
    shutil.copytree(trained / "runs/tiny-1", tmp_path / "r")
    path = tmp_path / "r" / name
    path.write_bytes(change(path.read_bytes()))
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    for arguments in (
        ["evaluate", str(tmp_path / "r")],
        ["predict", str(tmp_path / "r"), str(tmp_path / "x.npy")],
    ):
        assert main(arguments) == 0
        assert message in capsys.readouterr().err
    with pytest.warns(RunWarning):
        evaluate_run(Run(tmp_path / "r"))


@pytest.mark.parametrize("name", ["results.json", "data.json", "environment.json", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"])
def test_a_damaged_file_of_a_run_is_named(trained, capsys, tmp_path, name, content):
    shutil.copytree(trained / "runs/tiny-1", tmp_path / "r")
    (tmp_path / "r" / name).write_bytes(content)
    assert main(["evaluate", str(tmp_path / "r")]) == 2
    assert f"r/{name}" in capsys.readouterr().err.splitlines()[0]


def test_facts_that_are_missing_from_the_data_are_named(trained, capsys, tmp_path):
    shutil.copytree(trained / "runs/tiny-1", tmp_path / "r")
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    for damage in ({}, {"inputs": 3}, {"inputs": [{"name": "", "shape": "x", "dtype": "float32"}]}):
        (tmp_path / "r/data.json").write_text(json.dumps(damage))
        assert main(["predict", str(tmp_path / "r"), str(tmp_path / "x.npy")]) == 2
        assert "data.json is damaged" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ outputs


@pytest.mark.parametrize("name", ["O.NPZ", "O.Npy", "O.CSV"])
def test_outputs_go_where_they_were_asked_to(trained, tmp_path, name):
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    folder = tmp_path / "out"
    folder.mkdir()
    run = str(trained / "runs/tiny-1")
    assert main(["predict", run, str(tmp_path / "x.npy"), "--output", str(folder / name)]) == 0
    assert [path.name for path in folder.iterdir()] == [name]


def test_outputs_are_refused_before_any_work(trained, capsys, tmp_path):
    run = str(trained / "runs/tiny-1")
    (tmp_path / "link.npy").symlink_to("nowhere")
    for name, message in (
        ("o.txt", "expected a .npy"),
        ("a/o.npy", "no folder"),
        ("link.npy", "exists already"),
    ):
        assert main(["predict", run, "none.npy", "--output", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_masked_outputs_keep_their_mask(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    mask = np.array([[True, True, False], [True, False, False]])
    named = named_outputs(jl.Masked(values, mask))
    write_outputs(tmp_path / "o.npz", named)
    with np.load(tmp_path / "o.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["output"], values)
        np.testing.assert_array_equal(found["output_mask"], mask)
    for suffix in ("npy", "csv"):
        with pytest.raises(ValueError, match=r"expected a .npz file.*output_mask bool\(2, 3\)"):
            write_outputs(tmp_path / f"o.{suffix}", named)
    assert [path.name for path in tmp_path.iterdir()] == ["o.npz"]


def test_only_what_is_real_is_printed(capsys):
    mask = np.array([[True, True, False], [True, False, False]])
    _print_outputs({"p": jl.Masked(np.arange(6).reshape(2, 3) * 100_000, mask)}, {})
    assert capsys.readouterr().out == "0 100000\n300000\n"
    p = np.array([[0.25, 0.75], [0.5, 0.5]])
    _print_outputs({"p": p, "q": np.array([[True]] * 2)}, {"p": (p, ("no", "yes"))}, ["a.png", "bb.png"])
    assert capsys.readouterr().out == (
        "p:\na.png   yes 75.0%  no 25.0%\nbb.png  no 50.0%  yes 50.0%\nq:\na.png   True\nbb.png  True\n"
    )


def test_outputs_of_all_kinds_are_named_and_written(tmp_path):
    outputs = {"file": np.array([1, 2], np.int32), "a": (np.zeros((2, 0)), jnp.ones(2, jnp.bfloat16))}
    named = named_outputs(outputs)
    assert list(named) == ["a_0", "a_1", "file"]
    write_outputs(tmp_path / "o.npz", named)
    with np.load(tmp_path / "o.npz", allow_pickle=False) as found:
        assert found["file"].tolist() == [1, 2]
        assert found["a_1"].dtype == np.float32
    exact = np.array([[1 / 3, -2e-300], [7.0, 1e9]])
    for array, dtype in ((exact, float), (exact.astype(np.float32), np.float32), (exact > 0, int)):
        path = tmp_path / f"{array.dtype}.csv"
        write_outputs(path, {"output": array})
        np.testing.assert_array_equal(np.loadtxt(path, delimiter=",", dtype=dtype), array)


SEMICOLONS = """\
data: {csv: {path: d.csv, target: "2", header: false, delimiter: ";", test_fraction: 0.25}}
model: {Dense: 1}
loss: mse
training: {epochs: 1}
"""


def test_predict_reads_csv_as_the_run_did(folder, capsys):
    rows = np.random.default_rng(0).normal(size=(8, 3))
    np.savetxt("d.csv", rows, delimiter=";")
    np.savetxt("new.csv", rows[:3, :2], delimiter=";")
    np.savetxt("commas.csv", rows[:3, :2], delimiter=",", header="a,b", comments="")
    pathlib.Path("s.yaml").write_text(SEMICOLONS)
    assert main(["train", "s.yaml", "--run", "r"]) == 0
    assert main(["predict", "r", "new.csv", "--output", "a.csv"]) == 0
    assert len(np.loadtxt("a.csv")) == 3
    assert main(["predict", "r", "commas.csv", "--header", "--delimiter", ",", "--output", "b.csv"]) == 0
    np.testing.assert_array_equal(np.loadtxt("a.csv"), np.loadtxt("b.csv"))


STATEFUL = """\
data: {npz: {path: seq.npz, test_fraction: 0.25}}
model:
  Sequential: [{SimpleRNN: {units: 2, stateful: true, recurrent_initializer: glorot_uniform}}, {Dense: 1}]
loss: mse
training: {epochs: 1, batch_size: 4, shuffle: false}
"""


def test_the_carry_of_a_stateful_model_is_not_saved_and_begins_anew_for_any_number_of_rows(folder):
    x = np.random.default_rng(0).normal(size=(16, 3, 2)).astype(np.float32)
    np.savez("seq.npz", x=x, y=x[:, 0, :1])
    made = config.loads(STATEFUL)
    run = Run.create("r", made.to_data())
    params, state = made.model.init(jax.random.key(0), x[:4])
    _, state = made.model.apply(params, state, x[:4])
    run.save(params, state, epoch=1)
    with safe_open("r/weights.safetensors", framework="numpy") as file:
        assert not [name for name in file.keys() if "carry" in name]  # noqa: SIM118
    for rows in (1, 6):
        _, state = weights_of(run, made, x[:rows], batch_size=8)
        np.testing.assert_array_equal(state["simple_rnn"]["carry"]["h"], np.zeros((rows, 2)))


@pytest.mark.slow
def test_a_stateful_run_is_evaluated_and_applied_to_any_number_of_rows(folder, capsys):
    x = np.random.default_rng(0).normal(size=(16, 3, 2)).astype(np.float32)
    np.savez("seq.npz", x=x, y=x[:, 0, :1])
    pathlib.Path("seq.yaml").write_text(STATEFUL)
    assert main(["train", "seq.yaml", "--run", "r"]) == 0
    with safe_open("r/weights.safetensors", framework="numpy") as file:
        assert not [name for name in file.keys() if "carry" in name]  # noqa: SIM118
        assert file.metadata() == {"epoch": "1"}
    assert main(["evaluate", "r"]) == 0
    assert repr(Run("r").results()["test"]["loss"]) in capsys.readouterr().out
    for rows in (1, 4, 6):
        np.save(f"{rows}.npy", x[:rows])
        assert main(["predict", "r", f"{rows}.npy", "--output", f"{rows}.csv"]) == 0
        assert np.loadtxt(f"{rows}.csv", ndmin=1).shape == (rows,)
    np.testing.assert_allclose(np.loadtxt("6.csv")[:4], np.loadtxt("4.csv"), rtol=1e-5)


# ----------------------------------------------------------------------------------------- terminals


@pytest.mark.parametrize("encoding", ["cp1252", pytest.param("ascii", marks=pytest.mark.slow), "utf-8"])
def test_every_command_writes_what_the_terminal_can_show(trained, tmp_path, monkeypatch, encoding):
    """As in a terminal of that encoding: bytes that it can decode, tables that stay tables."""
    monkeypatch.chdir(trained)
    np.save(tmp_path / "x.npy", np.ones((3, 4), np.float32))
    commands = {
        "summary": ["summary", "tiny.yaml"],
        "list": ["list", "layers"],
        "schema": ["schema"],
        "train": ["train", "tiny.yaml", "--run", str(tmp_path / "r"), "--epochs", "1"],
        "predict": ["predict", "runs/tiny-1", str(tmp_path / "x.npy")],
    }
    if encoding != "ascii":  # the strictest of them stands for the slow commands
        commands = {name: commands[name] for name in ("summary", "list", "predict")}
    for name, arguments in commands.items():
        with (tmp_path / name).open("w", encoding=encoding) as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", file)
            patch.setattr(sys, "stderr", file)
            assert main(arguments) == 0, name
        assert (tmp_path / name).read_text(encoding=encoding)
    table = (tmp_path / "summary").read_text(encoding=encoding).splitlines()[1:8]
    assert table[0][0] == ("╭" if encoding == "utf-8" else "+")
    assert len(set(map(len, table))) == 1


def test_names_that_a_terminal_lacks_are_escaped(tmp_path, monkeypatch):
    with (tmp_path / "out").open("w", encoding="ascii") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        with lasting_streams():
            print("Größe 猫 … ─")
    assert (tmp_path / "out").read_text() == "Gr\\xf6\\xdfe \\u732b ~ -\n"


def test_a_lost_event_loop_is_not_printed_and_other_errors_are(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError) as closed:
        loop.call_soon_threadsafe(print)  # as TensorStore calls it
    lost, other = (types.SimpleNamespace(exc_value=e) for e in (closed.value, RuntimeError("another")))
    with no_lost_loops():
        sys.unraisablehook(lost)
        sys.unraisablehook(other)
    assert heard == [other]
    sys.unraisablehook(lost)
    assert heard == [other, lost]


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "seed=3", "seeds=2", "FILE"],
        ["FILE", "--set", "seed=3", "seeds=2"],
        ["FILE", "--set=seed=3", "seeds=2", "--run", "r"],
        ["--set", "seed=3", "--set", "seeds=2", "lr=0.1.yaml"],  # a file that is there is no value
    ],
)
def test_one_set_takes_several_values(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("lr=0.1.yaml").touch()
    arguments = _parser().parse_args(spread(["train", *words]))
    assert arguments.set == ["seed=3", "seeds=2"]
    assert arguments.file in ("FILE", "lr=0.1.yaml")


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.yaml"], "none.yaml: cannot be read"),
        (["train", "tiny.yaml", "--set", "model.Sequential.0.Dense.unts=3"], "Dense takes no 'unts'"),
        (["train", "tiny.yaml", "--epochs", "0"], "received epochs=0"),
        (
            ["train", "tiny.yaml", "--set", "data.npz.path=other.npz"],
            "--set data.npz.path=other.npz: data.npz.path: ",
        ),
        (["summary", "tiny.yaml", "--set", "model.Sequential.0=Conv2D"], "Conv2D needs 'filters'"),
        (["evaluate", "nowhere"], "nowhere is not a run"),
        (["predict", "nowhere", "x.npy"], "nowhere is not a run"),
        (["list", "layrs"], "did you mean 'layers'"),
    ],
)
def test_errors_are_told_without_a_traceback(folder, capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err.replace("\n", " ")
    assert "Traceback" not in out + err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RecursionError("maximum recursion depth exceeded"), "nested too deep"),
        (MemoryError(), "out of memory: use a smaller batch_size"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"),
            "allocating 9 bytes.): use",
        ),
        (IndexError("list index out of range"), "IndexError: list index out of range (--debug shows where)"),
        (AssertionError(), "AssertionError: no further word (--debug shows where)"),
    ],
)
def test_errors_of_any_kind_are_told_in_a_line(folder, capsys, monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("jlayers.config.load", fail)
    assert main(["summary", "tiny.yaml"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("JLAYERS_DEBUG", "1")
    assert main(["summary", "tiny.yaml"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_brackets_in_an_error_and_a_table_are_no_markup(folder, capsys):
    assert main(["evaluate", "runs/a[/]b"]) == 2
    assert "runs/a[/]b is not a run" in capsys.readouterr().err
    console().print("[b]d, [/] and [red]")
    assert capsys.readouterr().out == "[b]d, [/] and [red]\n"


@pytest.mark.slow
def test_brackets_in_names_are_no_markup(folder, capsys):
    shutil.copy("data.npz", "[b]d.npz")
    assert main(["train", "tiny.yaml", "--run", "runs/a[/]b", "--set", "data.npz.path='[b]d.npz'"]) == 0
    out = capsys.readouterr().out
    assert "runs/a[/]b" in out
    assert "[b]d, " in out


def test_a_platform_that_jax_refuses_is_told_in_a_line(folder, capsys, monkeypatch):
    def refuse():
        raise RuntimeError("no device of this kind\nmore")

    monkeypatch.setattr(jax, "devices", refuse)
    for command in ("summary", "train"):
        assert main([command, "tiny.yaml"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(
            "JAX cannot start on the platform 'cpu' (no device of this kind): unset JAX_PLA"
        )
        assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_platform_that_is_not_there_is_told(trained):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cuda",
        "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "jlayers.cli", "train", "tiny.yaml"],
        cwd=trained, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("JAX cannot start on the platform 'cuda'")
    assert len(done.stderr.splitlines()) == 1


def test_help_documents_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "exit codes:" in capsys.readouterr().out


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


def test_two_arrays_under_one_path_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    params = {"a/b": jnp.ones(1), "a": {"b": jnp.zeros(1)}}
    with pytest.raises(ValueError, match="two arrays have the path 'params/a/b'"):
        save_weights(path, params)
    assert not path.exists()
    save_weights(path, {"a": {"b": jnp.zeros(1)}})
    with pytest.raises(ValueError, match="two arrays have the path 'params/a/b'"):
        load_weights(path, params)


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


def test_curves_of_seeds_have_a_band_from_the_least_to_the_largest():
    loss = np.array([[9.0, 11.0], [0.5, 0.9], [0.4, np.nan]])  # the second seed ended early
    history = {"loss": [10.0, 0.7, 0.4], "accuracy": [0.1, 0.8, 0.9]}
    figure = curves_figure(history, better={"loss": "min", "accuracy": "max"}, seeds={"loss": loss})
    first, second = figure.axes
    (band,) = first.collections
    corners = {(x, y) for x, y in band.get_paths()[0].vertices.tolist()}
    assert corners == {(1, 9), (1, 11), (2, 0.5), (2, 0.9), (3, 0.4)}
    assert first.get_yscale() == "log"
    assert not second.collections
    assert second.get_yscale() == "linear"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "range of 2 seeds"]


def test_curves_of_one_epoch_of_none_and_without_matplotlib(tmp_path, monkeypatch):
    assert draw_curves(tmp_path / "a.png", {"loss": [1.0]})
    assert not draw_curves(tmp_path / "b.png", {})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(tmp_path / "c.png", {"loss": [1.0, 0.5]})
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
