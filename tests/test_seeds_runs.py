"""Runs of many seeds: the whole path of a file, checkpoints, and how the results are told."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from seeds_equal import same, same_history

import jlayers as jl
from jlayers import config
from jlayers.cli import main
from jlayers.config import ConfigError
from jlayers.experiments.record import read_run
from jlayers.runs import Run, evaluate_run, evaluate_seeds_run, predict_run, train_run

pytestmark = pytest.mark.slow  # each trains in a process of its own or shares such a run

NET = """\
data: {npz: {path: data.npz, test_fraction: 0.25}}
model:
  Sequential:
    - Dense: {units: 8, activation: relu}
    - BatchNormalization
    - Dropout: 0.2
    - Dense: {units: 3, activation: softmax}
loss: sparse_categorical_crossentropy
metrics: [accuracy]
optimizer: {adam: {learning_rate: 0.03}}
seeds: 3
seed: 2
training:
  epochs: 4
  batch_size: 16
  validation: 0.2
  early_stopping: {patience: 1, restore_best_weights: true}
  callbacks: [CSVLogger]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    np.savez(path / "data.npz", x=rng.normal(size=(90, 4)) + y[:, None], y=y)
    (path / "net.yaml").write_text(NET)
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out, io.StringIO() as err:
        patch.chdir(path)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(["train", "net.yaml", "--run", "r"]) == 0
        (path / "out.txt").write_text(out.getvalue() + err.getvalue())
    return path


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return Run.open("r")


def test_each_seed_of_a_run_is_the_single_run_on_the_same_parts(run):
    experiment = config.load("net.yaml")
    (x, y), validation = experiment.parts
    results = run.results()
    for place, seed in enumerate([2, 3, 4]):
        stopping = jl.EarlyStopping(patience=1, restore_best_weights=True)
        state, history = jl.fit(
            experiment.compile(), x, y, epochs=4, batch_size=16, seed=seed, validation_data=validation,
            callbacks=[stopping],
        )  # fmt: skip
        kept = stopping.best_epoch + 1
        of_seeds = results["seeds"]
        assert (of_seeds["epochs"][place], of_seeds["kept_epochs"][place]) == (len(history["loss"]), kept)
        same_history(run.seeds_history(), place, history)
        own = of_seeds["validation"]["accuracy"]["values"][place]
        assert own == pytest.approx(history["val_accuracy"][kept - 1])
        x_test, y_test = experiment.data.test
        found = jl.evaluate(experiment.compile(), state, x_test, y_test)
        assert evaluate_run(run, seed)[0] == pytest.approx(found, rel=1e-5)
        outputs = jl.predict(experiment.model, (state.params, state.state), x_test)
        np.testing.assert_allclose(predict_run(run, x_test, seed=seed), outputs, rtol=1e-4, atol=1e-6)
        assert len((run.path / "logs" / f"seed-{seed}" / "log.csv").read_text().splitlines()) == kept + 2


def test_the_results_are_means_with_intervals(run):
    results = run.results()
    test = results["seeds"]["test"]["accuracy"]
    expected = jl.estimate(test["values"])
    assert (test["mean"], test["std"], test["low"], test["high"]) == pytest.approx(
        (expected.mean, expected.std, expected.low, expected.high)
    )
    assert results["test"]["accuracy"] == test["mean"]
    ensemble, each = evaluate_seeds_run(run)
    assert results["ensemble"]["test"] == pytest.approx(ensemble)
    assert each["accuracy"].values == pytest.approx(test["values"])
    history, of_seeds = run.history(), run.seeds_history()
    assert history["loss"] == pytest.approx(np.nanmean(of_seeds["loss"], 1).tolist())
    assert read_run("r").metrics["test_accuracy"] == test["mean"]


def test_what_the_command_line_says(folder, run, capsys):
    told = (folder / "out.txt").read_text()
    for part in ("seeds 2 to 4 in one program", "means over 3 seeds", "95 % interval", "ensemble accuracy"):
        assert part in told
    accuracy = run.results()["seeds"]["test"]["accuracy"]["mean"]
    assert f"{accuracy:.2%}" in told
    assert max(len(line) for line in told.splitlines() if "held out" in line) <= 80
    assert main(["evaluate", "r"]) == 0
    assert f"{accuracy:.2%}" in capsys.readouterr().out
    assert main(["evaluate", "r", "--seed", "3"]) == 0
    assert f"{evaluate_run(run, 3)[0]['accuracy']!r}" in capsys.readouterr().out
    assert main(["evaluate", "r", "--seed", "9"]) == 2
    assert "expected one of the run's seeds, 2 to 4, received seed=9" in " ".join(
        capsys.readouterr().err.split()
    )


