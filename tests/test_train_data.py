"""What fills a step: no number depends on the batch size, any kind of data, and nothing is traced twice."""

import gc
import itertools
import weakref

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jlayers as jl
from jlayers.data.batches import Batches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype(np.float32)
Y = (X[:, :1] * 2 + 1).astype(np.float32)
IDS = np.where(np.arange(5)[None, :] < RNG.integers(1, 6, (13, 1)), RNG.integers(1, 7, (13, 5)), 0)


def regressor(**options):
    return jl.compile(jl.Dense(1), jl.optimizers.sgd(0.0), "mse", ["mae"], **options)


def untrained(trainer, x):
    return trainer.init(jax.random.key(0), x[:1])


# -------------------------------------------------------------------------- one law for what fills a batch


def across_rows(y_true, y_pred):
    return (y_pred - y_pred.mean(0, keepdims=True))[:, 0] ** 2


SEVEN = np.array([[0], [1], [2], [3], [10], [0], [0]], np.float32)


def test_a_loss_that_looks_across_rows_sees_real_ones_only():
    model = jl.Dense(1, kernel_initializer="ones")
    trainer = jl.compile(model, jl.optimizers.sgd(0.0), across_rows)
    expected = 5 / 7 + 200 / 3 / 7
    for steps in (1, 2):
        _, history = jl.fit(trainer, SEVEN, SEVEN, batch_size=4, shuffle=False, steps_per_call=steps)
        np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
    state = untrained(trainer, SEVEN)
    np.testing.assert_allclose(
        jl.evaluate(trainer, state, SEVEN, SEVEN, batch_size=4)["loss"], 10.238, rtol=1e-4
    )


def test_penalties_of_outputs_and_statistics_see_real_rows_only():
    model = jl.Dense(1, kernel_initializer="ones", activity_regularizer=jl.l2(1.0))
    trainer = jl.compile(model, jl.optimizers.sgd(0.0), "mse")
    state = untrained(trainer, SEVEN)
    for size in (2, 4, 7):
        loss = jl.evaluate(trainer, state, SEVEN, SEVEN, batch_size=size)["loss"]
        np.testing.assert_allclose(loss, 114 / 7, rtol=1e-5)
    norm = jl.compile(jl.Sequential(jl.BatchNormalization(momentum=0.5), jl.Dense(1)), "sgd", "mse")
    state, _ = jl.fit(norm, SEVEN, SEVEN, batch_size=4, shuffle=False)
    mean = 0.5 * (0.5 * 1.5) + 0.5 * 10 / 3
    np.testing.assert_allclose(state.state["batch_normalization"]["moving_mean"], [mean], rtol=1e-5)


def test_gradients_are_those_of_the_rows_that_are_left():
    trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.1), "mse")
    state = untrained(trainer, X)
    by_hand = state.copy()
    for begin in range(0, 23, 5):
        by_hand, _ = trainer.train_step(by_hand, (X[begin : begin + 5], Y[begin : begin + 5]))
    moved, _ = jl.fit(trainer, X, Y, batch_size=5, shuffle=False, state=state)
    np.testing.assert_array_equal(moved.params["kernel"], by_hand.params["kernel"])


@pytest.fixture(scope="module")
def masked():
    model = jl.Sequential(jl.Embedding(7, 4, mask_zero=True), jl.Dense(3, "softmax"))
    loss = "sparse_categorical_crossentropy"
    trainer = jl.compile(model, "sgd", loss, ["accuracy"], weighted_metrics=[loss])
    return trainer, untrained(trainer, IDS)


@settings(deadline=None, max_examples=12)
@given(rows=st.integers(1, 13), size=st.integers(1, 14), seed=st.integers(0, 9), weighted=st.booleans())
def test_evaluation_of_masked_sequences_does_not_depend_on_the_batch_size(masked, rows, size, seed, weighted):
    trainer, state = masked
    ids = np.random.default_rng(seed).permutation(IDS)[:rows]
    y = (ids * 2 % 3).astype(np.int32)
    weight = np.linspace(0.5, 2.0, rows, dtype=np.float32) if weighted else np.ones(rows, np.float32)
    p = jl.predict(trainer, state, ids).values
    real = ids != 0
    each = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0]) * weight[:, None]
    expected = {
        "loss": each[real].mean(),
        "accuracy": (p.argmax(-1) == y)[real].mean(),
        "sparse_categorical_crossentropy": (each * real).sum() / (weight[:, None] * real).sum(),
    }
    logs = jl.evaluate(trainer, state, ids, y, batch_size=size, sample_weight=weight)
    assert list(logs) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(logs[key], value, rtol=2e-5, err_msg=key)


