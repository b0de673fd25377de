"""Checkpoints: a fit that ends anywhere and is called again ends with the bits of one that never ended."""

import os
import signal

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


@pytest.fixture
def usual_handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


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
    jl.fit(trainer(), X, Y, checkpoints=jl.Checkpoint(path, every_steps=2), **options)
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
    made, options = trainer(), {**OPTIONS, "epochs": 2}
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


def test_one_fit_at_a_time_writes_into_a_folder(tmp_path):
    store = Store(tmp_path)
    store.open()
    with pytest.raises(BlockingIOError, match="another process"):
        jl.fit(trainer(), X, Y, checkpoints=tmp_path, **OPTIONS)
    store.close()


def test_a_result_that_is_not_in_the_logs_is_told_first(tmp_path):
    with pytest.raises(KeyError, match="did you mean 'val_loss'"):
        jl.fit(trainer(), X, Y, checkpoints=jl.Checkpoint(tmp_path / "c", best="val_los"), **OPTIONS)
    assert not (tmp_path / "c").exists()
    with pytest.raises(ValueError, match="received keep=0"):
        jl.Checkpoint(tmp_path, keep=0)
    with pytest.raises(TypeError, match=r"a folder or a jl\.Checkpoint"):
        jl.fit(trainer(), X, Y, checkpoints=3, **OPTIONS)
