"""Sweeps: values chosen and checked, poor trials ended, everything killed and resumed exactly."""

import contextlib
import dataclasses
import gc
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.stats

import jlayers as jl
import jlayers.config
import jlayers.runs.training
from jlayers.cli import main
from jlayers.config import ConfigError
from jlayers.config.sweep import Range
from jlayers.experiments.sweep import pruners, samplers
from jlayers.experiments.sweep.folder import SweepFolder
from jlayers.experiments.sweep.jobs import Here, Processes, devices, environments
from jlayers.experiments.sweep.plan import Plan
from jlayers.experiments.sweep.search import Search
from jlayers.experiments.sweep.trial import Trial, running_best
from jlayers.runs import Run, evaluate_run
from jlayers.train.interruptions import Interrupted

FILE = """\
data: {npz: {path: data.npz, test_fraction: 0.2}}
model:
  Sequential:
  - {Dense: {units: 3, activation: tanh}}
  - {Dense: 1}
loss: mse
optimizer: adam
training: {epochs: 3, batch_size: 16, validation: 0.25}
sweep:
  trials: 5
  values:
    optimizer.adam.learning_rate: {low: 0.001, high: 0.3, log: true}
    model.Sequential.0.Dense.units: [2, 4]
  prune: {median: {after: 1, trials: 1}}
  parallel: 2
"""
# Trials of one compiled program: what is tried is the seed.
SEEDS = (
    FILE.partition("    optimizer.")[0]
    + """\
    seed: {low: 0, high: 9999}
    training.shuffle: [true, false]
  prune: {median: {after: 1, trials: 1}}
  parallel: 2
"""
)

OPTUNAS = SEEDS.replace("trials: 5", "trials: 5\n  method: {tpe: {n_startup_trials: 2}}").replace(
    "{median: {after: 1, trials: 1}}", "{optuna.SuccessiveHalvingPruner: {reduction_factor: 2}}"
)


@pytest.fixture
def seeds(file, monkeypatch):
    monkeypatch.setattr(Run, "draw", lambda run: False)  # learning curves take longer than the training
    file.write_text(SEEDS)
    return file


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    np.savez("data.npz", x=x, y=x[:, :1] * x[:, 1:2])
    path = tmp_path / "tiny.yaml"
    path.write_text(FILE)
    return path


def lines(folder):
    return (pathlib.Path(folder) / "trials.jsonl").read_text().splitlines()


def check_equal(one, other):
    """The same ledger, configurations, metrics and weights."""
    assert lines(one) == lines(other)
    for trial in SweepFolder(one).trials():
        for name in (
            f"{trial.name}.yaml",
            f"{trial.name}/weights.safetensors",
            f"{trial.name}/metrics.jsonl",
        ):
            mine, theirs = (pathlib.Path(folder, name).read_bytes() for folder in (one, other))
            assert mine == theirs, name


# ------------------------------------------------------------------------------------------ samplers

SPACE = {
    "any": Range(-1.0, 3.0),
    "log": Range(1e-4, 1e-1, log=True),
    "whole": Range(2, 5),
    "log_whole": Range(1, 64, log=True),
    "step": Range(0.0, 1.0, step=0.25),
    "list": [1, "x", {"y": 2}],
}


def draw(count, seed=0, space=SPACE):
    return [samplers.random()(space, seed, number) for number in range(count)]


def test_random_values_are_even_and_depend_on_seed_path_and_number_only():
    drawn = draw(600)
    assert scipy.stats.kstest([d["any"] for d in drawn], "uniform", args=(-1, 4)).pvalue > 1e-3
    logs = np.log10([d["log"] for d in drawn])
    assert scipy.stats.kstest(logs, "uniform", args=(-4, 3)).pvalue > 1e-3
    for name, expected in (("whole", [2, 3, 4, 5]), ("step", [0, 0.25, 0.5, 0.75, 1])):
        found, counts = np.unique([d[name] for d in drawn], return_counts=True)
        assert found.tolist() == expected
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert {json.dumps(d["list"]) for d in drawn} == {"1", '"x"', '{"y": 2}'}
    halves = np.log([d["log_whole"] for d in drawn])
    assert {type(d["log_whole"]) for d in drawn} == {int}
    assert abs(np.mean(halves < np.log(8)) - np.log(8 / 0.5) / np.log(64.5 / 0.5)) < 0.07
    assert draw(3) == drawn[:3] != draw(3, seed=1)
    assert [d["log"] for d in draw(3, space={"log": SPACE["log"]})] == [d["log"] for d in drawn[:3]]


