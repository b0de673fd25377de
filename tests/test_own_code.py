"""A user's own file on the command line: named by `--use` only, kept with its hash, never run from a run."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import jlayers as jl
from jlayers import config
from jlayers.cli import main
from jlayers.runs import OwnCodeError, Run, evaluate_run
from jlayers.runs.own_code import check_own_code, execute, read_own_code

CODE = '''\
import pathlib
import jax.numpy as jnp
import jlayers as jl

with pathlib.Path("ran.txt").open("a") as log:
    log.write(__file__ + "\\n")


@jl.layer
def OwnSquare(scale: float = 1.0):
    """Scaled squares."""

    def init(key, x):
        return {}

    def apply(params, x):
        return scale * jnp.square(x)

    return init, apply


@jl.losses.register
def own_loss(power: int = 2):
    """A power of the difference."""
    return lambda y, p: jnp.mean(jnp.abs(y - p) ** power, axis=-1)


@jl.metrics.register
def own_metric():
    return jl.metrics.get("mae")


@jl.activations.register
def own_activation(x):
    return x + 1


@jl.initializers.register
def own_ones():
    return lambda key, shape, dtype: jnp.full(shape, 0.5, dtype)
'''

EXPERIMENT = """\
data: {npz: {path: data.npz, test_fraction: 0.25}}
model:
  Sequential:
    - OwnSquare: 0.5
    - Dense: {units: 1, activation: own_activation, kernel_initializer: own_ones}
loss: own_loss
training: {epochs: 1, batch_size: 8}
"""


def run_in(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1])}
    command = [sys.executable, "-m", "jlayers.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a process of its own has trained with `--use`."""
    path = tmp_path_factory.mktemp("own")
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    np.savez(path / "data.npz", x=x, y=x[:, :1])
    np.save(path / "x.npy", x[:3])
    (path / "own.yaml").write_text(EXPERIMENT)
    (path / "own_things.py").write_text(CODE)
    done = run_in(path, "train", "own.yaml", "--use", "own_things.py", "--run", "r")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "f")
    monkeypatch.chdir(tmp_path / "f")
    (tmp_path / "f/ran.txt").unlink()
    return tmp_path / "f"


@pytest.mark.slow
def test_the_run_keeps_the_file_and_its_hash(trained):
    run = Run(trained / "r")
    (code,) = read_own_code([trained / "own_things.py"])
    assert run.code == {"own_things.py": code.sha256}
    assert run.kept_code("own_things.py").read_text() == CODE
    assert (trained / "ran.txt").read_text().splitlines() == ["own_things.py"]


@pytest.mark.slow
def test_another_process_evaluates_only_with_the_file(folder):
    done = run_in(folder, "evaluate", "r")
    assert done.returncode == 2
    assert "add --use own_things.py" in done.stderr
    assert Run("r").code["own_things.py"][:12] in done.stderr
    assert not (folder / "ran.txt").exists(), "nothing of a run may run by itself"
    done = run_in(folder, "evaluate", "r", "--use", "own_things.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["loss", repr(Run("r").results()["test"]["loss"])]


@pytest.mark.slow
def test_a_changed_file_is_refused_unless_accepted(folder, capsys):
    path = folder / "own_things.py"
    path.write_text(CODE.replace("return scale *", "return 3 * scale *"))
    assert main(["evaluate", "r", "--use", "own_things.py"]) == 2
    err = capsys.readouterr().err
    assert "own_things.py has changed since r was trained" in err
    assert "--use r/code/own_things.py" in err
    assert not (folder / "ran.txt").exists()
    assert main(["predict", "r", "x.npy", "--use", "r/code/own_things.py"]) == 0
    kept = capsys.readouterr().out
    assert main(["predict", "r", "x.npy", "--use", "own_things.py", "--accept-changed-code"]) == 0
    out, err = capsys.readouterr()
    assert out != kept
    assert "own_things.py has changed since this run was trained" in err


def test_loading_runs_no_code(folder):
    """What lies in a run's folder is data: the copy of the file, whatever it holds, does not run."""
    execute(read_own_code(["own_things.py"]))  # the names are known to this process
    (folder / "ran.txt").unlink()
    poison = "raise SystemExit('ran')"
    Run("r").kept_code("own_things.py").write_text(poison)
    (folder / "r/code/sitecustomize.py").write_text(poison)
    config.load("r/config.yaml")
    evaluate_run(Run("r"))
    assert main(["evaluate", "r"]) == 2
    assert not (folder / "ran.txt").exists()
    with pytest.raises(config.ConfigError, match="use"):
        config.loads(EXPERIMENT + "use: own_things.py\n")


@pytest.mark.slow
def test_summary_list_and_schema_know_the_names(folder, capsys):
    assert main(["summary", "own.yaml", "--use", "own_things.py"]) == 0
    assert "own_square" in capsys.readouterr().out
    assert main(["list", "losses", "--use", "own_things.py"]) == 0
    assert "own_loss(power=2)\n      A power of the difference." in capsys.readouterr().out
    assert main(["schema", "--use", "own_things.py"]) == 0
    assert "OwnSquare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import jlayers\n\nx = 1 / 0\n", "broken.py:3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "broken.py:1: SyntaxError: invalid syntax"),
        ("x = '\0'\n", "broken.py"),
        ("raise SystemExit(3)\n", "broken.py:1: SystemExit: the file ended the program"),
        ("import no_such_module_here\n", "broken.py:1: ModuleNotFoundError"),
        (
            "import jlayers as jl\n@jl.layer\ndef Dense(units):\n    return None\n",
            "broken.py:2: ValueError: the layer name 'Dense' is taken",
        ),
    ],
)
def test_an_error_in_the_file_is_told_with_its_line(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("broken.py").write_text(text)
    assert main(["list", "layers", "--use", "broken.py"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(message)
    assert len(err.splitlines()) == 1
    assert "broken" not in sys.modules


def test_an_error_while_the_layer_runs_names_its_line(folder, capsys):
    pathlib.Path("own_things.py").write_text(CODE.replace("jnp.square(x)", "jnp.reshape(x, (7, 7))"))
    assert main(["summary", "own.yaml", "--use", "own_things.py"]) == 2
    err = capsys.readouterr().err
    assert "own.yaml:4: model.Sequential.layers.0.OwnSquare" in err
    assert "at own_things.py:17: return scale * jnp.reshape(x, (7, 7))" in err


def test_files_are_modules_that_later_ones_can_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "own_first.py").write_text("value = 3\n")
    (tmp_path / "own_second.py").write_text("from own_first import value\nassert value == 3\n")
    execute(read_own_code([tmp_path / "own_first.py", tmp_path / "own_second.py"]))
    assert sys.modules["own_second"].value == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["missing.py"], "missing.py: cannot be read"),
        (["things.txt"], "expected a Python file"),
        (["my-things.py"], "expected a Python file"),
        (["json.py"], "a module 'json' is installed already"),
        (["safetensors.py"], "a module 'safetensors' is installed already"),
        (["a/own.py", "b/own.py"], "two files have the name own.py"),
    ],
)
def test_files_that_cannot_be_used_are_told(tmp_path, names, message):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if "missing" not in name:
            path.write_text("")
    with pytest.raises(OwnCodeError, match=message):
        execute(read_own_code([tmp_path / name for name in names]))


def test_a_file_that_the_run_did_not_have_is_remarked(tmp_path):
    (tmp_path / "own_more.py").write_text("")
    files = read_own_code([tmp_path / "own_more.py"])
    assert check_own_code({}, files, tmp_path) == ["this run was trained without own_more.py"]
