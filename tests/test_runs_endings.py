"""However a training ends, its folder tells the truth: signals, full disks, lost folders, bad numbers."""

import errno
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers import config
from jlayers.cli import main
from jlayers.data import hold_out
from jlayers.runs import Interrupted, Run, load_weights, train_run
from jlayers.runs.process import has_ended, this_process
from jlayers.runs.training import Recorder
from jlayers.saving.files import replacing, sweep, write_atomically
from jlayers.train.interruptions import Interruptions

LINE = """\
data: {npz: {path: data.npz, test_fraction: 0.25}}
model: {Sequential: [{Dense: 1}]}
loss: mse
optimizer: {sgd: {learning_rate: 0.01}}
training: {epochs: 2, batch_size: 6}
"""


def prepare(path: pathlib.Path) -> pathlib.Path:
    x = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    np.savez(path / "data.npz", x=x, y=x[:, :1])
    (path / "line.yaml").write_text(LINE)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path))
    return tmp_path


def new_run(*sets, name="r"):
    experiment = config.load("line.yaml", sets)
    return experiment, Run.create(name, experiment.to_data())


# -------------------------------------------------------------------------------------- real signals

ENDINGS = {
    "SIGINT": ("interrupted", 130),
    "SIGTERM": ("interrupted", 143),
    "SIGHUP": ("interrupted", 129),
    "SIGKILL": ("killed", -9),
}