def test_a_grid_is_the_product_in_order():
    space = {"a": [1, 2], "b": Range(0.0, 0.5, step=0.25), "c": Range(3, 4)}
    grid = samplers.grid()
    assert grid.count(space) == 12
    found = [tuple(grid(space, 0, n).values()) for n in range(12)]
    assert found == list(itertools.product([1, 2], [0, 0.25, 0.5], [3, 4]))


# ------------------------------------------------------------------------------------------- pruners


def place(number, known, epochs, direction="min", parallel=1):
    return pruners.Place(number, known, parallel, epochs, direction)


def completed(curves, direction="min"):
    ends = [running_best(curve, direction)[-1] for curve in curves]
    return [Trial(n, {}, "completed", ends[n], len(c), tuple(c)) for n, c in enumerate(curves)]


def test_the_median_is_optunas():
    optuna = pytest.importorskip("optuna")
    rng = np.random.default_rng(3)
    curves = np.sort(rng.normal(size=(9, 6)), axis=1)[:, ::-1]  # they fall, as Optuna looks at last values
    kinds = optuna.distributions.FloatDistribution(0, 1)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ends = set()
    for number in range(9):
        bounds = pruners.median(after=2, trials=4).bounds(place(number, completed(curves[:number]), 6))
        study = optuna.create_study(pruner=pruner)
        for curve in curves[:number]:
            study.add_trial(
                optuna.trial.create_trial(
                    value=curve[-1],
                    params={"x": 0.5},
                    distributions={"x": kinds},
                    intermediate_values=dict(enumerate(curve.tolist(), 1)),
                )
            )
        trial = study.ask()
        for epoch, value in enumerate(curves[number].tolist(), 1):
            trial.report(value, epoch)
            bound = bounds[epoch - 1]
            if epoch < 6:
                assert trial.should_prune() == (bound is not None and value > bound), (number, epoch)
            ends.add(trial.should_prune())
    assert ends == {True, False}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_halving_lets_one_of_so_many_go_on(direction):
    sign = 1 if direction == "min" else -1
    known = completed([[sign * (10 - n)] * 9 for n in range(6)], direction)  # each is better than the last
    known[0] = dataclasses.replace(known[0], status="failed", curve=(None,))
    rule = pruners.halving(first=1, factor=3)
    # Of six, the two best may continue: as good as the second best of the five, 10 - 4.
    assert rule.bounds(place(6, known, 9, direction)) == [sign * 6, None, sign * 6, *[None] * 6]
    assert rule.bounds(place(2, known[:2], 9, direction)) == [None] * 9  # with so few nothing is known
    # Three brackets in turn, the second begins at epoch 3. Rivals of trial 9 are 0 (which failed), 3 and 6.
    known += completed([[sign * (10 - n)] * 9 for n in range(9)], direction)[6:]
    bands = pruners.hyperband(first=1, factor=3)
    assert bands.bounds(place(9, known, 9, direction)) == [sign * 4, None, sign * 4, *[None] * 6]
    assert bands.bounds(place(10, known, 9, direction)) == [None, None, sign * 3, *[None] * 6]
    assert bands.bounds(place(11, known, 9, direction)) == [None] * 9  # judged after epoch 9, the last


def test_a_pruned_rival_counts_where_it_was_and_a_stopped_one_to_the_end():
    stopped = Trial(0, {}, "completed", 0.2, 2, (0.5, 0.2))
    pruned = Trial(1, {}, "pruned", 0.9, 2, (0.9, 0.95))
    bounds = pruners.median(after=1, trials=1).bounds(place(2, [stopped, pruned], 4))
    np.testing.assert_allclose(bounds, [0.7, 0.55, 0.2, 0.2])


