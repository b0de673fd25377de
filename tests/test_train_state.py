"""One live state: what is alive in `fit`, who may keep what, and what every way out of it hands over."""

import functools
import multiprocessing
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.train.interruptions import Interrupted, Interruptions, interruptions

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = X[:, :1] * 2 + 1


def trainer(optimizer="adam", **options):
    return jl.compile(
        jl.Sequential(jl.Dense(3), jl.BatchNormalization(), jl.Dense(1)), optimizer, "mse", **options
    )


@functools.cache  # what it compiles serves all tests that ask nothing about a fresh trainer
def shared():
    return trainer()


@functools.cache
def wide():
    return jl.compile(jl.Sequential(jl.Dense(300), jl.BatchNormalization(), jl.Dense(200)), "adam", "mse")


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


class Alive(jl.Callback):
    """The bytes of all arrays on the device, less those of before, over those of the state."""

    def __init__(self):
        self.before = {id(a) for a in jax.live_arrays()}
        self.shares = []

    def on_epoch_end(self, epoch, logs, state):
        alive = sum(a.nbytes for a in jax.live_arrays() if id(a) not in self.before)
        kept = (state.params, state.state, state.opt_state)
        self.shares.append(alive / sum(leaf.nbytes for leaf in jax.tree.leaves(kept)))


@pytest.mark.parametrize(("stop", "most"), [(None, 1.1), ("host", 1.1), ("device", 1.45)])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("saves", [False, True])
def test_one_state_is_alive(stop, most, steps, saves, tmp_path):
    y = np.zeros((24, 200), np.float32)
    start, _ = jl.fit(wide(), X, y, epochs=0)
    alive = Alive()
    callbacks = [alive]
    if stop:
        callbacks.insert(0, jl.EarlyStopping("loss", patience=9, restore_best_weights=True, weights_on=stop))
    for state in (None, start):
        checkpoints = jl.Checkpoint(tmp_path / str(state is None), every_steps=2) if saves else None
        options = {"steps_per_call": steps, "callbacks": callbacks, "checkpoints": checkpoints}
        jl.fit(wide(), X, y, epochs=3, batch_size=8, state=state, **options)
    assert len(alive.shares) == 6
    assert max(alive.shares) < most
    if stop == "device":
        assert max(alive.shares) > 1.2


def test_a_view_ends_with_the_call_and_a_copy_stays():
    kept = []
    t = shared()
    state, _ = jl.fit(
        t, X, Y, epochs=2, callbacks=[lambda epoch, logs, s: kept.append((s, s.copy())) or False]
    )
    view, copy = kept[0]
    with pytest.raises(RuntimeError, match=r"state\.copy\(\)"):
        view.check_alive()
    assert int(copy.epoch) == 1
    again, _ = jl.fit(t, X, Y, state=copy)
    assert bits(again) == bits(state)
    for use in (
        lambda: jl.evaluate(t, view, X, Y),
        lambda: jl.predict(t, view, X),
        lambda: jl.fit(t, X, Y, state=view),
        lambda: view.copy(),
        lambda: t.train_step(view, (X, Y)),
        lambda: t.train_step.run(view, jl.Batch(X[None], Y[None])),
    ):
        with pytest.raises(RuntimeError, match="donates the state"):
            use()


def test_fit_leaves_the_state_of_its_caller_alone():
    t = shared()
    state, _ = jl.fit(t, X, Y)
    before = bits(state)
    jl.fit(t, X, Y, state=state, epochs=2)
    assert bits(state) == before


# --------------------------------------------------------------------------------- the last healthy state


def test_after_nan_the_last_healthy_state_is_handed_over():
    t = trainer(
        jl.optimizers.sgd(
            {"piecewise_constant_schedule": {"init_value": 0.01, "boundaries_and_scales": {4: 1e32}}}
        )
    )
    epochs = []
    with pytest.raises(FloatingPointError, match=r"in epoch 3, (in step|between its steps) \d") as caught:
        jl.fit(t, X, Y, epochs=6, batch_size=12, callbacks=[lambda e, logs, s: epochs.append(s.copy())])
    assert len(epochs) == 2
    assert bits(caught.value.state) == bits(epochs[-1])
    assert len(caught.value.history["loss"]) == 2