# As a terminal starts it: a job in the background of a shell inherits that SIGINT is ignored.
COMMAND_LINE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from jlayers.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Four long trainings at once, each ended by a signal after its first epochs."""
    path = prepare(tmp_path_factory.mktemp("endings"))
    arguments = [sys.executable, "-c", COMMAND_LINE, "train", "line.yaml", "--epochs", "1000000", "--run"]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1])}

    def start(name):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*arguments, name], cwd=path, env=environment, **quiet)

    started = {name: start(name) for name in ENDINGS}
    codes = {}
    try:
        for name, process in started.items():
            deadline = time.monotonic() + 120
            while not (path / name / "weights.safetensors").exists():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if name == "SIGKILL":
                assert Run(path / name).status == "running"
                (path / name / ".weights.safetensors-abc.part").write_bytes(b"half")
            process.send_signal(getattr(signal, name))
            process.communicate(timeout=60)
            codes[name] = process.returncode
    finally:
        for process in started.values():
            process.kill()
            process.communicate()
    return path, codes


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDINGS)
def test_a_signal_leaves_a_true_status_and_whole_files(ended, name):
    path, codes = ended
    status, code = ENDINGS[name]
    run = Run.open(path / name)
    assert (run.status, codes[name]) == (status, code)
    assert not list(run.path.glob(".*")), "temporary files are swept"
    epochs = len(run.history()["loss"])
    assert epochs - 1 <= run.kept_epoch() <= epochs
    assert run.changes() == []
    if status == "interrupted":
        assert run.results()["reason"] == name


@pytest.mark.slow
def test_evaluate_tells_of_a_killed_run(ended, capsys):
    path, _ = ended
    assert main(["evaluate", str(path / "SIGKILL")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("loss")
    assert "status is 'killed'" in err
    assert f"weights of epoch {Run(path / 'SIGKILL').kept_epoch()}" in err.replace("\n", " ")


def in_shell(arguments):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1])}
    command = f"{sys.executable} -m jlayers.cli {arguments}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("remarks", ["2>&1", "2> /dev/full"])
def test_a_reader_that_goes_away_does_not_end_a_training(folder, remarks):
    done = in_shell(f"train line.yaml --run r {remarks} | head -1")
    assert (done.returncode, done.stdout.strip()) == (0, "config   line.yaml")
    assert Run("r").results()["status"] == "completed"


def test_signals_wait_while_files_are_written(folder, monkeypatch):
    experiment, run = new_run()
    replace = os.replace

    def interrupted(source, target):
        replace(source, target)
        if str(target).endswith("weights.safetensors"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "replace", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_run(experiment, run)
    assert signal.getsignal(signal.SIGTERM) is before
    assert (run.status, run.kept_epoch(), len(run.history()["loss"])) == ("interrupted", 1, 1)
    assert not list(run.path.glob(".*"))


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruptions():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interruption_before_the_first_epoch_is_noted(folder):
    class Early(jl.Callback):
        def on_fit_begin(self, run):
            raise KeyboardInterrupt

    experiment, run = new_run()
    with pytest.raises(KeyboardInterrupt):
        train_run(experiment, run, [Early()])
    assert run.status == "interrupted"
    with pytest.raises(FileNotFoundError, match=r"holds no weights.safetensors.*'interrupted'"):
        Run.open("r")


# ------------------------------------------------------------------------------------------ processes


def test_a_process_number_that_is_used_again_is_another_process():
    here = this_process()
    assert not has_ended(here)
    assert has_ended({**here, "started": "long ago"})
    assert not has_ended({**here, "host": "elsewhere", "pid": 1})
    for pid in (None, "12", -1, 2**40):
        assert not has_ended({**here, "pid": pid})
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert has_ended({"host": platform.node(), "pid": done.pid, "started": None})


def test_two_processes_cannot_train_into_one_folder(folder, capsys):
    _, run = new_run("training.checkpoint={every_steps: 2}")
    run.fail(KeyboardInterrupt())  # as if the status had been read before the other process noted its own
    with pytest.raises(BlockingIOError, match="r is still being trained by another process"):
        Run.reopen("r").begin_again()
    assert main(["train", "--resume", "r"]) == 2
    assert "is still being trained by another process: wait until it has ended" in capsys.readouterr().err
    assert main(["train", "line.yaml", "--run", "r"]) == 2
    assert "r exists already, and a run is never written over" in capsys.readouterr().err
    run.unlock()
    again = Run.reopen("r")
    again.begin_again()
    again.unlock()


def test_a_run_that_ended_on_another_computer_is_known_by_its_lock(folder):
    _, run = new_run()
    process = {**run.results()["process"], "host": "elsewhere"}
    run.note(process=process)
    assert Run("r").status == "running"
    run.unlock()
    assert Run("r").status == "killed"
    run.note(process={**process, "locked": False})  # where there are no locks, nothing is known
    assert Run("r").status == "running"


def test_a_new_folder_is_whole_or_not_there(folder, monkeypatch):
    replace, count = os.replace, [0]

    def fails(source, target):
        count[0] += 1
        if count[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        new_run()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert [p.name for p in folder.iterdir() if p.is_dir()] == []
    old = folder / ".r-0123abcd.part"
    old.mkdir()
    os.utime(old, (0, 0))  # of a process that was killed long ago
    new_run()
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["r"]


# ------------------------------------------------------------------------------------- disks and folders


def test_a_full_disk_is_told_and_noted(folder, monkeypatch, capsys):
    def full(handle):
        if len(Run("r").history().get("loss", [])) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["train", "line.yaml", "--run", "r", "--epochs", "4"]) == 1
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    err = capsys.readouterr().err
    assert "r/metrics.jsonl: No space left on device; make room" in err
    assert "run r: it keeps the weights of epoch 1" in err
    run = Run.open("r")
    assert (run.status, run.kept_epoch()) == ("failed", 1)
    assert not list(run.path.glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_results_that_cannot_be_written_are_told_before_the_training(folder):
    done = in_shell("train line.yaml --run r > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("[Errno 28] No space left on device")
    assert Run("r").results()["status"] == "failed"


def test_a_folder_that_vanishes_does_not_hide_the_error(folder, capsys):
    class Vanish(jl.Callback):
        def on_epoch_end(self, epoch, logs, state):
            os.rename("r", "gone")

    experiment, run = new_run()
    with pytest.raises(FileNotFoundError, match=r"r/metrics.jsonl") as error:
        train_run(experiment, run, [Vanish()])
    assert "status could not be written" in "".join(error.value.__notes__)


def test_a_torn_last_line_of_metrics_is_left_out(folder):
    _, run = new_run()
    for epoch in (1, 2):
        run.log(epoch, {"loss": 1.0 / epoch})
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole) - 2):
        path.write_bytes(whole[:end])
        assert run.history() == {"loss": [1.0]}
    path.write_bytes(b"{torn\n" + whole)
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged \(line 1"):
        run.history()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    block = replacing(path)
    block.__enter__().write(b"new")
    block.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.json", b"old")]
    (tmp_path / ".a.json-1.part").touch()
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_place_for_runs_that_is_no_folder_is_told(folder, capsys, kind):
    path = folder / "runs"
    path.symlink_to("nowhere") if kind == "link" else path.write_text("")
    assert main(["train", "line.yaml"]) == 2
    assert "choose another place with --run" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- numbers gone bad


def test_held_out_data_are_looked_at_before_the_first_step(folder, capsys):
    with np.load("data.npz") as file:
        kept = dict(file)
    x, y = kept["x"], kept["y"]
    _, (held_out, _) = hold_out(np.arange(24), y, 0.25, seed=0)
    x[held_out[0], 1] = np.inf
    np.savez("data.npz", x=x, y=y)
    assert main(["train", "line.yaml", "--run", "r"]) == 1
    err = capsys.readouterr().err
    assert "the held-out data: " in err
    assert "finite" in err
    assert not (folder / "r/metrics.jsonl").exists()


def test_the_best_weights_are_on_the_disk_before_anything_else_runs(folder, monkeypatch):
    stopping = "{monitor: val_loss, patience: 9, restore_best_weights: true}"
    experiment, run = new_run(
        f"training.early_stopping={stopping}",
        "training.validation=0.25",
        "training.epochs=4",
        "optimizer={sgd: {learning_rate: 1.5}}",
    )
    monkeypatch.setattr("jlayers.train.evaluate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_run(experiment, run)
    best = 1 + int(np.argmin(run.history()["val_loss"]))
    assert (run.status, run.kept_epoch()) == ("failed", best)
    assert best < 4


def test_an_early_end_leaves_the_best_weights_so_far(folder):
    class Interrupt(jl.Callback):
        def on_epoch_begin(self, epoch):
            if epoch == 3:
                raise KeyboardInterrupt

    experiment, run = new_run(
        "training.early_stopping={monitor: loss, patience: 9, restore_best_weights: true}",
        "training.epochs=5",
        "optimizer={sgd: {learning_rate: 2.5}}",
    )
    with pytest.raises(KeyboardInterrupt):
        train_run(experiment, run, [Interrupt()])
    assert run.kept_epoch() == 1 + int(np.argmin(run.history()["loss"])) < 3


def poison(monkeypatch, what):
    """Makes what the recorder sees in the second epoch not finite, as a bad update or a bad batch would."""
    record = Recorder.on_epoch_end

    def poisoned(self, epoch, logs, state):
        if epoch == 1 and what in logs:
            logs = {**logs, what: float("nan")}
        elif epoch == 1:
            state = state.replace(params=jax.tree.map(lambda a: a * float("inf"), state.params))
        record(self, epoch, logs, state)

    monkeypatch.setattr(Recorder, "on_epoch_end", poisoned)


@pytest.mark.parametrize("what", ["loss", "val_loss", "params"])
def test_what_is_not_finite_fails_and_good_weights_stay(folder, what, monkeypatch):
    poison(monkeypatch, what)
    experiment, run = new_run("training.validation=0.25", "training.epochs=3")
    with pytest.raises(FloatingPointError, match=r"became nan in epoch 2|params/dense/kernel"):
        train_run(experiment, run)
    assert (run.status, run.kept_epoch()) == ("failed", 1)
    params, _ = load_weights(
        run.path / "weights.safetensors",
        {"dense": {"kernel": np.zeros((2, 1), "f4"), "bias": np.zeros(1, "f4")}},
    )
    assert np.isfinite(params["dense"]["kernel"]).all()


def test_one_step_with_an_absurd_rate_is_a_failure(folder, capsys):
    sets = ["optimizer={sgd: {learning_rate: 1e30}}", "training.batch_size=24", "training.validation=0.25"]
    assert (
        main(["train", "line.yaml", "--run", "r", "--epochs", "1", *(a for s in sets for a in ("--set", s))])
        == 1
    )
    assert Run("r").status == "failed"
    assert json.loads((folder / "r/results.json").read_text())["reason"].startswith("FloatingPointError")