def test_the_callback_stops_where_the_best_so_far_is_worse():
    x = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
    trainer = jl.compile(jl.Dense(1), "sgd", loss="mse")
    _, whole = jl.fit(trainer, x, 3 * x, epochs=4)
    losses = whole["loss"]
    for than, epochs in (
        ([losses[0] * 2, losses[1], losses[1]], 4),  # equal is not worse, and behind the bounds none is
        ([None, losses[1] * 0.99], 2),
        ([None, None, None, 0.0], 4),
    ):
        _, history = jl.fit(trainer, x, 3 * x, epochs=4, callbacks=[jl.callbacks.StopIfWorse("loss", than)])
        assert history["loss"] == losses[:epochs]
    means = jl.fit_seeds(trainer, x, 3 * x, seeds=2, epochs=3)[1]["loss"].mean(1)
    stop = jl.callbacks.StopIfWorse("loss", [None, means[1] * 0.99])  # at which all of the seeds end
    assert jl.fit_seeds(trainer, x, 3 * x, seeds=2, epochs=3, callbacks=stop)[1]["loss"].shape == (2, 2)
    with pytest.raises(KeyError, match=r"watches 'los', which is not in the logs: did you mean 'loss'"):
        jl.fit(trainer, x, x, callbacks=[jl.callbacks.StopIfWorse("los", [1.0])])
    with pytest.raises(ValueError, match="a bound for at least one epoch, received than="):
        jl.callbacks.StopIfWorse("loss", [])


# ---------------------------------------------------------------------------------- checked before


# fmt: off
WRONG = [
    ("{low: 0.001", "{low: 0.0", r":12: sweep.values.*low: expected a number above 0 with log: true"),
    ("high: 0.3", "high: 0.0001", "high: expected a number above low, 0.001, received high=0.0001"),
    ("log: true", "log: true, step: 0.1", "step: expected no step with log: true"),
    ("low: 0.001", "lo: 0.001", "takes no 'lo' .*did you mean 'low'"),
    ("[2, 4]", "[]", "at least one value for model.Sequential.0.Dense.units"),
    ("[2, 4]", "[2, 0]", r":13: .*with .*units=0: .*received units=0"),
    ("[2, 4]", "[2, many]", r":13: .*with .*units=\"many\": expected a whole number"),
    ("adam.learning_rate", "adm.learning_rate", r":12: .*there is no 'adm' here: did you mean 'adam'"),
    ("adam.learning_rate", "adam.learning_rat",
     r":12: .*takes no 'learning_rat'.*did you mean 'learning_rate'.$"),
    ("Sequential.0.Dense", "Sequential.7.Dense", r":13: .*there is no '7' here: valid: 0, 1"),
    ("  trials: 5", "  method: grid", "expected a list of values for .*, or a range with a step"),
    ("  trials: 5", "  seed: 1", "sweep.*expected the number of trials"),
    ("  trials: 5", "  trials: 5\n  metric: val_acuracy", "'val_acuracy', which is not in .*val_loss"),
    (", validation: 0.25", "", r"'val_loss', which is not in the logs: .*training.validation"),
    ("{median: {after", "{medain: {after", "unknown pruner 'medain': did you mean 'median'"),
    ("{median: {after: 1, trials: 1}}", "{optuna.MedianPruner: {n_warm_steps: 1}}",
     "optuna.MedianPruner takes no 'n_warm_steps' .*did you mean 'n_warmup_steps'"),
    ("{median: {after: 1, trials: 1}}", "{optuna.MedianPruner: {n_warmup_steps: -1}}",
     ":14: sweep.prune.*optuna.MedianPruner: .*cannot be negative"),
    ("{median: {after: 1, trials: 1}}", "{optuna.HyperbandPruner: {max_resource: [3]}}",
     ":14: .*max_resource: expected text or a whole number"),
    ("{median: {after: 1, trials: 1}}", "{optuna.PatientPruner: {patience: 1, wrapped_pruner: median}}",
     "expected a pruner of Optuna's, such as optuna.MedianPruner, received wrapped_pruner=median"),
    ("  trials: 5", "  trials: 5\n  method: optuna.GPSampler", "write optuna.TPESampler .*needs PyTorch"),
    ("  trials: 5", "  trials: 5\n  method: {optuna.TPESampler: {seed: 3}}", "takes no 'seed'"),
]
# fmt: on


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[new for _, new, _ in WRONG])
def test_what_is_wrong_is_told_before_anything_trains(file, old, new, message):
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        Search.begin(file)
    assert not pathlib.Path("sweeps").exists()


