"""Checkpoints: a fit that ends anywhere and is called again ends with the bits of one that never ended."""

import contextlib
import errno
import functools
import itertools
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jlayers as jl
from jlayers.saving.checkpoints import CheckpointWarning, Store

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)
OPTIONS = {"batch_size": 8, "epochs": 9, "validation_split": 0.2, "seed": 3}  # 5 steps in an epoch


def model(rate=0.3):
    return jl.Sequential(
        jl.Dense(6, activation="relu"), jl.BatchNormalization(), jl.Dropout(rate), jl.Dense(1)
    )


def trainer(rate=0.3, **options):
    plateau = optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=3, factor=0.5))
    given = {"optimizer": plateau, "metrics": ["mae"], "accumulate": 2, "ema": 0.9, **options}
    return jl.compile(model(rate), loss="mse", **given)


@functools.cache  # what it compiles serves all tests that ask nothing about a fresh trainer
def shared():
    return trainer()


def stopping():
    return jl.EarlyStopping(patience=2, min_delta=0.05, restore_best_weights=True)


class End(jl.Callback):
    """Ends the process, as it were, after a step."""

    every = 1

    def __init__(self, at):
        self.at = at

    def on_step(self, step, logs, state):
        if step == self.at:
            raise InterruptedError


def same(left, right):
    states = [jax.tree.map(lambda a: np.asarray(a), one[0]) for one in (left, right)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert left[1] == right[1]


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_call", [1, "auto"])
def test_a_fit_that_was_interrupted_ends_with_the_same_bits(tmp_path, steps_per_call):
    made = trainer()
    options = {**OPTIONS, "steps_per_call": steps_per_call}
    early = stopping()
    whole = jl.fit(made, X, Y, callbacks=[early], **options)
    assert (early.best_epoch, early.stopped_epoch) == (4, 6)
    checkpoint = jl.Checkpoint(tmp_path / "c", every_steps=3, every_epochs=2, keep=2, best="val_loss")
    for at in (2, 8, 11, 12, 16, 20):  # before the first one, in epochs, at their ends
        with pytest.raises(InterruptedError):
            jl.fit(made, X, Y, callbacks=[stopping(), End(at)], checkpoints=checkpoint, **options)
    again = stopping()
    same(whole, jl.fit(made, X, Y, callbacks=[again], checkpoints=checkpoint, **options))
    assert (again.best_epoch, again.stopped_epoch) == (early.best_epoch, early.stopped_epoch)
    finished = stopping()
    same(whole, jl.fit(made, X, Y, callbacks=[finished], checkpoints=checkpoint, **options))
    assert finished.stopped_epoch == early.stopped_epoch
    params, state = checkpoint.weights("best")
    jl.predict(made, (params, state), X[:2])


class Press(jl.Callback):
    """Sends a signal in the middle of an event, before other callbacks have seen it."""

    every = 1

    def __init__(self, number, event, at):
        self.number, self.event, self.at = number, event, at

    def on_epoch_begin(self, epoch):
        self._press("on_epoch_begin", epoch)

    def on_step(self, step, logs, state):
        self._press("on_step", step)

    def on_epoch_end(self, epoch, logs, state):
        self._press("on_epoch_end", epoch)

    def _press(self, event, at):
        if (event, at) == (self.event, self.at):
            os.kill(os.getpid(), self.number)


@pytest.mark.slow
@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize("steps_per_call", [1, "auto"])
def test_callbacks_have_heard_of_the_step_that_a_signal_keeps(tmp_path, steps_per_call):
    """A signal in the middle of a dispatch: no line of the log is lost or there twice."""
    made, options = trainer(), {**OPTIONS, "steps_per_call": steps_per_call}
    logger = functools.partial(jl.callbacks.JSONLinesLogger, every=3)
    jl.fit(made, X, Y, callbacks=[logger(str(tmp_path / "whole"))], **options)
    programs = made.train_step
    for name in ("nth", "many"):
        run, calls = getattr(programs, name), itertools.count(1)

        def pressed(*arguments, run=run, calls=calls, **more):
            if next(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return run(*arguments, **more)

        setattr(programs, name, pressed)
    parts = {**options, "checkpoints": tmp_path / "c"}
    with pytest.raises(KeyboardInterrupt):
        jl.fit(made, X, Y, callbacks=[logger(str(tmp_path / "parts"))], **parts)
    jl.fit(made, X, Y, callbacks=[logger(str(tmp_path / "parts"))], **parts)
    assert (tmp_path / "parts").read_text() == (tmp_path / "whole").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("usual_handlers")
def test_signals_make_a_checkpoint_and_leave(tmp_path):
    made = trainer()
    whole = jl.fit(made, X, Y, callbacks=[stopping()], **OPTIONS)
    checkpoint = jl.Checkpoint(tmp_path, keep=9)
    moments = [("on_step", 2, 2), ("on_epoch_begin", 1, 5), ("on_step", 8, 8), ("on_epoch_end", 2, 15)]
    for number, (event, at, step) in zip([signal.SIGINT, signal.SIGTERM] * 2, moments, strict=True):
        callbacks = [Press(number, event, at), stopping()]
        with pytest.raises(KeyboardInterrupt) as caught:
            jl.fit(made, X, Y, callbacks=callbacks, checkpoints=checkpoint, **OPTIONS)
        assert caught.value.number == number
        assert checkpoint.steps()[-1] == step == int(caught.value.state.step)
    run, calls = made.eval_step.run, []

    def pressed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return run(*arguments)

    made.eval_step.run = pressed  # the step of this checkpoint is that of the end of the epoch, too
    with pytest.raises(KeyboardInterrupt):
        jl.fit(made, X, Y, callbacks=[stopping()], checkpoints=checkpoint, **OPTIONS)
    assert checkpoint.steps()[-1] == 20
    same(whole, jl.fit(made, X, Y, callbacks=[stopping()], checkpoints=checkpoint, **OPTIONS))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.usefixtures("usual_handlers")
def test_a_grain_pipeline_goes_on_after_a_signal(tmp_path):
    grain = pytest.importorskip("grain")

    class Rows:
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return X[i], Y[i]

    def batches(seed=3):
        return grain.MapDataset.source(Rows()).shuffle(seed=seed).batch(8)

    made, options = trainer(), {"epochs": 3}
    whole = jl.fit(made, batches(), **options)
    checkpoint = jl.Checkpoint(tmp_path)
    for at in (3, 9, 14, 20):
        press = Press(signal.SIGTERM, "on_step", at)
        with pytest.raises(KeyboardInterrupt):
            jl.fit(made, batches(), callbacks=[press], checkpoints=checkpoint, **options)
        assert checkpoint.steps()[-1] == at
    same(whole, jl.fit(made, batches(), checkpoints=checkpoint, **options))
    with pytest.raises(ValueError, match="of another run: the data differs"):
        jl.fit(made, batches(seed=4), checkpoints=checkpoint, **options)


def test_more_epochs_go_on_and_fewer_change_nothing(tmp_path):
    made = trainer(ema=None, accumulate=1)
    whole = jl.fit(made, X, Y, batch_size=8, epochs=3, checkpoints=tmp_path / "whole")
    jl.fit(made, X, Y, batch_size=8, epochs=2, checkpoints=tmp_path / "c")
    same(whole, jl.fit(made, X, Y, batch_size=8, epochs=3, checkpoints=tmp_path / "c"))
    same(whole, jl.fit(made, X, Y, batch_size=8, epochs=1, checkpoints=tmp_path / "c"))


CHANGES = {
    "the data": ({"x": X + 1}, {}, "the data differs"),
    "a size": ({"batch_size": 10}, {}, "batch_size was 8, now 10"),
    "the seed": ({"seed": 1}, {}, "seed was 3, now 1"),
    "the model": ({}, {"rate": 0.4}, "model differs"),
    "the optimizer": ({}, {"optimizer": "sgd"}, "optimizer"),
    "a callback": (
        {"callbacks": [jl.EarlyStopping(patience=3)]},
        {},
        "callback 0 was none, now EarlyStopping",
    ),
    "the validation data": ({"validation_split": 0.0}, {}, "the validation data differs"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept")
    options = {**OPTIONS, "epochs": 1}
    jl.fit(shared(), X, Y, checkpoints=jl.Checkpoint(path, every_steps=2), **options)
    return path


@pytest.mark.parametrize("case", CHANGES)
def test_another_run_is_refused(kept, case):
    given, compiled, text = CHANGES[case]
    options = {"x": X, "y": Y, **OPTIONS, **given}
    with pytest.raises(ValueError, match="are of another run") as caught:
        jl.fit(trainer(**compiled), checkpoints=kept, **options)
    assert text in str(caught.value)
    assert Store(kept).steps() == [2, 4, 5]


def damage(path, how):
    files = sorted(
        (f for f in path.rglob("*") if f.is_file() and f.stat().st_size > 200), key=lambda f: f.stat().st_size
    )
    for file in files if how == "cut" else files[-1:]:
        raw = bytearray(file.read_bytes())
        raw = (
            raw[: len(raw) // 2]
            if how == "cut"
            else bytes(b ^ 1 if i == len(raw) // 2 else b for i, b in enumerate(raw))
        )
        file.write_bytes(raw)


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, how):
    made, options = shared(), {**OPTIONS, "epochs": 2}
    checkpoint = jl.Checkpoint(tmp_path, every_steps=4)
    whole = jl.fit(made, X, Y, checkpoints=checkpoint, **options)
    assert checkpoint.steps() == [5, 8, 10]
    damage(tmp_path / "10", how)
    with pytest.warns(CheckpointWarning, match="10 is damaged"):
        same(whole, jl.fit(made, X, Y, checkpoints=checkpoint, **options))
    assert checkpoint.steps() == [5, 8, 10]
    for step in checkpoint.steps():
        damage(tmp_path / str(step), how)
    with pytest.warns(CheckpointWarning), pytest.raises(ValueError, match="all checkpoints in"):
        jl.fit(made, X, Y, checkpoints=checkpoint, **options)


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    made = jl.compile(jl.Dense(1, use_bias=False), jl.optimizers.sgd(1e30), loss="mse")
    checkpoint = jl.Checkpoint(tmp_path, every_steps=1, keep=20)
    with pytest.raises(FloatingPointError):
        jl.fit(made, X, Y, epochs=3, steps_per_call=1, checkpoints=checkpoint)
    for step in checkpoint.steps():
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(checkpoint.weights(step)))


def test_weights_are_those_to_evaluate_with(tmp_path):
    made = jl.compile(
        model(0.0), [{"clip_by_global_norm": {"max_norm": 1.0}}, "schedule_free_adamw"], "mse", ema=0.9
    )
    checkpoint = jl.Checkpoint(tmp_path)
    state, history = jl.fit(
        made, X, Y, batch_size=8, epochs=2, validation_data=(X, Y), checkpoints=checkpoint
    )
    kept, average = checkpoint.weights(), checkpoint.weights(average=True)
    for mine, theirs in ((kept, state.to_evaluate()), (average, state.averaged())):
        jax.tree.map(np.testing.assert_array_equal, mine[0], theirs.params)
    assert jl.evaluate(made, kept, X, Y, batch_size=8)["loss"] == history["val_loss"][-1]
    assert jl.evaluate(made, average, X, Y, batch_size=8)["loss"] == history["val_ema_loss"][-1]
    jl.fit(jl.compile(jl.Dense(1), "sgd", "mse"), X, Y, checkpoints=tmp_path / "plain")
    with pytest.raises(ValueError, match="hold no average"):
        jl.Checkpoint(tmp_path / "plain").weights(average=True)


def test_a_trainer_starts_from_a_part_of_a_checkpoint(tmp_path):
    old = jl.Sequential(jl.Input((4,)), jl.Dense(6, name="base"), jl.Dense(2, name="head"))
    jl.fit(jl.compile(old, "sgd", "mse"), X, X[:, :2], checkpoints=tmp_path)
    params, state = jl.Checkpoint(tmp_path).weights()
    new = jl.Sequential(jl.Input((4,)), jl.Dense(6, name="base"), jl.Dense(1, name="head"))
    given = {"params": params, "state": state}
    mine, own, report = jl.load_weights(new, given, strict=False, key=jax.random.key(0))
    assert report.loaded == ("params/base/kernel", "params/base/bias")
    assert len(report.misshapen) == 2
    made = jl.compile(new, "sgd", "mse")
    start = made.init(jax.random.key(0), X[:1], params=mine, state=own)
    np.testing.assert_array_equal(start.params["base"]["kernel"], params["base"]["kernel"])
    jl.fit(made, X, Y, state=start)


class Disk(jl.Callback):
    """A disk that is full in some epochs."""

    def __init__(self, full, free, epochs):
        self.full, self.free, self.epochs = full, free, epochs

    def on_epoch_begin(self, epoch):
        (self.full if epoch in self.epochs else self.free)()


FULL_DISK = """
import resource, warnings, numpy as np, jlayers as jl
from test_checkpoints import Disk
def most(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
x = np.linspace(0, 1, 4800, dtype=np.float32).reshape(16, 300)
made = jl.compile(jl.Dense(100), "adam", "mse")
checkpoint = jl.Checkpoint("c", every_steps=1)
for epochs in (2, 6):
    disk = Disk(lambda: most(50_000), lambda: most(resource.RLIM_INFINITY), (3,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jl.fit(made, x, x[:, :100], batch_size=8, epochs=epochs, callbacks=[disk], checkpoints=checkpoint)
    print(len(caught), [str(one.message) for one in caught][:1], checkpoint.steps())
jl.fit(made, x, x[:, :100], batch_size=8, epochs=7, checkpoints=checkpoint)
print(checkpoint.steps())
"""


@pytest.mark.slow
def test_a_full_disk_ends_no_training_and_loses_no_checkpoint(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}
    command = [sys.executable, "-c", FULL_DISK]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "_SignalingThread" not in done.stderr  # of Orbax, with pages of tracebacks
    first, second, third = done.stdout.splitlines()
    assert first == "0 [] [2, 3, 4]"
    # The write of step 6 continues while the disk fills up.
    assert re.match(r"[23] \['the checkpoint of step [67] was not written into ", second)
    assert "File too large. The training continues" in second
    assert second.endswith("[10, 11, 12]")
    assert third == "[12, 13, 14]"


def test_a_checkpoint_that_the_disk_has_no_room_for_is_not_begun(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    store = Store(tmp_path / "c")
    store.open()
    with contextlib.closing(store):
        store.save(1, {"w": np.ones(300)}, {})
        store.settle()
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2000))
        store.save(2, {"w": np.ones(300)}, {})
        with pytest.raises(OSError, match=r"no space left on the disk: it needs 2,\d\d\d bytes, and 2,000"):
            store.settle()
        monkeypatch.undo()
        store.save(3, {"w": np.ones(300)}, {})
    assert store.steps() == [1, 3]


def test_what_cannot_be_written_at_all_is_told_before_the_first_step(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "c").mkdir()
    monkeypatch.setattr(os, "mkdir", refuse)
    made = trainer()
    with pytest.raises(OSError, match=r"Read-only file system: '.*/c'"):
        jl.fit(made, X, Y, checkpoints=tmp_path / "c", **OPTIONS)
    assert made.train_step.compilations == 0
    monkeypatch.undo()
    jl.fit(made, X, Y, checkpoints=tmp_path / "c", **{**OPTIONS, "epochs": 1})  # the lock was let go


def test_a_failure_of_the_last_write_is_told_with_the_error_that_ended_the_run(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    made, options = shared(), {**OPTIONS, "epochs": 3}
    checkpoint = jl.Checkpoint(tmp_path)
    monkeypatch.setattr(Store, "_write", full)
    with (
        pytest.raises(InterruptedError) as caught,
        pytest.warns(CheckpointWarning, match="of step 5 was not"),
    ):
        jl.fit(made, X, Y, callbacks=[End(12)], checkpoints=checkpoint, **options)
    assert "step 10 was not written" in caught.value.__notes__[0]
    assert checkpoint.steps() == []


def test_data_that_raise_leave_a_checkpoint(tmp_path):
    made = jl.compile(jl.Dense(1), "sgd", "mse")

    class Batches:
        def __init__(self, ends):
            self.ends = ends

        def __iter__(self):
            for i in range(5):
                if i == self.ends:
                    raise OSError("the disk is gone")
                yield X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]

        def __len__(self):
            return 5

    whole = jl.fit(made, Batches(None), epochs=2)
    checkpoint = jl.Checkpoint(tmp_path)
    with pytest.raises(OSError, match="the disk is gone"):
        jl.fit(made, Batches(3), epochs=2, checkpoints=checkpoint)
    assert checkpoint.steps() == [3]
    same(whole, jl.fit(made, Batches(None), epochs=2, checkpoints=checkpoint))


def test_the_best_epoch_is_kept_though_it_is_not_due_and_nan_is_never_best(tmp_path):
    store = Store(tmp_path, keep=1, best="loss")
    store.open()
    for step, value in enumerate([3.0, math.nan, 1.0, 2.0, 5.0]):
        store.save(step, {"w": np.full(2, step)}, {}, {"loss": value})
    store.close()
    assert (store.steps(), store.best_step()) == ([2, 4], 2)
    made, options = shared(), {**OPTIONS, "epochs": 6}
    checkpoint = jl.Checkpoint(tmp_path / "c", every_epochs=100, keep=1, best="val_loss")
    _, history = jl.fit(made, X, Y, checkpoints=checkpoint, **options)
    assert checkpoint.steps() == sorted({5 * (1 + int(np.argmin(history["val_loss"]))), 30})


def test_by_default_the_ends_of_short_epochs_make_few_checkpoints(tmp_path, monkeypatch):
    class Clock(jl.Callback):
        now = 0.0

        def on_epoch_end(self, epoch, logs, state):
            Clock.now += 1.0

    monkeypatch.setattr("jlayers.train.keeper.time", types.SimpleNamespace(monotonic=lambda: Clock.now))
    written = property(lambda store: 0.05, lambda store, seconds: None)  # 2 % of 2.5 seconds
    monkeypatch.setattr(Store, "seconds", written, raising=False)
    made = trainer(ema=None, accumulate=1)
    fit = functools.partial(jl.fit, made, X, Y, batch_size=25, epochs=8, callbacks=[Clock()])
    for every, epochs in (("auto", [3, 6, 8]), (3, [3, 6, 8]), (1, range(1, 9)), (None, [8])):
        checkpoint = jl.Checkpoint(tmp_path / str(every), every_epochs=every, keep=9)
        Clock.now = 0.0
        fit(checkpoints=checkpoint)
        assert checkpoint.steps() == [2 * epoch for epoch in epochs]
    assert jl.Checkpoint(tmp_path).every_epochs == "auto"
    with pytest.raises(ValueError, match="at least 1 or 'auto', received every_epochs='often'"):
        jl.Checkpoint(tmp_path, every_epochs="often")


@pytest.mark.slow
def test_minutes_decide_when_to_save_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("jlayers.train.feed.UNREAD", 0)  # a look after each step
    made, options = trainer(), {**OPTIONS, "epochs": 2}
    whole = jl.fit(made, X, Y, **options)
    checkpoint = jl.Checkpoint(tmp_path, every_epochs=None, every_minutes=1e-9, keep=20)
    same(whole, jl.fit(made, X, Y, steps_per_call=1, checkpoints=checkpoint, **options))
    assert checkpoint.steps() == list(range(1, 11))
    rare = jl.Checkpoint(tmp_path / "rare", every_epochs=None, every_minutes=60)
    jl.fit(made, X, Y, steps_per_call=1, checkpoints=rare, **options)
    assert rare.steps() == [10]
    with pytest.raises(ValueError, match="minutes above 0, received every_minutes=0"):
        jl.Checkpoint(tmp_path, every_minutes=0)


def test_one_fit_at_a_time_writes_into_a_folder(tmp_path):
    store = Store(tmp_path)
    store.open()
    with pytest.raises(BlockingIOError, match="another process"):
        jl.fit(shared(), X, Y, checkpoints=tmp_path, **OPTIONS)
    store.close()


def test_a_result_that_is_not_in_the_logs_is_told_first(tmp_path):
    with pytest.raises(KeyError, match="did you mean 'val_loss'"):
        jl.fit(shared(), X, Y, checkpoints=jl.Checkpoint(tmp_path / "c", best="val_los"), **OPTIONS)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ValueError, match="received keep=0"):
        jl.Checkpoint(tmp_path, keep=0)
    with pytest.raises(TypeError, match=r"a folder or a jl\.Checkpoint"):
        jl.fit(shared(), X, Y, checkpoints=3, **OPTIONS)
