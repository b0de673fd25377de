"""Trainings that are killed at random moments and resumed end with the bits of one that was left alone."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jlayers as jl
from jlayers.cli import main
from jlayers.runs import Run
from jlayers.saving.checkpoints import Store

pytestmark = pytest.mark.slow  # each trains in a process of its own or shares such a run

NET = """\
data: {npz: {path: data.npz, test_fraction: 0.25}}
model:
  Sequential:
  - RandomFlip
  - Flatten
  - {Dense: {units: 6, activation: relu}}
  - BatchNormalization
  - {Dropout: 0.3}
  - {Dense: 1}
augment: MixUp
loss: mse
metrics: [mae]
accumulate: 2
ema: 0.9
training:
  epochs: 6
  batch_size: 8
  validation: 0.2
  early_stopping: {patience: 3, restore_best_weights: true}
  checkpoint: {every_steps: 2, every_minutes: 0.01, keep: 2, best: val_mae}
  callbacks:
    - ReduceLROnPlateau: {factor: 0.5, patience: 2, min_delta: 0.3}
    - LearningRateMonitor
    - NormMonitor
    - CSVLogger
    - JSONLinesLogger: {every: 3}
"""

# As a terminal starts it: a job in the background of a shell inherits that SIGINT is ignored. With AIMED the
# process kills itself in the course of a save: a while after that many of its steps in the file system.
COMMAND_LINE = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
if aimed := os.environ.get("AIMED"):
    left, wait = int(aimed.split()[0]), float(aimed.split()[1])
    def count(event, arguments):
        global left
        if event in ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove") and arguments:
            if left and "checkpoints" in str(arguments[0]):
                left -= 1
                if not left:
                    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
                    threading.Timer(wait, kill).start() if wait else kill()
    sys.addaudithook(count)
from jlayers.cli import main
sys.exit(main())
"""


def prepare(path: pathlib.Path) -> pathlib.Path:
    x = np.random.default_rng(0).normal(size=(100, 2, 2, 1)).astype(np.float32)
    np.savez(path / "data.npz", x=x, y=x[:, 0, :1, 0])
    (path / "net.yaml").write_text(NET)
    return path


def start(path, *arguments, aimed=""):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1]), "AIMED": aimed}
    command = [sys.executable, "-c", COMMAND_LINE, "train", *arguments]
    return subprocess.Popen(
        command, cwd=path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def check_ends_well(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def begin_or_resume(path, aimed=""):
    """A process that trains into `path / "r"`, once it has begun."""
    run = path / "r"
    arguments = ("--resume", "r") if run.exists() else ("net.yaml", "--run", "r")
    process = start(path, *arguments, aimed=aimed)
    while process.poll() is None:
        if (run / "results.json").exists():
            trained_by = json.loads((run / "results.json").read_text())["process"]["pid"]
            if trained_by == process.pid:
                break
        time.sleep(0.02)
    return process


def check_equal(run, whole):
    assert run.status == "completed"
    for name in ("weights.safetensors", "metrics.jsonl", "logs/log.csv", "logs/log.jsonl"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    parts = ("epochs", "kept_epoch", "train", "validation", "test")
    assert [run.results()[p] for p in parts] == [whole.results()[p] for p in parts]
    mine, theirs = (Store(r.checkpoints).newest() for r in (run, whole))
    assert (mine.step, mine.arrays.keys()) == (theirs.step, theirs.arrays.keys())
    for name in mine.arrays:
        np.testing.assert_array_equal(mine.arrays[name], theirs.arrays[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = prepare(tmp_path_factory.mktemp("resume"))
    process = start(path, "net.yaml", "--run", "whole")
    check_ends_well(process)
    return Run(path / "whole")


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(whole, pytestconfig):
    path = whole.path.parent
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    wanted = 200 if pytestconfig.getoption("--full") else 4
    ends: dict[str, int] = {}
    while sum(ends.values()) - ends.get("whole", 0) < wanted:
        ways = [("at random", signal.SIGKILL), ("in a save", signal.SIGKILL), ("signal", signal.SIGTERM)]
        how, number = draw.choices(ways, [3, 6, 1])[0] if ends else ways[1]
        if how == "in a save":
            wait = draw.choice([0.0, 0.003, 0.03]) * draw.random()
            process = begin_or_resume(path, aimed=f"{draw.randrange(1, 120)} {wait}")
        else:
            process = begin_or_resume(path)
            time.sleep(draw.uniform(0, 1.2 * whole.results()["seconds"]))
            process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        expected = {0: "completed", -signal.SIGKILL: "killed", 128 + signal.SIGTERM: "interrupted"}
        expected[-signal.SIGTERM] = "completed"  # it came when all was done
        assert process.returncode in expected, errors
        run = Run(path / "r")
        how = "whole" if process.returncode == 0 else how
        if run.path.exists():  # a kill may come before all of the folder, or after all results
            assert run.status in (expected[process.returncode], "completed")
            if run.status == "completed":
                check_equal(run, whole)
                shutil.rmtree(run.path)
        ends[how] = ends.get(how, 0) + 1
        print(how, "rest:", errors.count("is damaged"), flush=True)
    process = begin_or_resume(path)
    check_ends_well(process)
    check_equal(Run(path / "r"), whole)
    print("ends", ends)


HANGING = """
import time
from jlayers.train.keeper import Keeper
Keeper.save = lambda *arguments, **options: (print("saving", flush=True), time.sleep(1000))
"""


def test_a_second_control_c_leaves_at_once(whole):
    path = whole.path.parent
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1])}
    command = [sys.executable, "-c", HANGING + COMMAND_LINE, "train", "net.yaml", "--run", "hangs"]
    process = subprocess.Popen(
        command, cwd=path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    while process.stdout.readline() != "saving\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)  # waits for the save
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT  # a shell tells it as 130
    assert Run(path / "hangs").status == "killed"


def test_what_cannot_be_resumed_is_told(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(prepare(tmp_path))
    shutil.copytree(whole.path, "r")
    assert main(["train", "--resume", "r"]) == 0
    assert "nothing is left to do" in capsys.readouterr().out
    results = json.loads(pathlib.Path("r/results.json").read_text())
    pathlib.Path("r/results.json").write_text(json.dumps({**results, "status": "interrupted"}))

    def refused(*arguments):
        assert main(["train", *arguments]) == 2
        return capsys.readouterr().err

    assert "expected no --epochs with --resume" in refused("--resume", "r", "--epochs", "9")
    assert "is not a run" in refused("--resume", ".")
    assert "expected a FILE to train" in refused()
    text = pathlib.Path("r/config.yaml").read_text()
    pathlib.Path("r/config.yaml").write_text(text.replace("batch_size: 8", "batch_size: 4"))
    assert "would be another run" in refused("--resume", "r")
    data = str(whole.path.parent / "data.npz")
    results["files"].pop("config.yaml")
    pathlib.Path("r/results.json").write_text(json.dumps({**results, "status": "interrupted"}))
    x = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
    np.savez("data.npz", x=x, y=x[:, :1])
    pathlib.Path("r/config.yaml").write_text(text.replace(data, str(tmp_path / "data.npz")))
    assert "have changed since its training began" in refused("--resume", "r")
    assert "needs data to validate on" in refused(
        "net.yaml", "--set", "training.validation=0.0", "--set", "training.early_stopping=null"
    )