@pytest.mark.parametrize("line", ["method: optuna.QMCSampler", "prune: optuna.NopPruner", "method: tpe"])
def test_without_optuna_a_sweep_says_what_to_install(file, line, monkeypatch):
    file.write_text(FILE.partition("  prune:")[0] + f"  {line}\n")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r"tiny.yaml:\d+: sweep.*needs Optuna: pip install 'jlayers\[optuna\]'"
    ):
        Search.begin(file)
    assert jlayers.config.json_schema()  # without those names


def test_both_ends_are_looked_at_where_values_depend_on_results(file):
    text = FILE.replace("  trials: 5", "  trials: 5\n  method: tpe").replace("[2, 4]", "{low: 0, high: 4}")
    file.write_text(text)
    with pytest.raises(ConfigError, match=r":14: .*with model.Sequential.0.Dense.units=0: "):
        Search.begin(file)


def test_a_path_may_leave_out_a_first_argument_that_the_file_writes(file):
    written = FILE.replace("Sequential:\n", "Sequential:\n   layers:\n").replace("  - {D", "   - {D")
    plan = Plan(jlayers.config.loads(written))
    made = plan.trial({"model.Sequential.0.Dense.units": 5, "model.sequential.1.dense.units": 2})
    assert made.to_data()["model"]["Sequential"]["layers"][0]["Dense"]["units"] == 5
    assert made.to_data()["model"]["Sequential"]["layers"][1]["Dense"]["units"] == 2


def test_variables_and_defaults_are_tried_and_kept(file, monkeypatch):
    pathlib.Path("base").mkdir()
    text = FILE.partition("sweep:")[0].replace("units: 3", 'units: "${width}"')
    text = text.replace("path: data.npz", 'path: "${env:WHERE}/data.npz"')
    pathlib.Path("base/base.yaml").write_text(text)
    monkeypatch.setenv("WHERE", "..")
    values = "{variables.width: [2, 4, 8], model.Sequential.0.Dense.activation: [tanh]}"
    more = f"variables: {{width: 3}}\nsweep: {{method: grid, values: {values}}}"
    file.write_text(f"defaults: [base/base.yaml]\n{more}")
    search = Search.begin(file, "here")
    search.folder.unlock()
    again = Search.reopen("here")
    for number, units in enumerate((2, 4, 8)):
        mine, theirs = (s.plan.trial(s.plan.values(number, ())).to_data() for s in (search, again))
        assert mine == theirs
        assert mine["model"]["Sequential"]["layers"][0]["Dense"]["units"] == units
        assert mine["data"]["npz"]["path"] == str(file.parent / "data.npz")
    again.folder.unlock()
    monkeypatch.setenv("WHERE", str(file.parent / "elsewhere"))
    with pytest.raises(ValueError, match="an environment variable that it names or jlayers has changed"):
        Search.reopen("here")


# --------------------------------------------------------------------------------- trained, resumed


class InterruptedHere(Here):
    """Is interrupted after some epochs, which are counted over all trials."""

    def __init__(self, epochs):
        super().__init__()
        self.left = epochs

    def start(self, folder, number):
        log = Run.log

        def counted(run, epoch, logs):
            log(run, epoch, logs)
            self.left -= 1
            if not self.left:
                raise Interrupted(signal.SIGTERM)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "log", counted)
            return super().start(folder, number)


