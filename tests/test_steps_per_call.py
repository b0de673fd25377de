"""Several steps in one dispatch: the same bits as one at a time; and how many by default."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.data.batches import ArrayBatches
from jlayers.data.stream import StreamBatches
from jlayers.train import feed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(75, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int32) + (X[:, 2] > 1).astype(np.int32)
LOSS = "sparse_categorical_crossentropy"
STEPS = 10  # of 8 samples, the last one of 3


def network(**options):
    """Dropout, running statistics, a regularizer, metrics, a schedule: all that a step carries."""
    model = jl.Sequential(
        jl.Dense(8, activation="relu", kernel_regularizer=jl.l2(1e-3)),
        jl.BatchNormalization(),
        jl.Dropout(0.3),
        jl.Dense(3, activation="softmax"),
    )
    schedule = jl.optimizers.cosine_decay_schedule(0.01, 20)
    return jl.compile(model, jl.optimizers.adam(schedule), LOSS, ["accuracy"], **options)


def images():
    return jl.compile(jl.Sequential(jl.Conv2D(2, 2), jl.Flatten(), jl.Dense(3)), "adam", "mse")


@pytest.fixture(scope="module")
def shared():
    return network()


def same_bits(a, b):
    def plain(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda p, q: np.testing.assert_array_equal(plain(p), plain(q)), a, b)


def fit(trainer, steps, x=X, y=LABELS, **options):
    size = {} if y is None else {"batch_size": 8}
    return jl.fit(trainer, x, y, steps_per_call=steps, **size, **options)


# ------------------------------------------------------------------------------------------ same numbers


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [True, False])
def test_any_number_of_steps_gives_the_same_bits(shared, shuffle):
    weight = np.linspace(0.5, 2.0, len(X)).astype(np.float32)
    options = {"epochs": 3, "sample_weight": weight, "validation_split": 0.2, "shuffle": shuffle}
    state, history = fit(shared, 1, **options)
    for steps in (4, 100, "auto"):
        other, logs = fit(shared, steps, **options)
        same_bits(state, other)
        assert logs == history


def test_with_mixed_samples_a_dynamic_loss_scale_and_recurrent_state():
    model = jl.Sequential(jl.Reshape((3, 2)), jl.LSTM(4, stateful=True), jl.Dense(3, activation="softmax"))
    targets = np.eye(3, dtype=np.float32)[LABELS]
    trainer = jl.compile(
        model, "sgd", "categorical_crossentropy", ["accuracy"], augment=jl.MixUp(), loss_scale="dynamic"
    )
    options = {"x": X[:72].reshape(72, 3, 2, 1), "y": targets[:72], "epochs": 2, "shuffle": False}
    state, history = fit(trainer, 1, **options)
    other, logs = fit(trainer, 4, **options)
    same_bits(state, other)
    assert logs == history
    assert int(other.loss_scale.good_steps) == 2 * 9


def test_batches_from_an_iterable(shared):
    batches = [(X[i : i + 8], LABELS[i : i + 8]) for i in range(0, 75, 8)]
    on_device = jax.device_put(batches)
    state, history = fit(shared, 1, batches, None, epochs=2)
    for given in (batches, on_device):
        other, logs = fit(shared, 4, given, None, epochs=2)
        same_bits(state, other)
        assert logs == history
    once = ((x, y) for x, y in batches)
    assert fit(shared, 4, once, None)[1] == fit(shared, 1, batches, None)[1]


def test_a_broken_off_epoch_and_a_second_fit_go_on_where_they_were(shared):
    whole, history = fit(shared, 4, epochs=2)
    state, _ = fit(shared, 4, epochs=1)
    data = ArrayBatches(X, LABELS, batch_size=8, shuffle=True)
    batches = data.epoch(1)
    for _ in range(3):
        state, _ = shared.train_step(state, next(batches))
    rest, tail = fit(shared, 4, epochs=1, state=state)
    same_bits(whole, rest)
    assert tail["loss"] == history["loss"][1:]


def test_steps_with_convolutions_are_taken_one_by_one_on_a_cpu():
    trainer = images()
    x, y = X[:, :4].reshape(75, 2, 2, 1), np.eye(3, dtype=np.float32)[LABELS]
    state, history = fit(trainer, 1, x, y, epochs=2)
    other, logs = fit(trainer, 4, x, y, epochs=2)
    assert trainer.train_step.many._cache_size() == 0
    assert logs == history
    same_bits(state, other)


def test_a_loop_of_ones_own_can_make_many_steps_at_once(shared):
    state, _ = fit(shared, 1, epochs=0)
    (block, count), _ = ArrayBatches(X, LABELS, batch_size=8).blocks(STEPS)
    assert count == STEPS - 1
    expected = jax.tree.map(jnp.copy, state)
    for i in range(3):
        expected, logs = shared.train_step(expected, jax.tree.map(lambda a, i=i: a[i], block))
    new, last = shared.train_step.run(state, block, 3)
    same_bits((expected, logs), (new, last))
    new, _ = shared.train_step.run(new, block)
    assert int(new.step) == 3 + STEPS - 1


def test_calls_of_one_step_find_their_batches_in_blocks(shared, monkeypatch):
    whole, history = fit(shared, 1, epochs=2)
    monkeypatch.setattr(feed, "BYTES", 3 * 8 * (6 + 1) * 4)
    other, logs = fit(shared, 1, epochs=2)
    same_bits(whole, other)
    assert logs == history


def test_inside_of_a_trace_of_ones_own_nothing_of_it_is_kept():
    model = jl.Sequential(jl.Dropout(0.5), jl.Dense(3))
    step = jl.make_train_step(model, "mse", "sgd")
    state = jl.TrainState.create(model, jl.optimizers.get("sgd"), jax.random.key(0), X[:8])
    batch = jl.Batch(X[:8], np.zeros((8, 3), np.float32))
    jax.eval_shape(lambda batch: step(state, batch), batch)  # the key is known, all else is traced
    stacked = jax.tree.map(lambda a: np.stack([a, a]), batch)
    with jax.checking_leaks():
        looped, _ = jax.jit(lambda state: step.run(state, stacked))(state)
    for _ in range(2):
        state, _ = step(state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), looped.params, state.params)


# ---------------------------------------------------------------------------------------- once compiled


def test_the_loop_is_compiled_once_for_whole_and_partial_calls():
    traces = []

    @jl.layer
    def Traced():
        def apply(params, x, *, train):
            traces.append(train)
            return x

        return jl.core.layer.no_params, apply

    trainer = jl.compile(jl.Sequential(Traced(), jl.Dense(3)), "adam", "mse")
    y = np.eye(3, dtype=np.float32)[LABELS]
    state, _ = fit(trainer, 4, y=y, epochs=2)
    fit(trainer, 4, y=y, epochs=1, state=state)
    fit(trainer, 4, X[:40], y[:40])
    assert trainer.train_step.many._cache_size() == 2  # whole batches, and the 3 samples that are left
    assert trainer.train_step.one._cache_size() == 0
    assert traces.count(True) == 2


# -------------------------------------------------------------------------------------------- listeners


class Listener(jl.Callback):
    def __init__(self):
        self.seen = []

    def on_progress(self, epoch, step, logs):
        self.seen.append((epoch, step, sorted(logs)))


def test_progress_comes_once_per_call_and_tells_what_the_device_has_finished(shared, monkeypatch):
    monkeypatch.setattr("jlayers.train.watch.Watch.PERIOD", 0.0)
    listener = Listener()
    fit(shared, 4, epochs=2, callbacks=[listener])
    assert [epoch for epoch, *_ in listener.seen] == [0] * 4 + [1] * 4
    assert {step for _, step, _ in listener.seen} <= {0, 4, 8, 9, 10}
    assert all(bool(logs) == (step > 0) for _, step, logs in listener.seen)


def test_early_stopping_and_its_weights_are_the_same(shared):
    def stopped(steps):
        stop = jl.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
        state, history = fit(shared, steps, epochs=30, validation_split=0.2, callbacks=[stop])
        return state, history, stop.best_epoch

    one, many = stopped(1), stopped("auto")
    same_bits(one[0], many[0])
    assert one[1:] == many[1:]


def test_a_loss_that_explodes_is_found_in_its_call(monkeypatch):
    monkeypatch.setattr("jlayers.train.watch.Watch.PERIOD", 0.0)
    trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(1e15), "mse")
    with pytest.raises(FloatingPointError, match=r"between its steps 1 and (4|8|9|10);") as caught:
        fit(trainer, 4, y=X[:, :1], epochs=2)
    assert int(caught.value.state.step) == 0


# --------------------------------------------------------------------------------------------- the choice


def chosen(trainer, x=X, y=LABELS, steps="auto", batch_size=8):
    data = ArrayBatches(x, y, batch_size=batch_size)
    state = trainer.init(jax.random.key(0), data.first().x)
    calls = feed.calls_for(steps, trainer.train_step, state, data)
    return calls.steps, calls.looped


def test_small_steps_are_taken_together_by_default(shared, monkeypatch):
    assert chosen(shared) == (STEPS, True)
    assert chosen(shared, np.tile(X, (9, 1)), np.tile(LABELS, 9)) == (feed.STEPS, True)
    assert chosen(shared, batch_size=75) == (1, False)
    monkeypatch.setattr(feed, "BYTES", 3 * 8 * (6 + 1) * 4)
    assert chosen(shared) == (3, True)
    monkeypatch.setattr(feed, "SMALL", {})
    monkeypatch.setattr(feed, "SMALL_ELSEWHERE", 100)
    assert chosen(shared) == (1, False)


def test_a_cpu_does_not_loop_over_convolutions():
    x, y = X[:, :4].reshape(75, 2, 2, 1), np.eye(3, dtype=np.float32)[LABELS]
    assert chosen(images(), x, y) == (STEPS, False)  # one by one, the logs are read after all of them
    assert chosen(images(), x, y, steps=5) == (5, False)


def test_an_iterable_is_taken_batch_by_batch_by_default(shared):
    data = StreamBatches([(X, LABELS)] * 3)
    state = shared.init(jax.random.key(0), X[:8])
    assert feed.calls_for("auto", shared.train_step, state, data).steps == 1


def test_a_state_that_grows_goes_step_by_step():
    @jl.layer
    def GrowingCount():
        def init(key, x):
            return {}, {"seen": jnp.zeros((), jnp.int32)}

        def apply(params, x, *, state):
            return x, {"seen": state["seen"].astype(jnp.float32) + 1}

        return init, apply

    trainer = jl.compile(jl.Sequential(GrowingCount(), jl.Dense(1)), "sgd", "mse")
    assert chosen(trainer, y=X[:, :1]) == (STEPS, False)
    with pytest.raises(ValueError, match=r"steps_per_call=4 .*'seen'.*int32.*float32"):
        fit(trainer, 4, y=X[:, :1])


def test_errors_teach(shared):
    for steps in (0, 2.5, True, "many", None):
        with pytest.raises(ValueError, match=r"steps_per_call.*'auto'"):
            fit(shared, steps)
    state, _ = fit(shared, 1, epochs=0)
    (block, _), _ = ArrayBatches(X, LABELS, batch_size=8).blocks(STEPS)
    for count in (0, STEPS):
        with pytest.raises(ValueError, match=f"1 to {STEPS - 1} .*count={count}"):
            shared.train_step.run(state, block, count)
