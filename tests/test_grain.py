"""Grain pipelines: orders by seed and epoch, any place found again, and runs that are resumed bit for bit."""

import functools
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import grain
import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers.data.grains import GrainBatches
from jlayers.data.positions import iterator_from, position
from jlayers.data.stream import StreamBatches

X = np.random.default_rng(0).normal(size=(26, 3)).astype(np.float32)
Y = X[:, :1].copy()


class Rows:
    """A source of records that counts what is read."""

    def __init__(self):
        self.read = 0

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        self.read += 1
        return X[i], Y[i]


def mapped(rows=None):
    return grain.MapDataset.source(rows or Rows()).shuffle(seed=3).batch(4)


def iterated(rows=None):
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    return mapped(rows).repeat().to_iter_dataset(options)


@functools.cache
def trainer():
    model = jl.Sequential(jl.Dense(4, "tanh"), jl.Dropout(0.2), jl.Dense(1))
    return jl.compile(model, "adam", "mse", ["mae"])


def test_each_epoch_has_an_order_of_its_own_and_any_batch_is_found_at_once():
    data = GrainBatches(mapped())
    assert data.steps == 7
    epochs = [[b.x for b in data.epoch(number)] for number in (0, 1, 0)]
    assert [len(x) for x in epochs[0]] == [4] * 6 + [2]
    for number, epoch in enumerate(epochs):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch), 0), np.sort(X, 0))
        expected = [mapped()[(number % 2) * 7 + i][0] for i in range(7)]
        assert all((one == other).all() for one, other in zip(epoch, expected, strict=True))
    assert any((one != other).any() for one, other in zip(epochs[0], epochs[1], strict=True))
    rows = Rows()
    data = GrainBatches(mapped(rows))
    np.testing.assert_array_equal(next(data.epoch(1, 5)).x, epochs[1][5])
    data.close()
    assert rows.read <= 4 * 12, "not from the beginning"


def test_without_end():
    with pytest.raises(ValueError, match="repeats without end; pass steps_per_epoch"):
        jl.fit(trainer(), mapped().repeat())
    state, _ = jl.fit(trainer(), mapped().repeat(), steps_per_epoch=3, epochs=2)
    assert int(state.step) == 6


class Crash(jl.Callback):
    """Ends a run after some steps, as if it had been killed: what is not in a checkpoint is lost."""

    every = 1

    def __init__(self, step):
        self.at = step

    def on_step(self, step, logs, state):
        if step == self.at:
            raise OSError("killed")


def plain_list(rows=None):
    return [mapped(rows)[i] for i in range(7)]


class Unknown:
    """Batches of which nobody knows how many there are."""

    def __init__(self, rows=None):
        self.batches = plain_list(rows)

    def __iter__(self):
        return iter(self.batches)