@settings(deadline=None, max_examples=12)
@given(rows=st.integers(1, 23), size=st.integers(1, 24))
def test_evaluation_does_not_depend_on_the_batch_size(rows, size):
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    trainer = evaluated.setdefault("trainer", jl.compile(jl.Dense(3, kernel_regularizer="l2"), "sgd", loss))
    state = evaluated.setdefault("state", untrained(trainer, X))
    y = (np.arange(rows) % 4 - 1).astype(np.int32)
    scores = jl.predict(trainer, state, X[:rows])
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    values = -log_p[np.arange(rows), np.maximum(y, 0)][y >= 0]
    penalty = 0.01 * np.square(state.params["kernel"]).sum()
    expected = (values.mean() if values.size else 0.0) + penalty
    np.testing.assert_allclose(
        jl.evaluate(trainer, state, X[:rows], y, batch_size=size)["loss"], expected, rtol=2e-5
    )


evaluated = {}


# ------------------------------------------------------------------------------------------ data of any kind


class Endless:
    def __iter__(self):
        return ((X[i % 5 * 4 : i % 5 * 4 + 4], Y[i % 5 * 4 : i % 5 * 4 + 4]) for i in itertools.count())


def test_an_endless_iterable_with_a_number_of_steps():
    trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.1), "mse")
    options = {"steps_per_epoch": 3, "validation_data": Endless(), "validation_steps": 2}
    state, history = jl.fit(trainer, Endless(), epochs=4, **options)
    assert (int(state.step), len(history["val_loss"])) == (12, 4)
    half, first = jl.fit(trainer, Endless(), epochs=1, **options)
    half, second = jl.fit(trainer, Endless(), epochs=3, state=half, **options)
    assert first["loss"] + second["loss"] == history["loss"]
    again, same = jl.fit(trainer, iter(Endless()), epochs=4, **options)
    assert same == history
    assert jl.evaluate(trainer, state, Endless(), steps=2)["loss"] == history["val_loss"][-1]
    np.testing.assert_array_equal(again.params["kernel"], state.params["kernel"])


def test_arrays_with_a_number_of_steps():
    state, _ = jl.fit(regressor(), X, Y, batch_size=4, steps_per_epoch=2, epochs=3)
    assert int(state.step) == 6
    with pytest.raises(ValueError, match="at most 6 steps"):
        jl.fit(regressor(), X, Y, batch_size=4, steps_per_epoch=7)


class Loader:
    """Batches by number, of arrays that are NumPy's only by `__array__`, as PyTorch's tensors are."""

    class Tensor:
        dtype = "torch.float32"

        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __array__(self, dtype=None, copy=None):
            return self.array

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return [self.Tensor(X[4 * i : 4 * i + 4]), self.Tensor(Y[4 * i : 4 * i + 4])]


def test_batches_by_number_of_foreign_arrays():
    trainer = regressor()
    state, history = jl.fit(trainer, Loader(), epochs=2, validation_data=Loader())
    _, expected = jl.fit(trainer, X, Y, batch_size=4, shuffle=False, epochs=2, validation_data=(X, Y))
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(jl.predict(trainer, state, Loader()), jl.predict(trainer, state, X), rtol=1e-6)


def test_a_source_of_ones_own():
    class Doubled(Batches):
        steps = 2

        def epoch(self, number=0, start=0):
            yield from [jl.Batch(X[:8], Y[:8]), jl.Batch(X[8:16], Y[8:16])][start:]

    state, _ = jl.fit(regressor(), Doubled(), epochs=2, steps_per_call=2, validation_data=Doubled())
    assert int(state.step) == 4


def test_dicts_tuples_and_targets_of_some_outputs():
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    body = jl.Concatenate()([a, b])
    model = jl.Model({"a": a, "b": b}, [jl.Dense(1, name="one")(body), jl.Dense(2, name="two")(body)])
    trainer = jl.compile(model, "sgd", loss=["mse", None])
    state, history = jl.fit(trainer, {"a": X, "b": X}, Y, validation_split=0.3)
    assert list(history)[:2] == ["loss", "one_loss"]
    _, same = jl.fit(trainer, {"a": X, "b": X}, {"one": Y}, validation_split=0.3)
    assert same == history
    batches = [({"a": X, "b": X}, [Y])]
    np.testing.assert_allclose(
        jl.evaluate(trainer, state, batches)["loss"],
        jl.evaluate(trainer, state, {"a": X, "b": X}, [Y])["loss"],
    )
    first, second = jl.predict(trainer, state, {"a": X, "b": X})
    assert (first.shape, second.shape) == ((23, 1), (23, 2))