@pytest.mark.slow
def test_a_sweep_that_was_interrupted_goes_on_to_the_same_end(seeds, capsys):
    assert main(["sweep", str(seeds), "--jobs", "0", "--folder", "whole"]) == 0
    told = capsys.readouterr().out
    whole = SweepFolder("whole").trials()
    assert {trial.status for trial in whole} == {"completed", "pruned"}
    best = min((t for t in whole if t.status == "completed"), key=lambda t: t.value)
    assert f"jlayers evaluate whole/{best.name}" in told
    assert SweepFolder("whole").facts()["best"] == best.name
    assert pathlib.Path("whole/sweep.png").stat().st_size > 1000
    results, _ = evaluate_run(Run.open(f"whole/{best.name}"))
    assert results == Run(f"whole/{best.name}").results()["test"]
    assert min(trial.epochs for trial in whole) < 3

    search = Search.begin(seeds, "again")
    with pytest.raises(Interrupted):
        search.run(InterruptedHere(2))  # within the first trial
    assert (search.folder.status, search.folder.run(0).status) == ("interrupted", "interrupted")
    with pytest.raises(Interrupted):
        Search.reopen("again").run(InterruptedHere(7))
    ledger = pathlib.Path("again/trials.jsonl")
    assert 0 < len(lines("again")) < 5
    ledger.write_bytes(ledger.read_bytes()[:-9])  # cut off by a power failure
    again = Search.reopen("again")
    again.folder.unlock()
    assert main(["sweep", "--resume", "again", "--jobs", "0"]) == 0
    check_equal("whole", "again")
    assert main(["sweep", "--resume", "again", "--jobs", "0"]) == 0  # nothing is left to do
    check_equal("whole", "again")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_optuna_chooses_and_its_own_tools_open_the_store(seeds, capsys, monkeypatch):
    optuna = pytest.importorskip("optuna")
    seeds.write_text(OPTUNAS)
    Search.begin(seeds, "whole").run(Here())
    with pytest.raises(Interrupted):
        Search.begin(seeds, "again").run(InterruptedHere(6))
    again = Search.reopen("again")
    again.run(Here())
    check_equal("whole", "again")
    assert {trial.status for trial in again.trials} == {"completed", "pruned"}
    storage = "sqlite:///again/study.db"
    study = optuna.load_study(study_name="sweep", storage=storage)
    states = {"COMPLETE": "completed", "PRUNED": "pruned"}
    found = [
        (states[t.state.name], t.params, t.value, [*t.intermediate_values.values()]) for t in study.trials
    ]
    assert found == [(t.status, t.values, t.value, list(t.curve)) for t in again.trials]
    assert study.best_trial.user_attrs["folder"] == again.best.name
    pruned = next(trial.name for trial in again.trials if trial.status == "pruned")
    assert jl.experiments.reproduce(again.folder.path / pruned).identical  # ends at the same epoch
    monkeypatch.setattr(sys, "argv", ["optuna", "studies", "--storage", storage, "-f", "json"])
    from optuna.cli import main as optunas

    assert optunas() in (0, None)
    assert json.loads(capsys.readouterr().out)[0]["n_trials"] == 5
    del study
    gc.collect()  # closes the connections of Optuna's tools, which Python 3.13 warns of


def test_trials_that_fail_are_told_and_do_not_end_the_sweep(seeds, capsys):
    text = SEEDS.replace("seed: {low: 0, high: 9999}", "optimizer.adam.learning_rate: [1.0e+38, 0.01]")
    seeds.write_text(text.replace("[true, false]", "[true]"))
    grid = ["--set", "sweep.method=grid"]
    assert main(["sweep", str(seeds), "--jobs", "0", *grid]) == 0
    trials = SweepFolder("sweeps/tiny-1").trials()
    assert [trial.status for trial in trials] == ["failed", "completed"]
    assert trials[0].reason.startswith("FloatingPointError")
    assert "failed" in capsys.readouterr().out
    assert main(["sweep", str(seeds), "--jobs", "0", *grid, "--set", "sweep.trials=1"]) == 1
    assert "no trial came to its end" in capsys.readouterr().err


def fails_once(monkeypatch, name):
    """A run ends by an error from outside, as of a disk that is full, the first time."""
    begin, left = jlayers.runs.training.begin, [name]

    def begun(experiment, run, interrupts):
        begin(experiment, run, interrupts)
        if run.path.name in left:
            left.remove(run.path.name)
            raise OSError("no space left")

    monkeypatch.setattr(jlayers.runs.training, "begin", begun)


