"""Batches ahead of their steps: the same numbers, errors as they are, time that is told, no thread left."""

import functools
import gc
import itertools
import threading
import time

import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers.data.prefetch import Ahead, Waiting

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = X[:, :1].copy()
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]


@functools.cache
def trainer():
    return jl.compile(jl.Dense(1), jl.optimizers.sgd(0.1), "mse")


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "jlayers-data" and thread.is_alive()]


def test_order_and_bound():
    made = []

    def source():
        for n in range(20):
            made.append(n)
            yield n

    with Ahead(source, lambda n: -n, depth=2) as items:
        assert next(items) == 0
        time.sleep(0.2)
        assert len(made) <= 5  # taken, two waiting, one at the door, one in the making
        assert list(items) == [-n for n in range(1, 20)]
    assert not threads()


def test_whoever_leaves_early_ends_the_thread_and_closes_the_source():
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread().name)

    with Ahead(source, lambda n: n) as items:
        assert next(items) == 0
    assert closed == ["jlayers-data"]
    assert not threads()


def test_settings_of_the_caller_hold_in_the_thread():
    with jax.enable_x64(True), Ahead(lambda: iter([1]), lambda n: jax.config.jax_enable_x64) as items:
        assert list(items) == [True]


def test_streams_train_as_arrays_do():
    arrays, _ = jl.fit(trainer(), X, Y, batch_size=4, epochs=2, shuffle=False, steps_per_call=1)
    for steps in ("auto", 4):
        state, _ = jl.fit(trainer(), BATCHES, epochs=2, steps_per_call=steps)
        np.testing.assert_array_equal(state.params["kernel"], arrays.params["kernel"])
    one = jl.evaluate(trainer(), state, BATCHES)
    assert one == jl.evaluate(trainer(), state, X, Y, batch_size=4)
    np.testing.assert_array_equal(
        jl.predict(trainer(), state, (x for x, _ in BATCHES)), jl.predict(trainer(), state, X, batch_size=4)
    )
    assert not threads()


def test_a_source_may_fill_the_same_memory_again():
    def source():
        x, y = np.empty((4, 3), np.float32), np.empty((4, 1), np.float32)
        for one, other in BATCHES:
            x[:], y[:] = one, other
            yield x, y

    state, _ = jl.fit(trainer(), source())
    expected, _ = jl.fit(trainer(), BATCHES)
    np.testing.assert_array_equal(state.params["kernel"], expected.params["kernel"])


@pytest.mark.parametrize("at", [1, 3])
def test_an_error_of_the_source_ends_the_run_as_it_is_and_the_last_step_is_kept(at):
    error = LookupError("no disk")

    class Source:
        def __iter__(self):
            yield from BATCHES[:at]
            raise error

    with pytest.raises(LookupError) as caught:
        jl.fit(trainer(), Source(), epochs=3)
    assert caught.value is error
    assert int(caught.value.state.step) == at
    assert not threads()


@pytest.mark.parametrize("way", ["stop", "fail", "interrupt"])
def test_no_thread_is_left(way):
    class Callback(jl.Callback):
        every = 2

        def on_step(self, step, logs, state):
            if way == "fail":
                raise ValueError("enough")
            if way == "interrupt":
                raise KeyboardInterrupt
            return True

    with_callback = {"callbacks": [Callback()], "steps_per_epoch": 5}
    source = (batch for batch in itertools.cycle(BATCHES))
    if way == "stop":
        state, _ = jl.fit(trainer(), source, **with_callback)
    else:
        with pytest.raises((ValueError, KeyboardInterrupt)) as caught:
            jl.fit(trainer(), source, **with_callback)
        state = caught.value.state
    assert int(state.step) == 2
    gc.collect()
    assert not threads()


def test_the_time_waited_is_told():
    class Slow:
        def __iter__(self):
            for batch in BATCHES:
                time.sleep(0.05)
                yield batch

    class Seen(jl.Callback):
        def on_fit_begin(self, run):
            self.waiting = run.waiting

    for data, low, high in ((Slow(), 0.3, 1.0), (BATCHES, 0.0, 0.9)):
        seen = Seen()
        jl.fit(trainer(), data, epochs=2, callbacks=[seen])
        assert low <= seen.waiting.share <= high
    seen = Seen()
    jl.fit(trainer(), X, Y, callbacks=[seen])
    assert seen.waiting.seconds == 0.0 < seen.waiting.passed
    assert Waiting().share == 0.0