KINDS = {
    "map": (mapped, {}),
    "iter": (iterated, {"steps_per_epoch": 5}),
    "finite": (lambda rows=None: mapped(rows).to_iter_dataset(), {}),
    "list": (plain_list, {}),
    "generator": (lambda rows=None: itertools.cycle(plain_list(rows)), {"steps_per_epoch": 5}),
    "unknown": (Unknown, {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("killed", "per_call"), [(10, "auto"), pytest.param(13, 4, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_bit_for_bit(kind, killed, per_call, tmp_path):
    if per_call == 4 and kind not in ("map", "iter"):
        return
    make, own = KINDS[kind]
    options = {**own, "epochs": 3, "steps_per_call": per_call}
    expected, history = jl.fit(trainer(), make(), **options)
    plan = jl.Checkpoint(tmp_path, every_steps=3, every_epochs=None)
    with pytest.raises(OSError, match="killed"):
        jl.fit(trainer(), make(), checkpoints=plan, callbacks=[Crash(killed)], **options)
    rows = Rows()
    state, again = jl.fit(trainer(), make(rows), checkpoints=plan, **options)
    for one, other in zip(jax.tree.leaves(state.live), jax.tree.leaves(expected.live), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again == history
    if kind in ("map", "iter"):  # the first for its shapes, those after step 9, and those made ahead
        assert rows.read <= 4 * (1 + int(state.step) - 9 + 14)


def test_other_data_are_found(tmp_path):
    plan = jl.Checkpoint(tmp_path, every_epochs=1)
    jl.fit(trainer(), mapped(), checkpoints=plan, epochs=1)
    other = grain.MapDataset.source(Rows()).shuffle(seed=4).batch(4)
    with pytest.raises(ValueError, match="the data differs"):
        jl.fit(trainer(), other, checkpoints=plan, epochs=2)


def test_no_thread_is_left():
    jl.fit(trainer(), mapped(), validation_data=mapped(), epochs=2)
    jl.evaluate(trainer(), jl.fit(trainer(), mapped())[0], mapped())
    gc.collect()
    for thread in threading.enumerate():  # those of Grain end when they have made what they are at
        if thread.name.startswith(("jlayers", "grain")):
            thread.join(timeout=30)
            assert not thread.is_alive()


def test_positions_are_plain_data():
    class Bytes:
        def __init__(self):
            self.at = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.at += 1
            return self.at

        def get_state(self):
            return {"raw": bytes([self.at]), "rng": np.int64(7), "nested": [(1, None)]}

        def set_state(self, state):
            self.at = state["raw"][0]

    source = Bytes()
    assert [next(source), next(source)] == [1, 2]
    where = position(source)
    assert where == {"raw": {"$bytes": "Ag=="}, "rng": 7, "nested": [[1, None]]}
    assert next(iterator_from(Bytes(), where)) == 3

    class Objects(Bytes):
        def get_state(self):
            return {"generator": object()}

    assert position(Objects()) is None
    assert position(iter([])) is None


def test_the_state_is_that_of_a_batch_whatever_was_made_ahead():
    data = StreamBatches(iterated(), steps=5)
    taken = list(itertools.islice(data.epoch(1), 4))
    assert data.state(1, 2)["batches"] == 7
    assert data.state(1, 2)["position"] == {"next_index": 7}
    other = StreamBatches(iterated(), steps=5)
    other.restore(data.state(1, 2))
    np.testing.assert_array_equal(next(other.epoch(1, 2)).x, taken[2].x)
    other = StreamBatches(iterated(), steps=5)
    other.restore(data.state(1, 2))
    np.testing.assert_array_equal(next(other.epoch(1, 3)).x, taken[3].x)


SLOWLY = """
import sys, time
import jlayers as jl
import test_grain

class Slowly(jl.Callback):
    every = 1
    def on_step(self, step, logs, state):
        print(step, flush=True)
        time.sleep(0.05)

plan = jl.Checkpoint("kept", every_steps=3, every_epochs=None)
options = {"epochs": 8, "steps_per_epoch": 5, "checkpoints": plan, "callbacks": [Slowly()]}
jl.fit(test_grain.trainer(), test_grain.iterated(), **options)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_bit_for_bit(tmp_path, pytestconfig):
    """SIGKILL at random moments, during a step or a save; the last part is trained in this process."""
    kills = 20 if pytestconfig.getoption("--full") else 1
    options = {"epochs": 8, "steps_per_epoch": 5}
    expected, history = jl.fit(trainer(), iterated(), **options)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [here.parent, here]))}
    delays = np.random.default_rng().uniform(0, 0.5, kills)
    for delay in delays:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOWLY], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        if process.stdout.readline():  # the first step is done; nothing is left to do if there is none
            time.sleep(delay)
        process.kill()
        process.communicate()
    plan = jl.Checkpoint(tmp_path / "kept", every_steps=3, every_epochs=None)
    state, again = jl.fit(trainer(), iterated(), checkpoints=plan, **options)
    for one, other in zip(jax.tree.leaves(state.live), jax.tree.leaves(expected.live), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"delays {delays}")
    assert again == history