@pytest.mark.slow
def test_a_trial_that_failed_is_trained_again_when_it_is_asked_for(seeds, monkeypatch, capsys):
    kept = SEEDS.partition("  prune:")[0].replace("trials: 5", "trials: 3").replace("epochs: 3", "epochs: 1")
    seeds.write_text(kept)
    told = []
    whole = jl.experiments.sweep(seeds, "whole", ended=told.append)
    assert told == whole.trials
    assert whole.best == min(whole.trials, key=lambda trial: trial.value)
    fails_once(monkeypatch, "trial-001")
    once = jl.experiments.sweep(seeds, "once")
    assert [trial.status for trial in once.trials] == ["completed", "failed", "completed"]
    assert once.trials[1].reason == "OSError: no space left"
    assert jl.experiments.sweep(resume="once").trials == once.trials  # not without being asked
    assert main(["sweep", "--resume", "once", "--retry-failed", "--jobs", "0"]) == 0
    check_equal("whole", "once")
    assert Run("once/trial-001-failed-1").status == "failed"
    assert main(["sweep", str(seeds), "--retry-failed"]) == 2
    assert "expected --resume DIR with --retry-failed" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected a file or a folder to resume"):
        jl.experiments.sweep()
    with pytest.raises(ValueError, match="continues with its own settings"):
        jl.experiments.sweep(resume="once", overrides=["seed=3"])


@pytest.mark.slow
def test_a_failure_that_later_trials_know_stays(seeds, monkeypatch):
    seeds.write_text(SEEDS.replace("epochs: 3", "epochs: 1").replace("trials: 5", "trials: 4"))
    fails_once(monkeypatch, "trial-001")
    once = jl.experiments.sweep(seeds, "once")  # trial 3 knows the trials 0 and 1
    with pytest.warns(jlayers.runs.RunWarning, match="the failures of trials 1 stay: later trials"):
        again = jl.experiments.sweep(resume="once", retry_failed=True)
    assert again.trials == once.trials


@pytest.mark.slow
def test_a_sweep_of_many_seeds_is_pruned_by_their_mean(seeds):
    pytest.importorskip("optuna")
    seeds.write_text(OPTUNAS.replace("sweep:", "seeds: 2\nsweep:"))
    whole = jl.experiments.sweep(seeds, "whole")
    assert {trial.status for trial in whole.trials} == {"completed", "pruned"}
    for trial in whole.trials:
        run = whole.folder.run(trial.number)
        assert list(trial.curve) == run.history()["val_loss"]
        assert run.results()["seeds"]["epochs"] == [trial.epochs] * 2
    with pytest.raises(Interrupted):
        Search.begin(seeds, "again").run(InterruptedHere(5))  # within a trial
    jl.experiments.sweep(resume="again")
    check_equal("whole", "again")


