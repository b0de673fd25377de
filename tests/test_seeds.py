"""Many seeds in one program: each is the single run of its seed; ensembles; intervals."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import stats
from seeds_equal import same, same_history

import jlayers as jl
from jlayers.train.seeds.estimate import student_quantile
from jlayers.train.seeds.rows import SeedRows
from jlayers.train.seeds.step import each

ROWS = np.random.default_rng(0)
X = ROWS.normal(size=(37, 5)).astype(np.float32)
Y = ROWS.integers(0, 3, 37)
HELD_OUT = (X[:11], Y[:11])
FIT = {"epochs": 3, "batch_size": 8, "validation_data": HELD_OUT}


@jl.layer
def Noisy():
    """An augmentation of both x and y."""

    def apply(params, x, y, *, key):
        return x + jax.random.normal(key, x.shape), 0.9 * y + 0.03

    return jl.no_params, apply


def mlp():
    return jl.Sequential(
        jl.Dense(6, activation="relu", kernel_regularizer=jl.l2(1e-3)),
        jl.BatchNormalization(),
        jl.Dropout(0.4),
        jl.Dense(3, activation="softmax"),
    )


def trained(**options):
    return jl.compile(mlp(), "adam", "sparse_categorical_crossentropy", ["accuracy"], **options)


@pytest.fixture(scope="module")
def trainer():
    return trained()


@pytest.fixture(scope="module")
def three(trainer):
    return jl.fit_seeds(trainer, X, Y, seeds=3, seed=4, **FIT)


@pytest.mark.slow
def test_each_seed_is_the_single_run_of_its_seed(trainer, three):
    states, history = three
    assert states.seeds == (4, 5, 6)
    for place, state in enumerate(states):
        alone, expected = jl.fit(trainer, X, Y, seed=4 + place, **FIT)
        same(state, alone)
        same_history(history, place, expected)


@pytest.mark.slow
def test_what_a_step_can_do_goes_with_seeds():
    weight = np.linspace(0.5, 1.5, 37).astype(np.float32)
    options = {"accumulate": 2, "ema": 0.9, "augment": Noisy(), "loss_scale": "dynamic"}
    model = jl.Sequential(mlp(), name="whole")
    given = jl.compile(model, "adam", "categorical_crossentropy", ["accuracy"], **options)
    fit = {**FIT, "epochs": 2, "validation_data": None, "validation_split": 0.2, "sample_weight": weight}
    fit |= {"class_weight": {0: 2.0}}
    labels = np.eye(3, dtype=np.float32)[Y]
    states, history = jl.fit_seeds(given, X, labels, seeds=2, **fit)
    for place in range(2):
        alone, expected = jl.fit(given, X, labels, seed=place, **fit)
        same(states[place], alone)
        same_history(history, place, expected)
    assert "val_ema_loss" in history


@pytest.mark.slow
def test_without_shuffling_all_seeds_see_the_same_batches(trainer):
    states, history = jl.fit_seeds(
        trainer, X, Y, seeds=2, epochs=1, batch_size=8, shuffle=False, steps_per_call=1
    )
    for place in range(2):
        alone, expected = jl.fit(trainer, X, Y, epochs=1, batch_size=8, shuffle=False, seed=place)
        same(states[place], alone)
        same_history(history, place, expected)


def test_a_convolution_takes_the_seeds_one_after_the_other_on_a_cpu():
    images = X[:, :4].reshape(37, 2, 2, 1)
    model = jl.Sequential(jl.Conv2D(2, 2), jl.Flatten(), jl.Dense(3))
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    given = jl.compile(model, "sgd", loss)
    states, _ = jl.fit_seeds(given, images, Y, seeds=2, epochs=1, validation_data=(images, Y))
    for place in range(2):
        same(states[place], jl.fit(given, images, Y, seed=place, epochs=1, validation_data=(images, Y))[0])


@pytest.mark.parametrize("unrolled", [False, True])
def test_each_is_vmap(unrolled):
    function = each(lambda a, b, c: ({"s": a["x"] + b}, c), (0, None, None), ({"s": 0}, None), unrolled)
    made, c = function({"x": jax.numpy.arange(3.0)}, jax.numpy.float32(2), None)
    assert made["s"].tolist() == [2, 3, 4]
    assert c is None


@pytest.mark.slow
def test_going_on_is_one_longer_run(trainer, three):
    half, _ = jl.fit_seeds(trainer, X, Y, seeds=3, seed=4, **FIT | {"epochs": 1})
    states, history = jl.fit_seeds(trainer, X, Y, seeds=3, seed=4, states=half, **FIT | {"epochs": 2})
    same(states.stack, three[0].stack)
    assert history["loss"].shape == (2, 3)


@pytest.mark.slow
def test_each_seed_stops_and_slows_down_at_its_time(trainer):
    fit = FIT | {"epochs": 12}

    def listeners():
        return [
            jl.EarlyStopping(patience=2, restore_best_weights=True),
            jl.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=1, min_delta=0.05),
        ]

    states, history = jl.fit_seeds(trainer, X, Y, seeds=4, callbacks=listeners(), **fit)
    lengths = []
    for place in range(4):
        alone, expected = jl.fit(trainer, X, Y, seed=place, callbacks=listeners(), **fit)
        same(states[place], alone)
        same_history(history, place, expected)
        lengths.append(len(expected["loss"]))
    assert len(set(lengths)) > 1, "choose data on which the seeds stop at different times"
    with pytest.raises(ValueError, match="all at the same step"):
        jl.fit_seeds(trainer, X, Y, seeds=4, states=states, **fit)


def test_callbacks_hear_of_their_seed(trainer):
    heard = []

    class Heard(jl.Callback):
        def __init__(self, seed):
            self.seed = seed

        def on_epoch_end(self, epoch, logs, state):
            heard.append((self.seed, epoch, logs["loss"], float(jax.tree.leaves(state.params)[0].sum())))

    states, history = jl.fit_seeds(
        trainer, X, Y, seeds=2, epochs=1, batch_size=8, callbacks=lambda seed: [Heard(seed)], seed=7
    )
    assert [h[:3] for h in heard] == [(7, 0, history["loss"][0, 0]), (8, 0, history["loss"][0, 1])]
    assert heard[1][3] == pytest.approx(float(jax.tree.leaves(states[1].params)[0].sum()), rel=1e-5)


def test_a_diverging_seed_is_named_and_the_healthy_states_are_handed_over():
    given = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.1), "mse")

    class Explodes(jl.Callback):
        changes_rate = True

        def __init__(self, seed):
            self.seed = seed

        def on_epoch_end(self, epoch, logs, state):
            return jl.callbacks.Change(rate_factor=1e30 if self.seed == 6 else 1.0)

    fit = {"seeds": 3, "seed": 5, "epochs": 4, "batch_size": 8}
    with pytest.raises(FloatingPointError, match=r"seed 6: .* in epoch 2") as caught:
        jl.fit_seeds(given, X, X[:, :1], callbacks=lambda seed: [Explodes(seed)], **fit)
    handed = vars(caught.value)
    assert handed["history"]["loss"].shape == (1, 3)
    assert int(handed["state"][0].epoch) == 1
    with pytest.warns(RuntimeWarning, match="the training ended: seed 6"):
        states, history = jl.fit_seeds(
            given, X, X[:, :1], callbacks=lambda seed: [Explodes(seed), jl.callbacks.TerminateOnNaN()], **fit
        )
    assert np.isnan(history["loss"]).tolist() == [[False] * 3, *[[False, True, False]] * 3]
    assert [int(state.epoch) for state in states] == [4, 1, 4]
    assert np.isfinite(states[1].params["kernel"]).all()


def test_progress_shows_means(trainer):
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=150)
    _, history = jl.fit_seeds(
        trainer, X, Y, seeds=2, epochs=1, batch_size=8, callbacks=[jl.ProgressBar(console)]
    )
    assert f"loss {history['loss'].mean():.4f}" in console.file.getvalue()


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"seeds": 0}, ValueError, "expected seeds to be a whole number of at least 1, received seeds=0"),
        ({"seed": 2**32 - 1}, ValueError, "expected a seed in"),
        ({"x": [(X, Y)], "y": None}, TypeError, "expected arrays, which each seed takes in an order"),
        (
            {"callbacks": ["CSVLogger"]},
            ValueError,
            "CSVLogger, which writes files; give a function of the seed",
        ),
        ({"callbacks": [jl.callbacks.LambdaCallback(on_step=print)]}, ValueError, "listens to epochs"),
        ({"states": [1, 2]}, ValueError, "expected states of 2 seeds"),
    ],
    ids=str,
)
def test_what_does_not_go_with_seeds_is_refused(trainer, options, error, words):
    with pytest.raises(error, match=words):
        jl.fit_seeds(trainer, **{"x": X, "y": Y, "seeds": 2, **options})


def test_a_schedule_of_unfreezing_is_refused():
    model = jl.freeze(jl.Sequential(jl.Dense(2, name="a"), jl.Dense(1)), "a")
    given = jl.compile(model, "sgd", "mse", unfreeze={1: "a"})
    with pytest.raises(ValueError, match=r"fit_seeds: .* received unfreeze="):
        jl.fit_seeds(given, X, X[:, :1], seeds=2)


# -------------------------------------------------------------------------------------- ensembles


def test_predictions_of_members_and_of_the_ensemble(trainer, three):
    states, _ = three
    members = jl.predict_seeds(trainer, states, X, batch_size=8)
    for place, state in enumerate(states):
        np.testing.assert_allclose(members[place], jl.predict(trainer, state, X), rtol=1e-5, atol=1e-6)
    together = jl.predict(trainer, states, X, batch_size=8)
    np.testing.assert_allclose(together, members.mean(0), rtol=1e-6)
    found = jl.evaluate(trainer, states, X, Y)
    assert found["accuracy"] == pytest.approx((together.argmax(-1) == Y).mean())
    penalty = np.mean([1e-3 * np.square(s.params["dense"]["kernel"]).sum() for s in states])
    expected = -np.log(together[np.arange(37), Y]).mean() + penalty
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_each_seed_is_evaluated(trainer, three):
    states, history = three
    found = jl.evaluate_seeds(trainer, states, *HELD_OUT)
    np.testing.assert_allclose(found["accuracy"], history["val_accuracy"][-1])
    np.testing.assert_allclose(found["loss"], history["val_loss"][-1], rtol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
def test_an_ensemble_of_logits_gives_logits_of_the_mean_probability(binary):
    units = 1 if binary else 3
    loss = (jl.losses.BinaryCrossentropy if binary else jl.losses.SparseCategoricalCrossentropy)(
        from_logits=True
    )
    labels = (Y > 0).astype(np.float32)[:, None] if binary else Y
    given = jl.compile(jl.Dense(units), "sgd", loss, ["accuracy"])
    states, _ = jl.fit_seeds(given, 9 * X, labels, seeds=3)
    members = jl.predict_seeds(given, states, 9 * X).astype(np.float64)
    whole = jl.predict(given, states, 9 * X).astype(np.float64)
    to_shares = (
        (lambda z: 1 / (1 + np.exp(-z)))
        if binary
        else (lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True))
    )
    np.testing.assert_allclose(to_shares(whole), to_shares(members).mean(0), rtol=1e-4, atol=1e-6)
    chosen = whole > 0 if binary else whole.argmax(-1)
    assert jl.evaluate(given, states, 9 * X, labels)["accuracy"] == pytest.approx((chosen == labels).mean())


@pytest.mark.slow
def test_an_ensemble_of_several_outputs_and_masks():
    x = jl.Input((5,))
    model = jl.Model(x, {"a": jl.Dense(2)(x), "b": jl.Dense(1)(x)})
    given = jl.compile(model, "sgd", {"a": "mse", "b": "mse"})
    states, _ = jl.fit_seeds(given, X, {"a": X[:, :2], "b": X[:, :1]}, seeds=2)
    members, whole = jl.predict_seeds(given, states, X), jl.predict(given, states, X)
    assert members["a"].shape == (2, 37, 2)
    np.testing.assert_allclose(members["b"].mean(0), whole["b"], rtol=1e-5)
    words = np.array([[1, 2, 0], [3, 0, 0]] * 4)
    masked = jl.compile(jl.Sequential(jl.Embedding(4, 2, mask_zero=True), jl.Dense(1)), "sgd", "mse")
    states, _ = jl.fit_seeds(masked, words, np.ones((8, 3, 1), np.float32), seeds=2)
    assert jl.predict(masked, states, words).mask.tolist() == (words != 0).tolist()


def test_one_state_and_many_are_told_apart(trainer, three):
    states, _ = three
    with pytest.raises(TypeError, match=r"expected the states that jl\.fit_seeds returns"):
        jl.predict_seeds(trainer, states[0], X)
    with pytest.raises(TypeError, match=r"expected what jl\.compile returns beside the states of many seeds"):
        jl.predict(trainer.model, states, X)
    with pytest.raises(IndexError, match="0 to 2 for the seeds"):
        states[3]


# -------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 30, 999])
@pytest.mark.parametrize("p", [0.025, 0.5, 0.9, 0.975, 0.9999])
def test_the_quantile_is_scipys(degrees, p):
    assert student_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-9, abs=1e-12)


def test_the_interval_is_scipys():
    values = ROWS.normal(size=8)
    found = jl.estimate(values, 0.9)
    low, high = stats.t.interval(0.9, 7, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert (found.mean, found.std) == pytest.approx((values.mean(), values.std(ddof=1)))
    one = jl.estimate([2.0])
    assert one.mean == 2
    assert np.isnan([one.std, one.low, one.high]).all()
    with pytest.raises(ValueError, match="estimate: expected a confidence between 0 and 1"):
        jl.estimate([1.0], 95)
    with pytest.raises(ValueError, match="at least one value"):
        jl.estimate([])


# ------------------------------------------------------------------------------- orders and devices


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("start", [0, 2, 4])
def test_rows_are_those_of_the_single_runs(shuffle, start):
    from jlayers.data.batches import ArrayBatches

    arrays = [ArrayBatches(np.arange(37), batch_size=8, shuffle=shuffle, seed=seed) for seed in (3, 4)]
    rows = SeedRows(arrays[0], [3, 4])
    expected = [[batch.x.tolist() for batch in data.epoch(2, start)] for data in arrays]
    received = [part for block, steps in rows.blocks(3, 2, start) for part in block[:steps]]
    for place in range(2):
        one = [part[place] if shuffle else part for part in received]
        assert [part.tolist() for part in one] == expected[place]
        one = [part[place] if shuffle else part for part in rows.epoch(2, start)]
        assert [part.tolist() for part in one] == expected[place]


DEVICES = """
import jax, jlayers as jl
from jlayers.train.seeds.step import mesh_for
from seeds_equal import same, same_history
from test_seeds import FIT, X, Y, trained
assert len(jax.devices()) == 4
given = trained()
for seeds, devices in ((4, 4), (6, 3)):
    states, history = jl.fit_seeds(given, X, Y, seeds=seeds, **FIT)
    alone, expected = jl.fit(given, X, Y, seed=seeds - 1, **FIT)
    same(states[seeds - 1], alone)
    same_history(history, seeds - 1, expected)
    assert mesh_for(seeds).size == devices
print("done")
"""


@pytest.mark.slow
def test_the_seeds_are_cut_over_devices(monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    here = pathlib.Path(__file__).parent
    ran = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, cwd=here)
    assert ran.stdout == "done\n", ran.stderr[-3000:]
