"""Recurrent layers that continue where the last batch ended, against Keras over several batches."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax import export
from keras_parity import data
from keras_values import keras_values

import jlayers as jl
from jlayers.core.tree import flatten, unflatten

CHEAP = {"recurrent_initializer": "glorot_uniform"}  # the QR factorisation takes seconds to compile
SEQUENCES = (2, 3, 4)

CASES = {
    "SimpleRNN": (lambda m: m.SimpleRNN(3, stateful=True, **CHEAP), SEQUENCES),
    "LSTM": (lambda m: m.LSTM(3, stateful=True, return_sequences=True, **CHEAP), SEQUENCES),
    "backwards": (
        lambda m: m.GRU(3, stateful=True, go_backwards=True, return_state=True, **CHEAP),
        SEQUENCES,
    ),
    "RNN": (
        lambda m: m.RNN([m.LSTMCell(3, **CHEAP), m.GRUCell(2, **CHEAP)], stateful=True),
        SEQUENCES,
    ),
    "Bidirectional": (lambda m: m.Bidirectional(m.LSTM(3, stateful=True, **CHEAP)), SEQUENCES),
    "ConvLSTM1D": (lambda m: m.ConvLSTM1D(2, 2, stateful=True, padding="same", **CHEAP), (2, 2, 3, 2)),
}


def quick(function):
    """Compiled fast rather than well: that is what takes the time here."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def made(layer, *inputs):
    """Random params by path in Keras's order, and the state, which is zeros."""
    order = []

    def init(key):
        params, state = layer.init(key, *inputs)
        order.extend(flatten(params))
        return params, state

    params, state = jax.eval_shape(init, jax.random.key(0))
    flat = flatten(params)
    values = {path: jnp.asarray(data(flat[path].shape, seed=i)) for i, path in enumerate(order)}
    return values, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)


@pytest.mark.parametrize("name", CASES)
def test_batches_go_on_as_in_keras(name):
    """Three batches in a row, and the way back. Keras is run uncompiled: on JAX its compiled calls forget."""
    make, shape = CASES[name]
    ours, theirs = make(jl), make(keras.layers)
    params, state = made(ours, shape)

    def batches():
        theirs.build(shape)
        for variable, value in zip(theirs.trainable_variables, params.values(), strict=True):
            variable.assign(value)
        return [theirs(data(shape, seed=i)) for i in range(3)]

    @quick
    def step(state, x):
        return ours.apply(unflatten(params), state, x)

    start = state
    for i, expected in enumerate(keras_values(batches)):
        y, state = step(state, data(shape, seed=i))
        jax.tree.map(
            lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5),
            jax.tree.leaves(y),
            jax.tree.leaves(expected),
        )
    assert any(np.any(leaf) for leaf in jax.tree.leaves(state))
    jax.tree.map(np.testing.assert_array_equal, jl.reset_state(state), start)


def test_two_halves_are_one_sequence_in_inference_too(key):
    x = data((2, 6, 4))
    whole, parts = jl.GRU(3, **CHEAP), jl.GRU(3, stateful=True, **CHEAP)
    params, state = parts.init(key, x[:, :3])
    expected, _ = whole.apply(params, {}, x)
    _, state = parts.apply(params, state, x[:, :3])
    y, state = parts.apply(params, state, x[:, 3:])
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_array_equal(state["carry"]["h"], y)
    # An initial state that is given stands before the one that is carried.
    y, _ = parts.apply(params, state, x, jnp.zeros((2, 3)))
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_frozen_its_state_stands_still_in_training(key):
    x = data(SEQUENCES)
    rnn = jl.freeze(jl.Sequential(jl.SimpleRNN(3, stateful=True, **CHEAP)))
    params, state = rnn.init(key, x)
    _, moved = rnn.apply(params, state, x)
    assert np.any(moved["simple_rnn"]["carry"]["h"])
    _, trained = rnn.apply(params, moved, x, train=True)
    jax.tree.map(np.testing.assert_array_equal, trained, moved)


def test_reset_state_keeps_what_is_learned(key):
    model = jl.Sequential(jl.BatchNormalization(), jl.SimpleRNN(3, stateful=True, **CHEAP))
    x = data(SEQUENCES)
    params, state = model.init(key, x)
    _, moved = model.apply(params, state, x, train=True)
    reset = jl.reset_state(moved)
    np.testing.assert_array_equal(
        reset["batch_normalization"]["moving_mean"], moved["batch_normalization"]["moving_mean"]
    )
    assert not np.any(reset["simple_rnn"]["carry"]["h"])


def test_fit_carries_from_batch_to_batch():
    """Four batches of two rows, not shuffled: in the end it has seen the batches joined in time."""
    x, y = data((8, 3, 4)), data((8, 3))
    rnn = jl.SimpleRNN(3, stateful=True, **CHEAP)
    trainer = jl.compile(rnn, optimizer=jl.optimizers.sgd(0.0), loss="mse")
    state, _ = jl.fit(trainer, x, y, epochs=1, batch_size=2, shuffle=False)
    joined = np.concatenate([x[i : i + 2] for i in range(0, 8, 2)], axis=1)
    expected, _ = jl.SimpleRNN(3, **CHEAP).apply(state.params, {}, joined)
    np.testing.assert_allclose(state.state["carry"]["h"], expected, rtol=1e-5)


def test_wrong_use_is_refused(key):
    rnn = jl.LSTM(3, stateful=True, **CHEAP)
    params, state = rnn.init(key, SEQUENCES)
    with pytest.raises(ValueError, match=r"LSTM: expected 2 rows, .* received float32\(1, 3, 4\)"):
        rnn.apply(params, state, jnp.ones((1, 3, 4)))
    with pytest.raises(ValueError, match="LSTM: expected a fixed batch size"):
        rnn.init(key, jax.ShapeDtypeStruct(export.symbolic_shape("batch, 3, 4"), jnp.float32))
    with pytest.raises(ValueError, match="one stateful in both layers, not True and False"):
        jl.Bidirectional(rnn, backward_layer=jl.LSTM(3, go_backwards=True))


@pytest.mark.parametrize(
    ("rows", "shuffle", "text"),
    [(4, True, "shuffle=False"), (3, False, "3 samples and batch_size=2; leave 1")],
)
def test_fit_refuses_to_carry_to_other_samples(rows, shuffle, text):
    model = jl.Sequential(jl.Bidirectional(jl.LSTM(3, stateful=True, **CHEAP)), jl.Dense(1))
    x, y = np.zeros((rows, 2, 2), np.float32), np.zeros((rows, 1), np.float32)
    options = {"batch_size": 2, "shuffle": shuffle, "epochs": 0}
    with pytest.raises(ValueError, match=f"layer 'bidirectional.*stateful.*{text}"):
        jl.fit(jl.compile(model, "sgd", "mse"), x, y, **options)
    jl.fit(jl.compile(jl.freeze(model, "bidirectional"), "sgd", "mse"), x, y, **options)  # carries nothing