@pytest.mark.parametrize("steps", [1, 2])
def test_the_last_update_is_judged_too(steps):
    """One step in an epoch: its loss is finite, and what it leaves is not."""
    t = jl.compile(jl.Dense(1), jl.optimizers.sgd(1e30), "mse")
    big = {"batch_size": 24, "steps_per_call": steps}
    with pytest.raises(
        FloatingPointError, match="the validation loss became inf in epoch 1, in step 1"
    ) as caught:
        jl.fit(t, X, Y, validation_data=(X, Y), **big)
    assert int(caught.value.state.step) == 0
    assert np.isfinite(np.asarray(caught.value.state.params["kernel"])).all()
    with pytest.raises(FloatingPointError, match="parameters became NaN or infinite in epoch 1") as caught:
        jl.fit(t, X * 1e5, Y * 1e5, **big)
    assert np.isfinite(np.asarray(caught.value.state.params["kernel"])).all()


# ------------------------------------------------------------------------------------------- every way out


class Fails(jl.Callback):
    def __init__(self, event, error):
        self.event, self.error, self.seen = event, error, []
        self.every = 1 if event == "on_step" else None

    def _at(self, event, epoch):
        self.seen.append(event)
        if event == self.event and epoch == 1:
            raise self.error

    def on_epoch_begin(self, epoch):
        self._at("on_epoch_begin", epoch)

    def on_step(self, step, logs, state):
        self._at("on_step", step // 3)

    def on_epoch_end(self, epoch, logs, state):
        self._at("on_epoch_end", epoch)

    def on_fit_end(self, state):
        self.seen.append("on_fit_end")
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize(("event", "step"), [("on_epoch_begin", 3), ("on_step", 3), ("on_epoch_end", 6)])
def test_an_error_in_a_callback_hands_over_the_state(event, step, error):
    t = shared()
    listener, after = Fails(event, error), Fails(None, None)
    with pytest.raises(type(error)) as caught:
        jl.fit(t, X, Y, epochs=3, batch_size=8, callbacks=[listener, after])
    assert int(caught.value.state.step) == step
    assert len(caught.value.history["loss"]) == int(caught.value.state.epoch)
    assert after.seen[-1] == "on_fit_end"
    whole, _ = jl.fit(t, X, Y, epochs=3, batch_size=8)
    rest, _ = jl.fit(
        t, X, Y, epochs=3 - int(caught.value.state.epoch), batch_size=8, state=caught.value.state
    )
    assert bits(rest) == bits(whole)


def test_an_error_in_a_loader_hands_over_the_state():
    def batches():
        yield X[:8], Y[:8]
        yield X[8:16], Y[8:16]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        jl.fit(shared(), batches())
    assert int(caught.value.state.step) == 2
    assert caught.value.history == {"loss": []}


def test_an_error_at_the_end_does_not_silence_the_others():
    class Ends(jl.Callback):
        ended = 0

        def on_fit_end(self, state):
            Ends.ended += 1
            raise ValueError(f"end {Ends.ended}")

    with pytest.raises(ValueError, match="end 1") as caught:
        jl.fit(shared(), X, Y, callbacks=[Ends(), Ends()])
    assert Ends.ended == 2
    assert int(caught.value.state.epoch) == 1
    assert any("end 2" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("usual_handlers")
def test_control_c_waits_for_a_dispatch_and_a_second_one_does_not():
    def press():
        os.kill(os.getpid(), signal.SIGINT)

    with Interruptions() as interrupts:
        interrupts.busy = 1
        press()
        assert isinstance(interrupts.received, Interrupted)
        with pytest.raises(KeyboardInterrupt):
            press()
        interrupts.busy = 0
        with pytest.raises(Interrupted):
            interrupts.check()
    with interruptions() as outer, interruptions() as inner:
        assert inner is outer
        with pytest.raises(Interrupted):
            press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("usual_handlers")
def test_control_c_in_a_dispatch_keeps_the_new_state():
    t = trainer()
    state, _ = jl.fit(t, X, Y, batch_size=8, steps_per_call=1)
    nth, calls = t.train_step.nth, []

    def interrupted(*arguments, **options):
        made = nth(*arguments, **options)
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return made

    t.train_step.nth = interrupted
    with pytest.raises(KeyboardInterrupt) as caught:
        jl.fit(t, X, Y, batch_size=8, steps_per_call=1, state=state)
    assert int(caught.value.state.step) == 5
    caught.value.state.check_alive()


def test_validation_data_are_looked_at_before_the_first_step():
    t = trainer()
    for bad in ((X, Y[:, :0]), (X[:, :3], Y), (np.where(X > 2, np.nan, X) * np.nan, Y)):
        with pytest.raises((ValueError, TypeError)):
            jl.fit(t, X, Y, validation_data=bad)
    assert t.train_step.compilations == 0
    with pytest.raises((ValueError, TypeError)) as caught:
        jl.fit(t, X, Y, validation_data=(X[:, :3], Y))
    assert "in the validation data" in caught.value.__notes__


# ------------------------------------------------------------------------------------------------- told


def test_events_that_are_never_called_are_refused():
    class Keras(jl.Callback):
        def on_train_begin(self, logs=None):
            pass

    class Misspelt(jl.Callback):
        def on_epoch_ends(self, epoch, logs, state):
            pass

    with pytest.raises(TypeError, match=r"'on_train_begin', which is never called: override on_fit_begin"):
        jl.fit(shared(), X, Y, callbacks=[Keras()])
    with pytest.raises(TypeError, match=r"'on_epoch_ends'.*did you mean 'on_epoch_end'"):
        jl.fit(shared(), X, Y, callbacks=[Misspelt()])


def test_a_second_fit_without_a_state_is_told():
    class Notes(jl.Callback):
        def on_fit_begin(self, run):
            notes.append(run.note)

    notes, t = [], trainer()
    state, _ = jl.fit(t, X, Y, callbacks=[Notes()])
    jl.fit(t, X, Y, callbacks=[Notes()], state=state)
    jl.fit(t, X, Y, callbacks=[Notes()])
    assert notes[:2] == [None, None]
    assert "pass state=" in notes[2]


def test_events_by_step_and_a_stop_in_the_middle_of_an_epoch():
    class Steps(jl.Callback):
        every = 4

        def on_step(self, step, logs, state):
            seen.append((step, int(state.step), sorted(logs)))
            return step == last

    t = shared()
    for steps in (1, 3, "auto"):
        seen, last = [], 8
        options = {"batch_size": 4, "steps_per_call": steps, "callbacks": [Steps()]}
        state, history = jl.fit(t, X, Y, epochs=3, **options)
        assert seen == [(4, 4, ["loss"]), (8, 8, ["loss"])]
        assert len(history["loss"]) == 1
        assert (int(state.epoch), int(state.position)) == (1, 2)
        last = None
        rest, _ = jl.fit(t, X, Y, epochs=2, state=state, **options)
        assert [step for step, *_ in seen] == [4, 8, 12, 16]
        assert bits(rest) == bits(jl.fit(t, X, Y, epochs=3, batch_size=4)[0])


def _evaluated_in_a_fork(queue, t, state):
    try:
        jl.evaluate(t, state, X, Y)
        queue.put("worked")
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_is_told():
    t = trainer()
    state, _ = jl.fit(t, X, Y)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_evaluated_in_a_fork, args=(queue, t, state))
    child.start()
    assert "'spawn'" in queue.get(timeout=60)
    child.join()


def test_averaged_weights_have_an_evaluation_of_their_own():
    t = trainer(jl.optimizers.sgd(0.1), ema=0.75)
    seen = []

    class Steps(jl.Callback):
        every = 1

        def on_step(self, step, logs, state):
            seen.append(jax.device_get(state.params))

    state, history = jl.fit(t, X, Y, batch_size=8, validation_data=(X, Y), callbacks=[Steps()], shuffle=False)
    average = jax.device_get(t.init(jax.random.key(0), X[:8]).params)
    for params in seen:
        average = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, average, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.average, average)
    assert list(history) == ["loss", "val_loss", "val_ema_loss"]
    own = jl.evaluate(t, state.averaged(), X, Y)["loss"]
    np.testing.assert_allclose(history["val_ema_loss"], own, rtol=1e-6)
    assert own != history["val_loss"][0]
    with pytest.raises(ValueError, match=r"ema=0\.999"):
        jl.fit(shared(), X, Y)[0].averaged()


def test_early_stopping_goes_on_from_its_state():
    stop = jl.EarlyStopping("loss", patience=3, restore_best_weights=True)
    jl.fit(shared(), X, Y, epochs=1, callbacks=[stop])
    stop.best, stop.wait = 1.0, 2
    stop._hold(({"w": jnp.ones(2)}, {}))
    kept = stop.state()
    other = jl.EarlyStopping("loss", patience=3, restore_best_weights=True)
    other.restore(kept)
    assert (other.best, other.wait) == (1.0, 2)
    assert other.state()["weights"][0]["w"].tolist() == [1.0, 1.0]
