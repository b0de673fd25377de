"""Layers that are frozen for the first epochs and trained from then on."""

import jax
import numpy as np
import pytest

import jlayers as jl
import jlayers.config

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = RNG.normal(size=(40, 1)).astype(np.float32)


def trainer(schedule=None, **options):
    model = jl.Sequential(
        jl.Dense(6, activation="relu", name="low"),
        jl.Dense(6, activation="relu", name="high"),
        jl.Dropout(0.2),
        jl.Dense(1, name="head"),
    )
    frozen = jl.freeze(model, "low", "high")
    return jl.compile(
        frozen, "adam", "mse", unfreeze={2: "high", 3: ["low"]} if schedule is None else schedule, **options
    )


def weights(state):
    return {name: np.asarray(state.params[name]["kernel"]) for name in sorted(state.params)}


def moved(before, after):
    return [name for name in before if not np.array_equal(before[name], after[name])]


class Kept(jl.Callback):
    def on_fit_begin(self, run):
        self.weights = []

    def on_epoch_end(self, epoch, logs, state):
        self.weights.append(weights(state))


def test_each_layer_moves_from_its_epoch_on_and_not_before():
    kept = Kept()
    made = trainer()
    jl.fit(made, X, Y, epochs=4, callbacks=[kept])
    first = weights(made.init(jax.random.key(0), X))
    steps = [moved(a, b) for a, b in zip([first, *kept.weights], kept.weights, strict=False)]
    assert steps == [["head"], ["head"], ["head", "high"], ["head", "high", "low"]]


def test_what_was_trained_before_keeps_its_optimizer_state():
    made = trainer({1: "high"})
    state, _ = jl.fit(made, X, Y, epochs=1)
    later = made.stages[1][1].adopt(state, keep_optimizer=True)
    old, new = state.opt_state[0], later.opt_state[0]
    np.testing.assert_array_equal(old.mu["head"]["kernel"], new.mu["head"]["kernel"])
    assert int(new.count) == int(old.count) == 2
    assert not np.asarray(new.mu["high"]["kernel"]).any()


@pytest.fixture(scope="module")
def whole():
    """The state and the history of a run from end to end."""
    return jl.fit(trainer(ema=0.9), X, Y, epochs=4)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(1, 3), (2, 2), (3, 1)])
def test_a_fit_in_two_parts_is_one_fit(parts, whole):
    made = trainer(ema=0.9)
    state, _ = jl.fit(made, X, Y, epochs=parts[0])
    state, later = jl.fit(made, X, Y, epochs=parts[1], state=state)
    assert whole[1]["loss"][parts[0] :] == later["loss"]
    assert not jl.diff(whole[0].params, state.params)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 7])
def test_a_run_that_is_interrupted_goes_on_in_the_right_stage(tmp_path, stop, whole):
    class Stop(jl.Callback):
        every = 1

        def on_step(self, step, logs, state):
            if step == stop:
                raise KeyboardInterrupt

    checkpoint = jl.Checkpoint(tmp_path, every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        jl.fit(trainer(ema=0.9), X, Y, epochs=4, callbacks=[Stop()], checkpoints=checkpoint)
    state, again = jl.fit(trainer(ema=0.9), X, Y, epochs=4, checkpoints=checkpoint)
    assert whole[1] == again
    assert not jl.diff((whole[0].params, whole[0].average), (state.params, state.average))


def test_another_schedule_is_another_run(tmp_path):
    jl.fit(trainer(), X, Y, epochs=1, checkpoints=tmp_path)
    with pytest.raises(ValueError, match="unfreeze"):
        jl.fit(trainer({3: "high"}), X, Y, epochs=2, checkpoints=tmp_path)


@pytest.mark.parametrize(
    ("schedule", "kind", "words"),
    [
        ({2: "hihg"}, ValueError, "did you mean 'high'"),
        ({0: "high"}, ValueError, "at least 1"),
        ({2: "head"}, ValueError, "trained already"),
        (["high"], TypeError, "mapping from epochs"),
    ],
)
def test_a_wrong_schedule_is_refused_before_any_work(schedule, kind, words):
    with pytest.raises(kind, match=words):
        trainer(schedule)


def test_features_are_kept_of_layers_that_stay_frozen_to_the_end():
    plain, history = jl.fit(trainer({2: "high"}), X, Y, epochs=3)
    kept, again = jl.fit(trainer({2: "high"}), X, Y, epochs=3, cache_features=True)
    np.testing.assert_allclose(history["loss"], again["loss"], rtol=1e-6)
    for name, kernel in weights(plain).items():
        np.testing.assert_allclose(kernel, weights(kept)[name], rtol=1e-5, atol=1e-7)


def test_features_are_not_kept_of_layers_that_begin_to_move():
    with pytest.raises(ValueError, match=r"all is trained; .*'low'") as raised:
        jl.fit(trainer(), X, Y, cache_features=True)
    assert "two calls of fit" in raised.value.__notes__[0]


CONFIG = """
data: digits
model: {Sequential: [Flatten, {Dense: {units: 8, name: base}}, {Dense: {units: 10, name: head}}]}
loss: {sparse_categorical_crossentropy: {from_logits: true}}
freeze: [base]
unfreeze: {2: [base]}
"""


def test_a_configuration_holds_a_schedule():
    made = jlayers.config.loads(CONFIG).compile()
    assert [(epochs, sorted(stage.model.frozen)) for epochs, stage in made.stages] == [(0, ["base"]), (2, [])]
    with pytest.raises(jlayers.config.ConfigError, match=r"<text>:6: unfreeze.2: .*did you mean 'base'"):
        jlayers.config.loads(CONFIG.replace("2: [base]", "2: [bas]")).compile()
    with pytest.raises(jlayers.config.ConfigError, match=r"<text>:6: unfreeze: .*numbers of epochs"):
        jlayers.config.loads(CONFIG.replace("2: [base]", "two: [base]"))
