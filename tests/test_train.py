"""Training: the step against a hand-written one, fit, evaluate, predict, determinism, errors."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jlayers as jl
from jlayers import losses, optimizers
from jlayers.train import (
    Batch,
    Callback,
    EarlyStopping,
    ProgressBar,
    Run,
    TrainState,
    compile,
    evaluate,
    fit,
    make_eval_step,
    make_train_step,
    predict,
)
from jlayers.train.state import Flat, Live

RNG = np.random.default_rng(0)
X = RNG.normal(size=(75, 4)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] > 0).astype(np.int32) + (X[:, 2] > 1).astype(np.int32)
Y = (X @ np.array([[1.0], [-2.0], [0.5], [3.0]]) + 0.7).astype(np.float32)


def classifier(**options):
    model = jl.Sequential(
        jl.Dense(8, activation="relu", kernel_regularizer=jl.l2(1e-3)),
        jl.BatchNormalization(),
        jl.Dropout(0.3),
        jl.Dense(3, activation="softmax"),
    )
    return compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"], **options)


def regressor(optimizer="sgd", **options):
    return compile(jl.Dense(1), optimizer, "mse", **options)


@pytest.fixture(scope="module")
def shared():
    """One classifier for all tests that do not count compilations."""
    return classifier()


def same_bits(a, b):
    def key_free(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    jax.tree.map(lambda x, y: np.testing.assert_array_equal(key_free(x), key_free(y)), a, b)


# ----------------------------------------------------------------------------------------------- step


def test_a_step_is_the_hand_written_one():
    model = jl.Sequential(jl.Dense(5, activation="tanh", kernel_regularizer=jl.l2(0.1)), jl.Dense(1))
    state = TrainState.create(model, optax.adam(0.01), jax.random.key(1), X[:8])
    weight = np.linspace(0.5, 2.0, 8, dtype=np.float32)
    mask = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)

    def loss(params):
        hidden = jnp.tanh(X[:8] @ params["dense"]["kernel"] + params["dense"]["bias"][None])
        y = hidden @ params["dense_1"]["kernel"] + params["dense_1"]["bias"][None]
        values = jnp.square(y - Y[:8]).mean(-1) * weight * mask
        return values.sum() / 6 + 0.1 * jnp.square(params["dense"]["kernel"]).sum()

    @jax.jit
    def hand_written(params):
        value, gradients = jax.value_and_grad(loss)(params)
        adam = optax.adam(0.01)
        return value, optax.apply_updates(params, adam.update(gradients, adam.init(params), params)[0])

    with optimizers.lenient():
        value, expected = hand_written(state.params)
    step = make_train_step(model, "mse", optax.adam(0.01))
    new, logs = step(state, Batch(X[:8], Y[:8], weight, mask))
    assert np.isclose(float(logs["loss"]), float(value), rtol=1e-6)
    assert int(new.step) == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), new.params, expected)


def test_steps_can_be_scanned_and_give_the_logs_of_a_loop():
    model = jl.Dense(1)
    step = make_train_step(model, "mse", "sgd", metrics=["mae"])
    create = lambda: TrainState.create(model, "sgd", jax.random.key(0), X[:5])  # noqa: E731
    batches = Batch(X.reshape(15, 5, 4), Y.reshape(15, 5, 1))
    state = create()
    for i in range(15):
        state, logs = step(state, (batches.x[i], batches.y[i]))
    start = create()
    scanned, history = jax.lax.scan(step, step.prepare(start, (batches.x[0], batches.y[0])), batches)
    np.testing.assert_allclose(history["mae"][-1], logs["mae"], rtol=1e-5)
    np.testing.assert_allclose(scanned.params["kernel"], state.params["kernel"], rtol=1e-5)


def test_the_step_donates_its_state_and_fit_does_not(shared):
    state, _ = fit(shared, X, LABELS, epochs=1)
    again, _ = fit(shared, X, LABELS, epochs=1, state=state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    shared.train_step(again, Batch(X[:32], LABELS[:32], None, np.ones(32, np.float32)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(again.params))


def test_auxiliary_losses_in_the_state_are_trained_on():
    @jl.layer
    def Activity(factor: float = 0.5):
        def init(key, x):
            return {"scale": jnp.ones(x.shape[-1:])}, {"aux_loss": jnp.zeros(())}

        def apply(params, x, *, state):
            y = x * params["scale"][None]
            return y, {"aux_loss": factor * jnp.square(y).sum() / x.shape[0]}

        return init, apply

    model = jl.Sequential(Activity(), jl.Dense(1))
    step = make_train_step(model, "mse", optax.sgd(0.1))
    state = TrainState.create(model, optax.sgd(0.1), jax.random.key(0), X[:5])
    before = jax.device_get(state.params)
    state, logs = step(state, (X[:5], Y[:5]))
    plain = np.square(X[:5] @ before["dense"]["kernel"] + before["dense"]["bias"] - Y[:5]).mean()
    aux = 0.5 * np.square(X[:5]).sum() / 5
    assert np.isclose(float(logs["loss"]), plain + aux, rtol=1e-5)
    _, evaluated = make_eval_step(model, "mse")(before, state.state, None, (X[:5], Y[:5]))
    assert np.isclose(float(evaluated["loss"]), plain + aux, rtol=1e-5)
    frozen = jl.freeze(model, "activity")
    _, evaluated = make_eval_step(frozen, "mse")(before, state.state, None, (X[:5], Y[:5]))
    assert np.isclose(float(evaluated["loss"]), plain, rtol=1e-5)


# ----------------------------------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_bits(shared):
    one = fit(shared, X, LABELS, epochs=2, seed=5)
    two = fit(shared, X, LABELS, epochs=2, seed=5)
    other = fit(shared, X, LABELS, epochs=2, seed=6)
    same_bits(one[0], two[0])
    assert one[1] == two[1]
    assert one[1] != other[1]


def test_two_fits_are_one(shared):
    data = {"validation_data": (X[:20], LABELS[:20])}
    whole, history = fit(shared, X, LABELS, epochs=4, **data)
    half, first = fit(shared, X, LABELS, epochs=2, **data)
    half, second = fit(shared, X, LABELS, epochs=2, state=half, **data)
    same_bits(whole, half)
    assert history == {key: first[key] + second[key] for key in first}
    assert int(whole.epoch) == 4
    assert int(whole.step) == 4 * 3


def test_an_epoch_that_was_broken_off_is_finished(shared):
    from jlayers.data.batches import ArrayBatches

    whole, history = fit(shared, X, LABELS, epochs=2)
    state, _ = fit(shared, X, LABELS, epochs=1)
    data = ArrayBatches(X, LABELS, batch_size=32, shuffle=True, seed=0)
    state, _ = shared.train_step(state, next(data.epoch(1)))
    assert int(state.position) == 1
    rest, tail = fit(shared, X, LABELS, epochs=1, state=state)
    same_bits(whole, rest)
    assert tail["loss"] == history["loss"][1:]


def test_shuffling_can_be_turned_off(shared):
    a = fit(shared, X, LABELS, shuffle=False)[1]
    b = fit(shared, list(shared_batches()), epochs=1)[1]
    assert a == b


def shared_batches(size=32):
    for begin in range(0, len(X), size):
        yield X[begin : begin + size], LABELS[begin : begin + size]


# ---------------------------------------------------------------------------------------- compile once


def test_each_step_compiles_once():
    traces = []

    @jl.layer
    def Counted():
        def apply(params, x, *, train):
            traces.append((x.shape, train))
            return x

        return jl.core.layer.no_params, apply

    trainer = compile(jl.Sequential(Counted(), jl.Dense(1)), "adam", "mse")
    state, _ = fit(trainer, X, Y, epochs=3, validation_split=0.2)
    assert traces.count(((32, 4), True)) == 1
    for _ in range(2):
        state, _ = fit(trainer, X, Y, epochs=2, state=state, validation_split=0.2)
        evaluate(trainer, state, X[:15], Y[:15])
        predict(trainer, state, X)
        predict(trainer, state, X[:33])
    assert traces.count(((32, 4), True)) == 1
    # A form of their own for the batches that are left at the end, and for few rows.
    assert trainer.train_step.many._cache_size() == 2
    assert trainer.eval_step.compilations == 2
    assert trainer.predict_step.compilations == 1


# ------------------------------------------------------------------------------------ fit and evaluate


def test_linear_regression_is_learned():
    state, history = fit(regressor(optimizers.adam(0.1)), X, Y, epochs=60, validation_split=0.2)
    assert history["loss"][-1] < 1e-3
    assert history["val_loss"][-1] < 1e-3
    assert list(history) == ["loss", "val_loss"]
    np.testing.assert_allclose(state.params["bias"], [0.7], atol=0.05)


def test_evaluate_is_a_full_computation_in_numpy(shared):
    state, _ = fit(shared, X, LABELS, epochs=2)
    params, moving = jax.device_get((state.params, state.state))
    hidden = np.maximum(X @ params["dense"]["kernel"] + params["dense"]["bias"], 0)
    norm, stats = params["batch_normalization"], moving["batch_normalization"]
    hidden = (hidden - stats["moving_mean"]) / np.sqrt(stats["moving_variance"] + 1e-3)
    logits = (hidden * norm["gamma"] + norm["beta"]) @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    penalty = 1e-3 * np.square(params["dense"]["kernel"]).sum()
    expected = {
        "loss": -np.log(p[np.arange(len(X)), LABELS]).mean() + penalty,
        "accuracy": (p.argmax(-1) == LABELS).mean(),
    }
    for size in (32, 7, 1000):
        logs = evaluate(shared, state, X, LABELS, batch_size=size)
        assert list(logs) == ["loss", "accuracy"]
        assert np.isclose(logs["loss"], expected["loss"], rtol=1e-5)
        assert logs["accuracy"] == np.float32(expected["accuracy"])
    np.testing.assert_allclose(predict(shared, state, X, batch_size=7), p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(predict(shared.model, (state.params, state.state), X), p, rtol=1e-4, atol=1e-6)


def test_training_logs_are_over_all_samples_of_the_epoch():
    trainer = compile(jl.Dense(1), optimizers.sgd(0.0), "mse", ["mae"])
    state, history = fit(trainer, X, Y, batch_size=32)
    exact = np.abs(predict(trainer, state, X) - Y).mean()
    assert np.isclose(history["mae"][0], exact, rtol=1e-5)


def test_keras_trains_to_the_same_place():
    import keras

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = keras.Sequential([keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.01))])
        theirs.build((None, 4))
        start = [jnp.array(w.value) for w in theirs.weights]
        theirs.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"], weighted_metrics=["mse"])
        weight = np.linspace(0.5, 2.0, len(X)).astype(np.float32)
        expected = theirs.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0, sample_weight=weight)
        expected = expected.history
    ours = compile(
        jl.Dense(1, kernel_regularizer=jl.l2(0.01)),
        optimizers.sgd(0.05),
        "mse",
        ["mae"],
        weighted_metrics=["mse"],
    )
    state = ours.init(jax.random.key(0), X[:1], params=dict(zip(["kernel", "bias"], start, strict=True)))
    _, history = fit(ours, X, Y, epochs=2, shuffle=False, sample_weight=weight, state=state)
    assert list(history) == list(expected)
    for key in history:
        np.testing.assert_allclose(history[key], expected[key], rtol=1e-4)


def test_class_weights_are_sample_weights(shared):
    by_class = fit(shared, X, LABELS, class_weight={1: 3.0})[1]
    weight = np.where(LABELS == 1, 3.0, 1.0)
    assert by_class == fit(shared, X, LABELS, sample_weight=weight)[1]


def test_ignored_positions_do_not_count_in_the_mean():
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    x = RNG.normal(size=(6, 5, 3)).astype(np.float32)
    y = RNG.integers(-1, 4, (6, 5))
    trainer = compile(jl.Dense(4), "sgd", loss)
    state, _ = fit(trainer, x, y, epochs=0)
    scores = predict(trainer, state, x)
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    values = -np.take_along_axis(log_p, np.maximum(y, 0)[..., None], -1)[..., 0]
    expected = values[y >= 0].mean()
    assert np.isclose(evaluate(trainer, state, x, y, batch_size=6)["loss"], expected, rtol=1e-5)


def test_data_of_other_kinds():
    trainer = regressor()
    state, history = fit(trainer, X.astype(np.float64).tolist(), Y.tolist())
    expected = fit(trainer, jnp.asarray(X), jnp.asarray(Y))[1]
    assert history == expected
    assert fit(trainer, [(X[:32], Y[:32]), (X[32:64], Y[32:64]), (X[64:], Y[64:])], epochs=2)[1]["loss"]
    once = ((X[i : i + 25], Y[i : i + 25]) for i in (0, 25, 50))
    assert len(fit(trainer, once, validation_data=[(X, Y)])[1]["val_loss"]) == 1
    assert trainer.train_step.one._cache_size() == 3
    assert evaluate(trainer, state, [(X, Y)]) == evaluate(trainer, state, X, Y, batch_size=75)


# ------------------------------------------------------------------------------------- several outputs


def two_heads(outputs):
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    body = jl.Dense(6, activation="relu")
    merged = jl.Concatenate()([body(a), body(b)])
    first, second = jl.Dense(1, name="price")(merged), jl.Dense(3, activation="softmax", name="kind")(merged)
    if outputs is dict:
        return jl.Model([a, b], {"price": first, "kind": second})
    return jl.Model([a, b], [first, second])


@pytest.mark.parametrize("outputs", [dict, list])
def test_losses_and_metrics_by_output_name(outputs):
    trainer = compile(
        two_heads(outputs),
        "sgd",
        loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"kind": 0.5, "price": 2.0},
        metrics={"kind": ["accuracy"], "price": ["mae"]},
    )
    y = {"price": Y, "kind": LABELS}
    if outputs is list:
        y = [Y, LABELS]
    state, history = fit(trainer, (X, X[::-1]), y, validation_split=0.2)
    own = ["price_loss", "kind_loss"]
    assert set(list(history)[:5]) == {"loss", *own, "price_mae", "kind_accuracy"}
    assert np.isclose(history["loss"][0], 2 * history["price_loss"][0] + 0.5 * history["kind_loss"][0])
    prices, kinds = jax.tree.leaves(predict(trainer, state, (X, X[::-1])))
    if outputs is dict:
        prices, kinds = kinds, prices
    assert (prices.shape, kinds.shape) == ((75, 1), (75, 3))
    logs = evaluate(trainer, state, (X, X[::-1]), y)
    assert np.isclose(logs["price_mae"], np.abs(prices - Y).mean(), rtol=1e-5)
    assert np.isclose(logs["kind_accuracy"], (kinds.argmax(-1) == LABELS).mean(), rtol=1e-5)


def test_losses_and_metrics_by_position():
    trainer = compile(two_heads(list), "sgd", ["mse", None], metrics=[["mae", "mse"], None])
    _, history = fit(trainer, {"a": X, "b": X}, [Y, LABELS])
    assert list(history) == ["loss", "price_loss", "price_mae", "price_mse"]
    with pytest.raises(ValueError, match="outputs"):
        fit(compile(two_heads(list), "sgd", ["mse", None], metrics=["mae"]), (X, X), [Y, LABELS])
    with pytest.raises(KeyError, match="'kind'"):
        fit(compile(two_heads(list), "sgd", {"kinds": "mse"}), (X, X), [Y, LABELS])
    with pytest.raises(ValueError, match="received 1"):
        fit(compile(two_heads(list), "sgd", "mse"), (X, X), Y)


# ------------------------------------------------------------------------------------------- callbacks


class Record(Callback):
    def __init__(self):
        self.events = []

    def on_fit_begin(self, run):
        self.events.append(("begin", run.first_epoch, run.epochs, run.steps))

    def on_epoch_begin(self, epoch):
        self.events.append(("epoch", epoch))

    def on_epoch_end(self, epoch, logs, state):
        self.events.append(("end", epoch, sorted(logs), int(state.epoch)))
        self.state = state

    def on_fit_end(self, state):
        self.events.append(("over",))


def test_callbacks_are_told_and_may_keep_the_state(shared):
    record = Record()
    state, _ = fit(shared, X, LABELS, epochs=2, callbacks=[record])
    logs = ["accuracy", "loss"]
    assert record.events == [
        ("begin", 0, 2, 3),
        ("epoch", 0),
        ("end", 0, logs, 1),
        ("epoch", 1),
        ("end", 1, logs, 2),
        ("over",),
    ]
    kept = record.state
    fit(shared, X, LABELS, epochs=1, state=state)
    same_bits(kept, state)


def test_a_function_can_stop_the_fit(shared):
    _, history = fit(shared, X, LABELS, epochs=9, callbacks=[lambda epoch, logs, state: epoch == 2])
    assert len(history["loss"]) == 3


def stopping(values, **arguments):
    """What early stopping makes of a series of val_loss."""
    callback = EarlyStopping(mode="min", **arguments)
    callback.on_fit_begin(Run(0, len(values), None, {"val_loss": "min"}))
    none = np.int32(0)
    state = TrainState(Flat.of(Live({"w": none}, {}, (), none, {}), "threefry2x32"), none, none, none)
    for epoch, value in enumerate(values):
        state = state.replace(params={"w": np.int32(epoch)})
        if callback.on_epoch_end(epoch, {"val_loss": value}, state):
            break
    restored = callback.on_fit_end(state)
    return callback.stopped_epoch, callback.best_epoch, restored and int(restored.params["w"])


SERIES = [
    ([3, 2, 1, 2, 3, 4], {"patience": 2}),
    ([3, 2, 1, 2, 3, 4], {"patience": 0}),
    ([3, 2.95, 2.9, 2.85], {"min_delta": 0.1, "patience": 1}),
    ([1, 2, 3, 4, 5], {"patience": 1, "start_from_epoch": 3}),
    ([3, 2.5, 2.4, 2.3, 2.2], {"patience": 2, "baseline": 2.0}),
    ([3, 2, 1], {"patience": 5}),
    ([math.nan, math.nan, math.nan], {"patience": 1}),
]


@pytest.mark.parametrize(("values", "arguments"), SERIES)
def test_early_stopping_is_that_of_keras(values, arguments):
    import keras

    class Model:
        stop_training = False
        metrics = ()

        def get_weights(self):
            return self.now

        def set_weights(self, weights):
            self.now = weights

    theirs = keras.callbacks.EarlyStopping(mode="min", restore_best_weights=True, **arguments)
    model = Model()
    theirs.set_model(model)
    theirs.on_train_begin()
    stopped = None
    for epoch, value in enumerate(values):
        model.now = epoch
        theirs.on_epoch_end(epoch, {"val_loss": value})
        if model.stop_training:
            stopped = epoch
            break
    theirs.on_train_end()
    ours = stopping(values, restore_best_weights=True, **arguments)
    assert ours[0] == stopped
    assert ours[2] == model.now


def test_early_stopping_in_a_fit(shared):
    stop = EarlyStopping("val_accuracy", patience=1, restore_best_weights=True)
    record = Record()
    state, history = fit(shared, X, LABELS, epochs=30, validation_split=0.3, callbacks=[stop, record], seed=3)
    assert stop.direction == "max"
    assert len(history["loss"]) == stop.stopped_epoch + 1 < 30
    assert stop.best == max(history["val_accuracy"])
    kept = int(len(X) * 0.7)
    logs = evaluate(shared, state, X[kept:], LABELS[kept:])
    assert np.isclose(logs["accuracy"], stop.best)
    with pytest.raises(KeyError, match="validation data"):
        fit(shared, X, LABELS, callbacks=[EarlyStopping()])
    with pytest.raises(KeyError, match="'accuracy'"):
        fit(shared, X, LABELS, callbacks=[EarlyStopping("acuracy")])


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_leaves_a_line_per_epoch(shared, terminal):
    import rich.console

    console = rich.console.Console(file=io.StringIO(), force_terminal=terminal, width=120)
    bar = ProgressBar(console)
    start, _ = fit(shared, X, LABELS, epochs=0)
    fit(shared, X, LABELS, epochs=2, validation_split=0.2, callbacks=[bar], state=start)
    text = console.file.getvalue()
    for word in ("epoch 1/2", "epoch 2/2", "2 steps", "/step", "loss", "accuracy", "val_accuracy"):
        assert word in text
    if not terminal:
        assert len(text.splitlines()) == 2
        fit(shared, X, LABELS, epochs=1, callbacks=[bar])
        assert "begins anew: pass state=" in console.file.getvalue()


# ---------------------------------------------------------------------------------------------- errors


def test_a_loss_that_explodes_stops_the_fit_and_keeps_the_last_healthy_state():
    trainer = regressor(
        optimizers.sgd(
            {"piecewise_constant_schedule": {"init_value": 0.01, "boundaries_and_scales": {3: 1e30}}}
        )
    )
    with pytest.raises(
        FloatingPointError, match=r"(nan|inf) in epoch 2, between its steps \d+ and \d+; look"
    ) as info:
        fit(trainer, X * 1e3, Y, epochs=5)
    assert int(info.value.state.epoch) == 1
    assert len(info.value.history["loss"]) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(info.value.state.params))


BAD = np.where(np.arange(75)[:, None] == 7, np.nan, X)
WRONG = np.where(np.arange(75) == 5, 3, LABELS)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda t: fit(t, X, LABELS[:50]), ValueError, "x with 75 rows and y with 50"),
        (lambda t: fit(t, X[:0], LABELS[:0]), ValueError, "0 rows"),
        (lambda t: fit(t, BAD, LABELS), ValueError, r"x\[7, 0\]=nan; 4 of 300"),
        (lambda t: fit(t, X, WRONG), ValueError, r"from 0 to 2.*y\[5\]=3"),
        (lambda t: fit(t, X, LABELS - 1), ValueError, r"y\[\d+\]=-1"),
        (lambda t: fit(t, X, LABELS.astype(np.float32)), TypeError, "astype"),
        (lambda t: fit(t, X, LABELS, batch_size=0), ValueError, "batch_size=0"),
        (lambda t: fit(t, X, LABELS, epochs=-1), ValueError, "epochs=-1"),
        (lambda t: fit(t, X, LABELS, epochs=1.5), ValueError, "epochs=1.5"),
        (lambda t: fit(t, X, LABELS, validation_split=1.0), ValueError, "validation_split=1.0"),
        (lambda t: fit(t, X, LABELS, validation_split=0.999), ValueError, "on both sides"),
        (
            lambda t: fit(t, X, LABELS, validation_split=0.1, validation_data=(X, LABELS)),
            ValueError,
            "received both",
        ),
        (lambda t: fit(t, X, LABELS, validation_data=(X, WRONG)), ValueError, r"y\[5\]=3"),
        (lambda t: fit(t, X, LABELS, sample_weight=np.ones(3)), ValueError, "sample_weight with 3"),
        (lambda t: fit(t, X, LABELS, class_weight={0: -1.0}), ValueError, "class_weight"),
        (lambda t: fit(t, X), ValueError, "y=None"),
        (lambda t: fit(t, iter([(X, LABELS)]), epochs=2), ValueError, "generator"),
        (lambda t: fit(t, []), ValueError, "received an empty one"),
        (lambda t: fit(t, [(X, LABELS), (X, WRONG)]), ValueError, r"y\[5\]=3"),
        (lambda t: fit(t, [X]), ValueError, "y=None"),
        (lambda t: fit(t, ["X"]), TypeError, "batches"),
        (lambda t: fit(t, 3), TypeError, "iterable"),
        (lambda t: fit(t, X.astype(str), LABELS), TypeError, "numbers"),
        (lambda t: fit(t.model, X, LABELS), TypeError, "jl.compile"),
        (lambda t: fit(t, X, LABELS, callbacks=[EarlyStopping]), TypeError, "call it first"),
        (lambda t: compile(t.model, loss=None), ValueError, "loss"),
        (lambda t: compile(t.model, loss="crossentropi"), KeyError, "Crossentropy"),
        (lambda t: compile(t.model, loss="mse", metrics=["acuracy"]), KeyError, "Accuracy"),
        (lambda t: compile(t.model, "adamm", "mse"), KeyError, "adam"),
        (lambda t: compile("model", loss="mse"), TypeError, "layer"),
        (lambda t: predict(t, ({}, {}), BAD), ValueError, "nan"),
    ],
)
def test_errors_before_any_work(shared, call, error, text):
    with pytest.raises(error, match=text):
        call(shared)


def test_shapes_of_targets_are_checked_before_any_work():
    trainer = regressor()
    with pytest.raises(ValueError, match=r"\(32, 2\).*\(32, 1\).*last layer"):
        fit(trainer, X, np.tile(Y, 2))
    assert trainer.train_step.compilations == 0


def square(y_true, y_pred):
    return jnp.square(y_true - y_pred)


@pytest.mark.parametrize("given", ["mse", square])
def test_targets_without_the_axis_of_one_unit_are_given_it(given):
    """They are never broadcast over the batch, in a user's function either."""
    x = np.arange(6, dtype=np.float32)[:, None]
    trainer = compile(jl.Dense(1, kernel_initializer="ones"), "sgd", given, metrics=[given])
    key = "mse" if given == "mse" else "square"
    for y in (2 * x[:, 0], 2 * x):
        logs = evaluate(trainer, trainer.init(jax.random.key(0), x), x, y, batch_size=6)
        np.testing.assert_allclose([logs["loss"], logs[key]], [55 / 6] * 2, rtol=1e-6)


