"""A run trained again from its folder: bit-identical, or what differs first is named, and what may be why."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

import jlayers as jl
from jlayers.cli import main
from jlayers.experiments.container import write_container
from jlayers.experiments.reproduce import compare_bits, reproduce
from jlayers.interop.safetensors import read_safetensors
from jlayers.runs import Run, save_weights
from jlayers.runs.requirements import read_requirements, requirements

pytestmark = pytest.mark.slow  # each trains in a process of its own or shares such a run

OWN = """\
import jlayers as jl
@jl.layer
def Scaled(factor: float = 2.0):
    def apply(params, x):
        return x * factor
    return jl.no_params, apply
"""
TINY = """\
data: {csv: {path: table.csv, target: y, labels: true, test_fraction: 0.25}}
preprocess: {x: Normalization}
model: {Sequential: [Scaled, {Dense: {units: 4, activation: relu}}, {Dropout: 0.2}, {Dense: 2}]}
loss: {sparse_categorical_crossentropy: {from_logits: true}}
metrics: [accuracy]
training: {epochs: 2, batch_size: 16, validation: 0.2}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run and its reproduction, each trained by a process of its own; tests only read it."""
    path = tmp_path_factory.mktemp("trained")
    x = np.random.default_rng(0).normal(size=(80, 2)).round(3)
    rows = "".join(f"{a},{b},{int(a > b)}\n" for a, b in x)
    (path / "table.csv").write_text("a,b,y\n" + rows)
    (path / "tiny.yaml").write_text(TINY)
    (path / "own.py").write_text(OWN)
    ran("train", "tiny.yaml", "--run", "run", "--use", "own.py", at=path)
    done = ran("reproduce", "run", "--use", "run/code/own.py", "--json", at=path)
    (path / "said.json").write_text(done)
    return path


def ran(*arguments, at, code=0):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1])}
    command = [sys.executable, "-m", "jlayers.cli", *arguments]
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy that may be changed."""
    shutil.copytree(trained, tmp_path / "copy")
    config = tmp_path / "copy" / "run" / "config.yaml"
    text = config.read_text().replace(str(trained), str(tmp_path / "copy"))
    edit(tmp_path / "copy" / "run", "results.json", lambda results: results["files"].pop("config.yaml"))
    config.write_text(text)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def edit(run, name, change):
    """Change a JSON file of a run in place."""
    path = pathlib.Path(run, name)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def causes_of(result):
    return {cause.where: (cause.then, cause.now) for cause in result.causes}


@pytest.mark.slow
def test_a_run_in_a_new_process_is_bit_identical(trained):
    said = json.loads((trained / "said.json").read_text())
    assert said["identical"], said
    assert said["differences"] == said["causes"] == []
    assert said["compared"] == ["2 epochs", "results on the held-out data", "weights"]
    new = trained / "run-reproduced-1"
    assert json.loads((new / "reproduction.json").read_text()) == said
    assert (new / "weights.safetensors").read_bytes() == (trained / "run/weights.safetensors").read_bytes()
    hashes = [Run(trained / name).results()["weights_hash"] for name in ("run", "run-reproduced-1")]
    assert hashes[0] == hashes[1]
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])