def test_what_a_sweep_refuses(file, capsys):
    def refused(*arguments):
        assert main(["sweep", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    search = Search.begin(file, "here")
    assert "still being worked on by another process" in refused("--resume", "here")
    assert "exists already" in refused(file, "--folder", "here")
    search.folder.unlock()
    assert "expected no FILE with --resume" in refused(file, "--resume", "here")
    assert "is not a sweep" in refused("--resume", ".")
    assert "expected a FILE" in refused()
    assert "expected --jobs 0 or more" in refused(file, "--jobs", "-1")
    file.write_text(FILE.partition("sweep:")[0])
    assert "has no section sweep" in refused(file)
    kept = pathlib.Path("here/sweep.yaml").read_text()
    pathlib.Path("here/sweep.yaml").write_text(kept.replace("trials: 5", "trials: 7"))
    assert "would be another sweep" in refused("--resume", "here")
    pathlib.Path("here/sweep.yaml").write_text(kept)
    x = np.ones((80, 3), np.float32)
    np.savez("data.npz", x=x, y=x[:, :1])
    assert "have changed since the sweep began" in refused("--resume", "here")


def test_devices_are_dealt_out():
    assert environments("cpu", "", 8, 3, {}) == [{}]
    two = environments("gpu", "cuda 12080", 2, 2, {})
    assert two == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    shared = environments("gpu", "rocm 60", 1, 3, {"ROCR_VISIBLE_DEVICES": "3"})
    share = {"ROCR_VISIBLE_DEVICES": "3", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.30"}
    assert shared == [share] * 3
    four = environments("gpu", "cuda 12080", 4, 2, {"CUDA_VISIBLE_DEVICES": " 6, GPU-1a2b ,MIG-3c,1,-1,7"})
    assert [one["CUDA_VISIBLE_DEVICES"] for one in four] == ["6", "GPU-1a2b"]  # and two for nobody
    cut = environments("gpu", "cuda 12080", 2, 3, {"CUDA_VISIBLE_DEVICES": "4,1,-1,7"})  # 7 is hidden
    assert [one["CUDA_VISIBLE_DEVICES"] for one in cut] == ["4", "1", "4"]
    assert {one["XLA_PYTHON_CLIENT_MEM_FRACTION"] for one in cut} == {"0.45"}
    mine = environments("gpu", "cuda 12080", 1, 2, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"})
    assert mine == [{"CUDA_VISIBLE_DEVICES": "0"}] * 2
    with pytest.raises(ValueError, match="expected --jobs 1 on a TPU"):
        environments("tpu", "", 4, 2, {})


def test_devices_are_asked_for_where_there_may_be_some(monkeypatch):
    asked = []

    def answer(text, code=0):
        def run(command, **options):
            asked.append(command)
            return subprocess.CompletedProcess(command, code, text, "no driver\n" if code else "")

        monkeypatch.setattr(subprocess, "run", run)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jax_plugins")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    answer("gpu cuda 12080 2\n")
    assert devices(2) == [{}]
    assert not asked
    monkeypatch.delenv("JAX_PLATFORMS")
    assert devices(2) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    answer("cpu <unknown> 1\n")  # a plugin, and no GPU
    assert devices(2) == [{}]
    answer("", code=1)
    with pytest.raises(ValueError, match="JAX cannot start here: no driver"):
        devices(2)


def test_each_process_has_its_device_and_gives_it_back(file):
    search = Search.begin(file, "here")
    script = "import os, sys; print(os.environ['PLACE'], *sys.argv[1:])"
    launcher = Processes([sys.executable, "-c", script], 2, [{"PLACE": "a"}, {"PLACE": "b"}])
    jobs = [launcher.start(search.folder, number) for number in (0, 1)]
    for job in jobs:
        job.wait()
    last = launcher.start(search.folder, 2)
    last.wait()
    said = [search.folder.last_word(number) for number in (0, 1, 2)]
    assert said == [f"{p} here/trial-00{n}.yaml --run here/trial-00{n}" for n, p in enumerate("aba")]


# ----------------------------------------------------------------------------------------- processes


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(jl.__file__).parents[1])}
    command = [sys.executable, "-m", "jlayers.cli", "sweep", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def trained_by(run):
    return json.loads((run.path / "results.json").read_text())["process"]["pid"]


def children(process):
    listed = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in listed.read_text().split()]


def wait_for(condition, process, seconds=900):
    until = time.time() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.time() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_processes_that_are_killed_change_nothing(seeds, pytestconfig):
    pytest.importorskip("optuna")
    seeds.write_text(OPTUNAS)
    full = pytestconfig.getoption("--full")
    more = ["--set", f"sweep.trials={20 if full else 3}", "--set", f"training.epochs={40 if full else 12}"]
    more += ["--set", "training.checkpoint={keep: 1}"]
    assert main(["sweep", str(seeds), "--jobs", "0", "--folder", "whole", *more]) == 0
    folder = SweepFolder("killed")
    process = start(str(seeds), "--jobs", "2", "--folder", "killed", *more)
    wait_for(lambda: folder.log(0).exists() and children(process), process)
    os.kill(children(process)[0], signal.SIGKILL)  # before it has a folder; the sweep begins it again
    wait_for(lambda: (folder.run(1).path / "results.json").exists(), process)
    with contextlib.suppress(ProcessLookupError):
        os.kill(trained_by(folder.run(1)), signal.SIGKILL)  # in its training
    if full:
        draw = random.Random(random.SystemRandom().randrange(2**32))
        for count in (4, 9, 14):
            wait_for(lambda count=count: len(folder.trials()) >= count, process)
            time.sleep(draw.uniform(0, 3))
            process.kill()  # its trials end by themselves
            process.communicate()
            assert folder.status == "killed"
            process = start("--resume", "killed", "--jobs", "2")
    wait_for(lambda: len(folder.trials()) >= (16 if full else 1), process)
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "continue with: jlayers sweep --resume killed" in errors
    assert folder.status == "interrupted"
    assert all(folder.run(n).status != "running" for n in range(20) if folder.run(n).path.exists())
    assert main(["sweep", "--resume", "killed", "--jobs", "0"]) == 0
    check_equal("whole", "killed")
