"""The callback `Profile`: which steps it records, and what is told where it cannot."""

import gzip
import json

import numpy as np
import pytest

import jlayers as jl
import jlayers.config
from jlayers import callbacks
from jlayers.train.callbacks import _trace

X = np.linspace(-1, 1, 160, dtype=np.float32).reshape(40, 4)
Y = X[:, :1]
FIT = {"batch_size": 8, "epochs": 4}  # 5 steps in an epoch


@pytest.fixture(scope="module")
def trainer():
    return jl.compile(jl.Dense(1), "sgd", "mse")


def facts(folder):
    (file,) = folder.glob("steps-*.json")
    return json.loads(file.read_text())


class End(jl.Callback):
    every = 1

    def __init__(self, at):
        self.at = at

    def on_step(self, step, logs, state):
        if step == self.at:
            raise InterruptedError


def test_steps_are_recorded_and_summed_up(trainer, tmp_path):
    profile = callbacks.Profile((7, 12), folder=str(tmp_path))
    state, _ = jl.fit(trainer, X, Y, callbacks=[profile], **FIT)
    plain, _ = jl.fit(trainer, X, Y, **FIT)
    np.testing.assert_array_equal(state.params["kernel"], plain.params["kernel"])
    known = facts(tmp_path)
    assert known["steps"] == known["asked"] == [7, 12]
    assert known["seconds"] > 0
    assert 0 < known["busy"] <= 1
    assert known["operations"]
    assert all(operation["seconds"] >= 0 < operation["count"] for operation in known["operations"])
    (trace,) = (tmp_path / known["trace"]).glob("*.trace.json.gz")  # what Perfetto opens
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert known["operations"][0]["name"] in {event.get("name") for event in events}


def test_it_ends_with_the_training_or_goes_on_with_it(trainer, tmp_path):
    with pytest.raises(InterruptedError):
        jl.fit(
            trainer, X, Y, callbacks=[callbacks.Profile((4, 14), str(tmp_path / "a")), End(9)],
            checkpoints=tmp_path / "c", **FIT,
        )  # fmt: skip
    assert facts(tmp_path / "a")["steps"] == [4, 9]
    profile = callbacks.Profile((4, 14), str(tmp_path / "b"))
    jl.fit(trainer, X, Y, callbacks=[profile], checkpoints=tmp_path / "c", **FIT)
    assert facts(tmp_path / "b")["steps"] == [6, 14]  # the checkpoint is that of step 5
    first = callbacks.Profile((1, 1), str(tmp_path / "d"))
    jl.fit(trainer, X, Y, callbacks=[first], **{**FIT, "epochs": 1})
    assert facts(tmp_path / "d")["steps"] == [1, 1]


def test_what_cannot_be_profiled_is_told(trainer, tmp_path):
    for steps in [(3, 2), (0, 2), (1.0, 2), (1,)]:
        with pytest.raises(ValueError, match="Profile: expected the first and the last step"):
            callbacks.Profile(steps)
    with pytest.raises(ValueError, match=r"within the 20 steps of the training, received steps=\[21, 22\]"):
        jl.fit(trainer, X, Y, callbacks=[callbacks.Profile((21, 22), str(tmp_path))], **FIT)
    state, _ = jl.fit(trainer, X, Y, **FIT)
    with pytest.raises(ValueError, match="after 20 steps; steps are counted over the whole run"):
        jl.fit(trainer, X, Y, callbacks=[callbacks.Profile((11, 12), str(tmp_path))], state=state, **FIT)
    two = [callbacks.Profile((2, 8), str(tmp_path)), callbacks.Profile((5, 10), str(tmp_path))]
    with pytest.warns(RuntimeWarning, match="nothing was profiled: .*already"):
        jl.fit(trainer, X, Y, callbacks=two, **FIT)
    assert facts(tmp_path)["steps"] == [2, 8]
    early = [callbacks.Profile((12, 13), str(tmp_path / "e")), lambda epoch, logs, state: True]
    with pytest.warns(RuntimeWarning, match="the training ended before step 12"):
        jl.fit(trainer, X, Y, callbacks=early, **FIT)


def test_a_configuration_asks_for_it():
    text = """\
data: digits
model: {Sequential: [Flatten, {Dense: 10}]}
loss: {sparse_categorical_crossentropy: {from_logits: true}}
training: {epochs: 2, profile: {steps: [30, 40]}}
"""
    experiment = jlayers.config.loads(text)
    experiment.check()
    assert repr(experiment.settings.training.profile) == "Profile([30, 40])"
    assert experiment.to_data()["training"]["profile"] == {"steps": [30, 40]}
    with pytest.raises(jlayers.config.ConfigError, match="expected steps to profile within"):
        jlayers.config.loads(text, ["training.profile.steps=[300, 400]"]).check()
    with pytest.raises(jlayers.config.ConfigError, match="first and the last"):
        jlayers.config.loads(text, ["training.profile.steps=[3]"])


def test_own_times_leave_out_what_runs_within():
    loop, inner = (0.0, 100.0, "while", "p"), (10.0, 40.0, "dot", "p")
    times = _trace._own_times([inner, loop, (50.0, 60.0, "dot", "p"), (100.0, 101.0, "copy", "p")])
    assert sorted(times) == [("copy", "p", 1.0), ("dot", "p", 10.0), ("dot", "p", 30.0), ("while", "p", 60.0)]
    assert _trace._covered([(0, 3), (2, 5), (7, 8), (7, 7)]) == 6