def test_another_seed_is_found_and_named(folder, capsys):
    code = ["--use", "run/code/own.py"]
    assert main(["reproduce", "run", "--set", "seed=1", "--into", "new", *code]) == 3
    out = capsys.readouterr().out
    said = json.loads(pathlib.Path("new/reproduction.json").read_text())
    learned = said["differences"][0]
    assert learned["where"] == "preprocessing of x.Normalization.mean.0", "other rows are kept for validation"
    assert f"differs first: {learned['where']}: {learned['then']} then, {learned['now']} now" in out
    first = next(d for d in said["differences"] if d["where"].startswith("epoch"))
    assert first["where"] == "epoch 1, loss"
    assert first["then"] == Run("run").history()["loss"][0] != first["now"]
    assert "what may be why:\n  setting seed: 0 then, 1 now\n" in out
    assert any(
        d["where"].startswith("weights, params/dense/kernel[0, 0] (8 of 8") for d in said["differences"]
    )
    # A configuration whose seed was edited afterwards: the run has noted the seed that it was trained with.
    edit("new", "results.json", lambda results: results.update(seed=3))
    path = pathlib.Path("new/config.yaml")
    path.write_text(path.read_text() + "# edited\n")
    causes = causes_of(compare_bits("new", "run"))
    assert causes["config.yaml, a file of the run"] == ("as trained", "edited")
    assert causes["seed"] == (3, 0)


def test_another_datum_is_found_and_named(folder, capsys):
    lines = pathlib.Path("table.csv").read_text().splitlines()
    lines[1] = f"9.5,{lines[1].split(',', 1)[1]}"
    pathlib.Path("table.csv").write_text("\n".join(lines) + "\n")
    assert main(["reproduce", "run", "--into", "new", "--use", "own.py"]) == 3
    found = causes_of(compare_bits("run", "new"))
    (name,) = (where for where in found if where.startswith("data, "))
    assert re.fullmatch(r"data, (train|held-out) x, row \d+ of \d+", name)
    assert f"{name}: " in capsys.readouterr().out


def test_other_circumstances_are_named_with_both_values(folder):
    """Simulated in the record of the first run."""

    def change(then):
        then["versions"]["jax"] = "0.0.1"
        then["device"] = "gpu: Abacus"
        then["flags"]["XLA_FLAGS"] = "--xla_fast"
        then["settings"]["jax_enable_x64"] = True

    edit("run", "environment.json", change)
    path = pathlib.Path("run/requirements.txt")
    assert read_requirements(path.read_text())["numpy"] == np.__version__
    path.write_text(re.sub("jax==.*", "jax==0.0.1", path.read_text()) + "scipy==0.1\nabacus==7\n")
    result = compare_bits("run", "run-reproduced-1")
    assert result.identical
    causes = causes_of(result)
    now = json.loads(pathlib.Path("run-reproduced-1/environment.json").read_text())
    assert causes["version of jax"] == ("0.0.1", now["versions"]["jax"])
    assert causes["version of scipy"][0] == "0.1"
    assert causes["version of abacus"] == ("7", None)
    assert causes["device"] == ("gpu: Abacus", now["device"])
    assert causes["environment variable XLA_FLAGS"] == ("--xla_fast", now["flags"].get("XLA_FLAGS"))
    assert causes["setting of JAX jax_enable_x64"] == (True, False)


def test_weights_that_differ_are_named(folder):
    params, state = load_tree("run/weights.safetensors")
    kernel = np.array(params["dense"]["kernel"])
    kernel[1, 2] = np.nextafter(kernel[1, 2], np.float32(9))
    params["dense"]["kernel"] = kernel
    save_weights("run/weights.safetensors", params, state, {"epoch": "2"})
    result = compare_bits("run", "run-reproduced-1")
    (difference,) = result.differences
    assert difference.where == "weights, params/dense/kernel[1, 2] (1 of 8 values differ)"
    assert np.float32(difference.then) == kernel[1, 2] != np.float32(difference.now)
    pathlib.Path("run/weights.safetensors").unlink()  # to save room: the hash is noted
    result = compare_bits("run", "run-reproduced-1")
    assert result.identical
    assert result.compared[-1] == "hashes of the weights"
    edit("run", "results.json", lambda results: results.update(weights_hash="0" * 64))
    assert [d.where for d in compare_bits("run", "run-reproduced-1").differences] == ["weights, hash"]


def load_tree(path):
    tree = {"params": {}, "state": {}}
    for name, array in read_safetensors(path).items():
        *parts, last = name.split("/")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = array
    return tree["params"], tree["state"]