def scores(rows=64):
    """Logits of yes-or-no targets, as data and as the model's output."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 1)).astype(np.float32) * 2
    return x, (x + rng.normal(size=x.shape) > 0.3).astype(np.float32)


def judged(model, x, y, loss, metrics):
    trainer = compile(model, "sgd", loss, metrics=metrics)
    return evaluate(trainer, trainer.init(jax.random.key(0), x), x, y, batch_size=24)


THRESHOLD = [
    "accuracy", "binary_accuracy", "auc", "precision", "recall", "bce", "false_positives", "binary_io_u",
    {"F1Score": {"threshold": 0.5}}, {"RecallAtPrecision": {"precision": 0.7}},
]  # fmt: skip


def test_metrics_beside_a_loss_from_logits_judge_probabilities():
    x, y = scores()
    unit = {"kernel_initializer": "ones"}
    logits = judged(jl.Dense(1, **unit), x, y, losses.BinaryCrossentropy(from_logits=True), THRESHOLD)
    shares = judged(jl.Dense(1, activation="sigmoid", **unit), x, y, "binary_crossentropy", THRESHOLD)
    assert logits.keys() == shares.keys()
    for key in logits:
        np.testing.assert_allclose(logits[key], shares[key], rtol=1e-5, err_msg=key)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.isclose(logits["accuracy"], ((p > 0.5) == y).mean())
    given = [jl.metrics.BinaryAccuracy(threshold=0.0), jl.metrics.Precision(from_logits=True)]
    more = judged(jl.Dense(1, **unit), x, y, losses.BinaryCrossentropy(from_logits=True), given)
    assert np.isclose(more["binary_accuracy"], logits["accuracy"])  # a threshold of logits
    assert np.isclose(more["precision"], logits["precision"])


def test_metrics_beside_a_loss_of_classes_from_logits_judge_the_softmax():
    rng = np.random.default_rng(4)
    x, y = (
        rng.normal(size=(20, 4)).astype(np.float32) * 3,
        np.eye(4, dtype=np.float32)[rng.integers(0, 4, 20)],
    )
    given = ["accuracy", "precision", "recall", "auc", "categorical_crossentropy",
             {"F1Score": {"average": "macro"}}, {"Precision": {"top_k": 2, "name": "top"}}]  # fmt: skip
    one = {"kernel_initializer": "identity"}
    logits = judged(jl.Dense(4, **one), x, y, losses.CategoricalCrossentropy(from_logits=True), given)
    shares = judged(jl.Dense(4, activation="softmax", **one), x, y, "categorical_crossentropy", given)
    for key in logits:
        np.testing.assert_allclose(logits[key], shares[key], rtol=1e-5, err_msg=key)


@pytest.mark.parametrize(
    ("model", "loss", "metrics", "text"),
    [
        (lambda: jl.Dense(1, activation="softmax"), "bce", [], "softmax over one unit"),
        (lambda: jl.Sequential(jl.Dense(1), jl.Softmax()), "mse", [], "softmax over one unit"),
        (lambda: jl.Dense(1), "bce", [], "expected probabilities .*activation='linear'"),
        (lambda: jl.Dense(1, activation="tanh"), "bce", [], "expected probabilities .*activation='tanh'"),
        (lambda: jl.Dense(1, activation="sigmoid"), {"bce": {"from_logits": True}}, [], "expected logits"),
        (
            lambda: jl.Sequential(jl.Sequential(jl.Dense(2), jl.Dense(1)), jl.Activation("sigmoid")),
            {"bce": {"from_logits": True}},
            [],
            "expected logits .*'activation'",
        ),
        (lambda: jl.Dense(1, activation="sigmoid"), "bce", [jl.metrics.AUC(from_logits=True)], "in neither"),
        (lambda: jl.Dense(1, activation="sigmoid"), "bce", ["f1_score"], r"write F1Score\(threshold=0.5\)"),
    ],
)
def test_endings_that_a_loss_cannot_use(model, loss, metrics, text):
    x, y = scores(8)
    with pytest.raises(ValueError, match=text):
        fit(compile(model(), "sgd", loss, metrics=metrics), x, y)


def test_predictions_that_cannot_be_probabilities_are_told_by_their_values():
    """Where the last layer has no activation to read, as here a normalization."""
    x, y = np.eye(6, 4, dtype=np.float32), np.arange(6) % 3
    raw = jl.Sequential(jl.Dense(3), jl.LayerNormalization())
    with pytest.raises(ValueError, match=r"received predictions as low as -"):
        fit(compile(raw, "sgd", "sparse_categorical_crossentropy"), x, y)
    fit(compile(raw, "sgd", {"sparse_categorical_crossentropy": {"from_logits": True}}), x, y)
    shares = jl.Sequential(jl.Dense(3, activation="softmax"), jl.Reshape((3,)))
    fit(compile(shares, "sgd", "sparse_categorical_crossentropy"), x, y)


def test_outputs_without_a_loss_need_no_targets():
    x = jl.Input((2,), name="x")
    model = jl.Model(x, [jl.Dense(1, name="a")(x), jl.Dense(2, name="b")(x)])
    data, y = np.ones((5, 2), np.float32), np.ones((5, 1), np.float32)
    same = [fit(compile(model, "sgd", ["mse", None]), data, given)[1] for given in (y, [y, None], {"a": y})]
    assert same[0] == same[1] == same[2]
    assert list(same[0]) == ["loss", "a_loss"]
    with pytest.raises(ValueError, match=r"expected targets for the predictions .*\(5, 2\)"):
        fit(compile(model, "sgd", ["mse", None], metrics={"b": ["mae"]}), data, [y, None])


def test_own_loops_are_told_of_endings():
    step = make_train_step(model := jl.Dense(1), "bce", "sgd")
    x, y = scores(8)
    with pytest.raises(ValueError, match="expected probabilities"):
        step(TrainState.create(model, optimizers.get("sgd"), jax.random.key(0), x), (x, y))


def test_a_function_that_broadcasts_targets_over_the_batch_is_refused():
    trainer = compile(jl.Dense(3), "sgd", lambda y_true, y_pred: jnp.square(y_true[:, None].mT - y_pred))
    with pytest.raises(ValueError, match="expected a value per sample"):
        fit(trainer, np.ones((3, 2), np.float32), np.ones(3, np.float32), batch_size=3)


def test_a_state_of_another_optimizer_is_refused_and_adopted():
    one, two = regressor("adam"), regressor(optimizers.sgd(0.1, momentum=0.9))
    state, _ = fit(one, X, Y)
    with pytest.raises(ValueError, match="adopt"):
        fit(two, X, Y, state=state)
    adopted = two.adopt(state)
    same_bits(adopted.params, state.params)
    fit(two, X, Y, state=adopted)


def test_given_weights_must_fit():
    trainer = regressor()
    with pytest.raises(ValueError, match="'bias'"):
        trainer.init(jax.random.key(0), X[:1], params={"kernel": jnp.ones((4, 1))}, state={})
    with pytest.raises(ValueError, match=r"shape \(4, 1\).*\(3, 1\)"):
        trainer.init(jax.random.key(0), X[:1], params={"kernel": jnp.ones((3, 1)), "bias": jnp.ones(1)})