def test_an_ensemble_and_its_members_are_written(run, tmp_path):
    x = np.random.default_rng(1).normal(size=(5, 4))
    np.save(tmp_path / "x.npy", x)
    whole, each = str(tmp_path / "whole.npy"), str(tmp_path / "each.npz")
    assert main(["predict", "r", str(tmp_path / "x.npy"), "--output", whole]) == 0
    assert main(["predict", "r", str(tmp_path / "x.npy"), "--members", "--output", each]) == 0
    with np.load(each) as members:
        assert members.files == ["seed_2", "seed_3", "seed_4"]
        np.testing.assert_allclose(np.load(whole), np.mean([members[n] for n in members.files], 0), rtol=1e-5)


def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    overrides = ["training.checkpoint={every_steps: 2, keep: 9}", "training.early_stopping.patience=0"]
    experiment = config.load("net.yaml", overrides)

    def trained(name, stop_at=None):
        run = Run(tmp_path / name) if (tmp_path / name).exists() else None
        if run is None:
            run = Run.create(tmp_path / name, experiment.to_data())
        else:
            run.begin_again()
        stops = []
        if stop_at is not None:

            class Stops(jl.Callback):
                of_all_seeds = True

                def on_epoch_begin(self, epoch):
                    if epoch == stop_at:
                        raise KeyboardInterrupt

            stops = [Stops()]
        with contextlib.suppress(KeyboardInterrupt):
            train_run(experiment, run, stops)
        return run

    whole, cut = trained("whole"), trained("cut", stop_at=2)
    assert cut.status == "interrupted"
    assert len(cut.history()["loss"]) == 2
    steps = sorted(
        int(path.name) for path in (tmp_path / "cut/checkpoints").iterdir() if path.name.isdecimal()
    )
    assert len(steps) > 2
    cut = trained("cut")
    assert cut.status == whole.status == "completed"
    for name in ("train", "test", "seeds", "ensemble"):
        assert cut.results()[name] == whole.results()[name]
    for run in (whole, cut):
        assert (run.path / "metrics.jsonl").read_text() == (whole.path / "metrics.jsonl").read_text()
        assert (run.path / "weights.safetensors").read_bytes() == (
            whole.path / "weights.safetensors"
        ).read_bytes()
    assert len(set(whole.results()["seeds"]["epochs"])) > 1, "choose settings by which seeds stop early"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seeds=0", "seeds: expected 1 seed or more, all below 2**32, received seeds=0"),
        ("unfreeze={1: [dense]}", "expected 1 seed beside unfreeze, received seeds=3"),
        ("training.cache_features=true", "expected 1 seed beside cache_features, received seeds=3"),
        ("training.profile={steps: [1, 2]}", "Profile: expected a callback that listens to epochs"),
    ],
)
def test_what_seeds_do_not_go_with_is_told_before_any_work(folder, monkeypatch, override, words):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as error:
        config.load("net.yaml", [override]).check()
    assert words in str(error.value)


def test_a_single_run_says_nothing_of_seeds(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    experiment = config.load("net.yaml", ["seeds=1", "training.epochs=1"])
    run = Run.create(tmp_path / "one", experiment.to_data())
    results = train_run(experiment, run)
    assert "seeds" not in results
    assert "seeds" not in json.loads((run.path / "metrics.jsonl").read_text())
    with pytest.raises(ValueError, match="has one seed"):
        evaluate_seeds_run(run)
    assert evaluate_run(run, 2)[0] == evaluate_run(run)[0]


def test_states_from_weights_are_checked(folder, monkeypatch):
    monkeypatch.chdir(folder)
    experiment = config.load("net.yaml")
    (x, y), _ = experiment.parts
    trainer = experiment.compile()
    start = trainer.init(jax.random.key(0), x[:16])
    states, _ = jl.fit_seeds(trainer, x, y, seeds=2, seed=2, states=[start, start], batch_size=16)
    same(states[0], jl.fit(trainer, x, y, seed=2, state=start, batch_size=16)[0])