def test_keys_at_inference():
    model = jl.Sequential(jl.Dropout(0.5), jl.Dense(1))
    trainer = jl.compile(model, "sgd", "mse")
    state = untrained(trainer, X)
    still = jl.predict(trainer, state, X)
    draws = [jl.predict(trainer, state, X, key=jax.random.key(i), train=True) for i in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    np.testing.assert_array_equal(jl.predict(trainer, state, X, key=jax.random.key(1)), still)
    many = [
        jl.predict(model, (state.params, state.state), X, key=jax.random.key(i), train=True)
        for i in range(300)
    ]
    np.testing.assert_allclose(np.mean(many, 0), still, atol=0.5)


def test_few_programs_serve_any_number_of_rows():
    trainer = regressor()
    state = untrained(trainer, X)
    whole = jl.predict(trainer, state, X)
    for rows in range(1, 21):
        np.testing.assert_allclose(jl.predict(trainer, state, X[:rows]), whole[:rows], rtol=1e-6)
    assert trainer.predict_step.compilations <= 6
    for size in (1, 5, 23, 40):
        np.testing.assert_allclose(jl.predict(trainer, state, X, batch_size=size), whole, rtol=1e-6)


def test_sizes_and_second_arguments_are_told():
    trainer = regressor()
    state = untrained(trainer, X)
    for call, error, text in [
        (lambda: jl.fit(trainer, [(X, Y)], batch_size=4), ValueError, "no batch_size beside an iterable"),
        (lambda: jl.evaluate(trainer, state, [(X, Y)], batch_size=4), ValueError, "no batch_size"),
        (lambda: jl.evaluate(trainer, X, Y), TypeError, "second argument"),
        (lambda: jl.predict(trainer.model, state.params, X), TypeError, "second argument"),
        (lambda: jl.fit(trainer, X), ValueError, "y=None"),
        (lambda: jl.fit(trainer, X, Y, steps_per_epoch=0), ValueError, "steps_per_epoch=0"),
        (lambda: jl.fit(trainer, X, Y, validation_steps=1), ValueError, "validation_steps=1"),
        (lambda: jl.fit(trainer, np.full((2, 4), 2**40), Y[:2]), ValueError, r"x\[0, 0\]=1099511627776"),
        (lambda: jl.predict(trainer, state, np.full((2, 4), 2**40)), ValueError, "1099511627776"),
    ]:
        with pytest.raises(error, match=text):
            call()


# ---------------------------------------------------------------------------------- nothing is traced twice


traced = []


@jl.layer
def TracedHere():
    @jl.keeps_mask
    def apply(params, x, *, train):
        traced.append(train)
        return x

    return jl.no_params, apply


MODELS = {
    "dense": (jl.Sequential(TracedHere(), jl.Dense(1)), X, Y),
    "ids": (
        jl.Sequential(TracedHere(), jl.Embedding(7, 3), jl.GlobalAveragePooling1D(), jl.Dense(1)),
        IDS,
        Y[:13],
    ),
    "mask": (
        jl.Sequential(jl.Embedding(7, 3, mask_zero=True), TracedHere(), jl.LSTM(2), jl.Dense(1)),
        IDS,
        Y[:13],
    ),
    "images": (
        jl.Sequential(
            jl.Reshape((2, 2, 1)), jl.Conv2D(2, 2), TracedHere(), jl.Dropout(0.5), jl.Flatten(), jl.Dense(1)
        ),
        X,
        Y,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_second_call_of_anything_traces_and_compiles_nothing(name):
    model, x, y = MODELS[name]
    trainer = jl.compile(model, "adam", "mse", ["mae"])
    state = None

    def calls():
        nonlocal state
        state, _ = jl.fit(trainer, x, y, batch_size=4, epochs=2, validation_split=0.3, state=state)
        jl.evaluate(trainer, state, x, y, batch_size=4)
        jl.predict(trainer, state, x)
        jl.predict(trainer.model, (state.params, state.state), x[:3])

    calls()
    calls()  # a state in place of none
    steps = (trainer.train_step, trainer.eval_step, trainer.predict_step)
    before = [step.compilations for step in steps]
    traced.clear()
    with Compilations() as compiled:
        jax.jit(lambda x: x + len(name))(X)
    assert len(compiled) == 1
    with Compilations() as compiled:
        calls()
    assert traced == []
    assert compiled == []
    assert [step.compilations for step in steps] == before


class Compilations:
    def __enter__(self):
        self.seen, self.on = [], True
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self.seen

    def _heard(self, event, seconds, **more):
        if self.on and event == "/jax/core/compile/backend_compile_duration":
            self.seen.append(event)

    def __exit__(self, *error):
        self.on = False


def test_models_and_trainers_are_let_go():
    kept = []
    for _ in range(3):
        model = jl.Sequential(jl.Dense(2), jl.Dense(1))
        trainer = jl.compile(model, "adam", "mse")
        state, _ = jl.fit(trainer, X, Y)
        jl.predict(model, (state.params, state.state), X)
        jl.evaluate(trainer, state, X, Y)
        kept += [weakref.ref(model), weakref.ref(trainer), weakref.ref(trainer.train_step)]
    del model, trainer, state
    gc.collect()
    assert [ref() for ref in kept] == [None] * 9