def test_each_of_many_seeds_is_compared(folder):
    for name, second in (("run", 0.5), ("run-reproduced-1", 0.25)):
        path = pathlib.Path(name, "metrics.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{**line, "seeds": {"loss": [1.0, None if line["epoch"] == 1 else second]}} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (difference,) = compare_bits("run", "run-reproduced-1").differences
    assert str(difference) == "epoch 2, loss of seed 1: 0.5 then, 0.25 now"


def test_a_run_that_ended_early_is_repeated_as_far_as_it_went(folder):
    edit("run", "results.json", lambda results: results.update(status="interrupted", reason="SIGTERM"))
    lines = pathlib.Path("run/metrics.jsonl").read_text().splitlines()
    pathlib.Path("run/metrics.jsonl").write_text(lines[0] + "\n")
    assert main(["reproduce", "run", "--into", "new", "--use", "own.py"]) == 0
    result = compare_bits("run", "new")
    assert result.compared == ("1 epoch", "as far as the run went"), "its weights are of epoch 2"
    assert Run("new").results()["epochs"] == 1


def test_a_run_that_failed_must_fail_alike(folder, capsys):
    code = ["--use", "own.py"]
    diverging = ["--set", "optimizer={sgd: {learning_rate: 1.0e+30}}", "--run", "failed"]
    assert main(["train", "tiny.yaml", *diverging, *code]) == 1
    assert Run("failed").status == "failed"
    assert main(["reproduce", "failed", *code]) == 0
    assert "bit-identical: 0 epochs, the error that ended the training\n" in capsys.readouterr().out
    edit("failed", "results.json", lambda results: results.update(reason="FloatingPointError: another"))
    (difference,) = compare_bits("failed", "failed-reproduced-1").differences
    assert difference.where == "end of the training"


def test_runs_that_cannot_be_reproduced_are_refused(folder, capsys):
    with pytest.raises(FileNotFoundError, match=r"elsewhere is not a run"):
        reproduce("elsewhere")
    assert main(["reproduce", "run"]) == 2
    assert "add --use own.py, or read the run's copy and add --use run/code/own.py" in capsys.readouterr().err
    edit("run", "results.json", lambda results: results.update(status="interrupted"))
    pathlib.Path("run/metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"run ended before its first epoch \(interrupted\)"):
        reproduce("run")
    run = Run("run")
    run.lock()
    edit("run", "results.json", lambda results: results.update(status="running", process={}))
    with pytest.raises(ValueError, match="run is still being trained: wait"):
        reproduce("run")
    run.unlock()


def test_a_run_of_an_older_version_is_compared_by_what_it_has(folder, capsys):
    for name in ("environment.json", "requirements.txt", "model.json", "weights.safetensors"):
        pathlib.Path("run", name).unlink()
    for name in ("weights_hash", "seed", "began", "ended", "better", "files"):
        edit("run", "results.json", lambda results, name=name: results.pop(name))
    edit("run", "data.json", lambda data: data.pop("pieces"))
    result = compare_bits("run", "run-reproduced-1")
    assert result.identical
    assert result.compared == ("2 epochs", "results on the held-out data")
    assert {"device", "environment variable", "versions of all packages"} < set(result.unknown)
    assert compare_bits("run-reproduced-1", "run").unknown == ()
    assert main(["reproduce", "run", "--container"]) == 2
    assert "run has no requirements.txt, as runs of older versions: train it again" in capsys.readouterr().err


def test_a_container_file_holds_the_versions_and_says_how_to_mount_the_data(folder, capsys):
    assert main(["reproduce", "run", "--container"]) == 0
    assert "wrote run/Containerfile" in capsys.readouterr().out
    text = pathlib.Path("run/Containerfile").read_text()
    assert f"FROM python:{sys.version.split()[0]}-slim\n" in text
    table = folder / "table.csv"
    assert f"#   docker run --rm -v {table}:{table}:ro run\n" in text
    assert 'CMD ["jlayers", "reproduce", "run", "--use", "run/code/own.py"]' in text
    with pytest.raises(FileExistsError, match="Containerfile exists already"):
        write_container("run")
    assert write_container("run", "other").is_file()


def instructions(text):
    """The instructions of a container file in their order; anything that this does not know is an error."""
    joined = re.sub(r"\\\n", " ", "".join(line for line in text.splitlines(True) if not line.startswith("#")))
    for line in filter(None, joined.splitlines()):
        name, _, rest = line.partition(" ")
        assert name in ("FROM", "ENV", "COPY", "RUN", "WORKDIR", "CMD"), line
        yield name, json.loads(rest) if name == "CMD" else shlex.split(rest)


def carried_out(text, root, context, contexts):
    """Do in a folder what building and running a container would do in an empty system."""
    env, where, path = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, root, root / "python"
    for name, words in instructions(text):
        if name == "FROM":
            assert words == [f"python:{sys.version.split()[0]}-slim"]
            subprocess.run([sys.executable, "-m", "venv", path], check=True)
            env |= {"PATH": f"{path / 'bin'}:{env['PATH']}", "VIRTUAL_ENV": str(path)}
        elif name == "ENV":
            key, _, value = words[0].partition("=")
            env[key] = value
        elif name == "COPY":
            source = contexts[words.pop(0).removeprefix("--from=")] if words[0].startswith("--") else context
            given, to = source / words[0], root / words[1].strip("/")
            if given.is_file():
                shutil.copy2(given, to / given.name if words[1].endswith("/") else to)
            else:
                hidden = shutil.ignore_patterns(".git", "__pycache__", "tests", "benchmarks")
                shutil.copytree(given, to, ignore=hidden, dirs_exist_ok=True)
        elif name == "WORKDIR":
            where = root / words[0].strip("/")
        else:
            words = [str(root / word[1:]) if word.startswith("/") else word for word in words]
            done = subprocess.run(words, cwd=where, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_each_instruction_of_a_container_file_is_one(folder):
    edit("run", "environment.json", lambda facts: facts.update(flags={"XLA_FLAGS": '--a="b c" $d'}))
    write_container("run")
    text = pathlib.Path("run/Containerfile").read_text()
    found = list(instructions(text))
    assert [name for name, _ in found] == [
        "FROM",
        "ENV",
        "COPY",
        "RUN",
        "COPY",
        "RUN",
        "COPY",
        "WORKDIR",
        "CMD",
    ]
    assert found[1] == ("ENV", ['XLA_FLAGS=--a="b c" \\$d'])  # the backslash keeps Docker from a variable
    checkout = pathlib.Path(jl.__file__).parents[1]
    assert f" --build-context jlayers={checkout} " in text
    assert "The one above has the same state today" in text
    edit("run", "environment.json", lambda facts: facts.update(source="another"))
    other = write_container("run", "other").read_text()
    assert " --build-context jlayers=JLAYERS " in other
    assert "Give that folder, or a checkout of the same state" in other


def test_what_a_container_does_reproduces_the_run(folder, tmp_path, pytestconfig):
    """Packages come from where pip has them; the base image is taken by a virtual environment."""
    if not pytestconfig.getoption("--full"):
        pytest.skip("installs JAX anew")
    write_container("run")
    text = pathlib.Path("run/Containerfile").read_text()
    root = tmp_path / "root"
    root.mkdir()
    said = carried_out(text, root, folder / "run", {"jlayers": pathlib.Path(jl.__file__).parents[1]})
    assert said.startswith("bit-identical: 2 epochs"), said


def test_requirements_are_those_that_are_loaded():
    found = read_requirements(requirements())
    assert found["numpy"] == np.__version__
    assert "keras" not in found or "keras" in sys.modules
    assert "jlayers" in requirements()
