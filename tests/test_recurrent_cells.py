"""Cells, RNN and StackedRNNCells against Keras with the same weights, and against SimpleRNN, LSTM, GRU."""

import json
import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data
from test_sequence_wrappers import CHEAP, made, parity, quick

import jlayers as jl
from jlayers.core.layer import layers
from jlayers.core.sizes import symbolic
from jlayers.core.wiring import child_key

KINDS = ["SimpleRNN", "LSTM", "GRU"]
STATES = {"SimpleRNN": 1, "LSTM": 2, "GRU": 1}
BATCH, TIME, FEATURES, UNITS = 3, 4, 2, 5


def cell_of(kind, units=UNITS, **options):
    return getattr(jl, f"{kind}Cell")(units, **CHEAP, **options)


# ---------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_one_step_of_its_layer_and_begins_with_zeros(kind):
    layer = getattr(jl, kind)(UNITS, return_state=True, **CHEAP)
    cell = cell_of(kind)
    x = jnp.asarray(data((BATCH, 2, FEATURES)))
    params, _ = made(cell, x[:, 0])
    (first, *states), _ = cell.apply(params, {}, x[:, 0])
    assert len(states) == STATES[kind]
    zeros = [jnp.zeros_like(s) for s in states]
    np.testing.assert_array_equal(cell.apply(params, {}, x[:, 0], *zeros)[0][0], first)
    received, _ = cell.apply(params, {}, x[:, 1], *states)
    expected, _ = layer.apply(params, {}, x)
    jax.tree.map(lambda r, e: np.testing.assert_allclose(r, e, atol=1e-6), received, expected)


def test_init_of_a_cell_is_that_of_its_layer(key):
    for kind in KINDS:
        ours, _ = jax.eval_shape(lambda key, kind=kind: cell_of(kind).init(key, (2, 3)), key)
        theirs, _ = jax.eval_shape(
            lambda key, kind=kind: getattr(jl, kind)(UNITS, **CHEAP).init(key, (2, 4, 3)), key
        )
        assert ours == theirs
    params, _ = jl.LSTMCell(2, **CHEAP).init(key, (1, 3))
    np.testing.assert_array_equal(params["bias"], [0, 0, 1, 1, 0, 0, 0, 0])
    layer = cell_of("GRU", kernel_regularizer="l2", kernel_constraint="non_neg")
    params, _ = made(layer, (1, 3))
    assert layer.penalty(params) > 0
    assert np.min(layer.constrain(params)["kernel"]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_cells_teach(kind, key):
    name = f"{kind}Cell"
    with pytest.raises(ValueError, match=rf"{name}: .*received units=0"):
        cell_of(kind, 0)
    with pytest.raises(ValueError, match=r"\(batch, features\), received float32\(2, 3, 4\)"):
        cell_of(kind).init(key, (2, 3, 4))
    params, _ = made(cell_of(kind), (3, 2))
    with pytest.raises(ValueError, match=rf"{name}: expected the initial state h.* \(3, 5\), received"):
        cell_of(kind).apply(params, {}, jnp.zeros((3, 2)), jnp.zeros((3, 4)))
    with pytest.raises(KeyError, match=r"unknown constraint"):
        cell_of(kind, kernel_constraint="positive")


# ------------------------------------------------------------------------------------------------ RNN

GRID = [  # cells, options, whether initial states are given
    (["SimpleRNN"], {"return_sequences": True, "go_backwards": True}, True),
    (["LSTM"], {"return_state": True}, True),
    (["GRU"], {"return_sequences": True}, False),
    (["SimpleRNN", "SimpleRNN"], {"return_sequences": True, "return_state": True, "unroll": True}, False),
    (["LSTM", "GRU"], {"return_state": True}, False),
]


@pytest.mark.parametrize(("kinds", "options", "given"), GRID)
def test_rnn_is_that_of_keras(kinds, options, given):
    units = range(UNITS, UNITS + len(kinds))

    def rnn(module):
        cells = [getattr(module, f"{kind}Cell")(n, **CHEAP) for kind, n in zip(kinds, units, strict=True)]
        return module.RNN(cells if len(cells) > 1 else cells[0], **options)

    count = STATES[kinds[0]] if given else 0
    initial = [data((BATCH, UNITS), seed=i) for i in range(2, 2 + count)]
    parity(rnn(jl), rnn(keras.layers), data((BATCH, TIME, FEATURES)), *initial)


@pytest.mark.parametrize("kind", KINDS)
def test_rnn_of_a_cell_is_the_layer_dropout_included(kind, key):
    options = {"dropout": 0.4, "recurrent_dropout": 0.3}
    layer = getattr(jl, kind)(UNITS, return_sequences=True, **CHEAP, **options)
    rnn = jl.RNN(cell_of(kind, **options), return_sequences=True)
    x = jnp.asarray(data((BATCH, TIME, FEATURES)))
    params, _ = made(layer, x)
    expected, _ = quick(lambda: layer.apply(params, {}, x, key=child_key(key, "cell"), train=True))()
    received, _ = quick(lambda: rnn.apply({"cell": params}, {}, x, key=key, train=True))()
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert rnn.draws
    with pytest.raises(jl.MissingKeyError):
        rnn.apply({"cell": params}, {}, x, train=True)


def test_states_of_stacked_cells_go_in_as_they_come_out():
    rnn = jl.RNN([cell_of("LSTM"), cell_of("GRU", 2)], return_sequences=True, return_state=True)
    x = jnp.asarray(data((BATCH, TIME, FEATURES)))
    params, _ = made(rnn, x)
    (whole, *last), _ = rnn.apply(params, {}, x)
    assert jax.tree.map(jnp.shape, last) == [((3, 5), (3, 5)), (3, 2)]
    (_, *states), _ = rnn.apply(params, {}, x[:, :1])
    (rest, *end), _ = rnn.apply(params, {}, x[:, 1:], *states)
    np.testing.assert_allclose(rest, whole[:, 1:], atol=1e-6)
    jax.tree.map(lambda r, e: np.testing.assert_allclose(r, e, atol=1e-6), end, last)
    nested = jl.StackedRNNCells([jl.StackedRNNCells([cell_of("LSTM")]), cell_of("GRU", 2)])
    x = x[:, 0]
    params, _ = made(nested, x)
    (_, *states), _ = nested.apply(params, {}, x)
    (_, *again), _ = nested.apply(params, {}, x, *states)
    assert jax.tree.structure(again) == jax.tree.structure(states)


@jl.layer
def RunningMean():
    """A user's cell: state of its own that moves in training, a float32 count beside the input's dtype."""

    def init(key, x):
        return {}, {"calls": jnp.zeros((), jnp.float32), "aux_loss": jnp.zeros((), jnp.float32)}

    def apply(params, x, total=None, count=None, *, state, train):
        total = jnp.zeros_like(x) if total is None else total
        count = jnp.zeros((x.shape[0], 1), jnp.float32) if count is None else count
        total, count = total + x, count + 1
        moved = {"calls": state["calls"] + int(train), "aux_loss": jnp.mean(x).astype(jnp.float32)}
        return (total / count.astype(x.dtype), total, count), moved

    return init, apply


def test_a_cell_of_ones_own_needs_no_declarations(key):
    rnn = jl.RNN(RunningMean(), return_sequences=True)
    x = jnp.asarray(data((2, 3, 2)))
    params, state = rnn.init(key, x)
    assert params == {}
    y, moved = rnn.apply(params, state, x, train=True)
    np.testing.assert_allclose(y[:, -1], np.mean(x, axis=1), rtol=1e-5)
    assert moved["cell"]["calls"] == 3
    for _ in range(2):  # the losses of the call before do not count
        _, moved = rnn.apply(params, moved, x)
        assert moved["cell"]["calls"] == 3
        np.testing.assert_allclose(moved["cell"]["aux_loss"], 3 * np.mean(x), rtol=1e-5)
    half, _ = rnn.apply(params, state, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


def test_a_graph_is_a_cell_if_it_is_given_states(key):
    x, h = jl.Input((2,), name="x"), jl.Input((3,), name="h")
    new = jl.Add()([jl.Dense(3)(x), h])
    rnn = jl.RNN(jl.Model([x, h], [new, new]))
    x, h = jnp.ones((4, 5, 2)), jnp.ones((4, 3))
    params, state = rnn.init(key, x, h)
    y, _ = rnn.apply(params, state, x, h)
    kernel = params["cell"]["dense"]["kernel"]
    np.testing.assert_allclose(y, np.asarray(h + 5 * (jnp.ones((4, 2)) @ kernel)), rtol=1e-5)


def test_rnn_freezes_a_cell_pickles_and_takes_both_directions(key):
    rnn = jl.RNN([cell_of("SimpleRNN", dropout=0.5), cell_of("SimpleRNN", name="top")])
    x = jnp.asarray(data((BATCH, TIME, FEATURES)))
    params, _ = made(rnn, x)
    half = jl.freeze(rnn, "cell/simple_rnn_cell")
    mask = jl.trainable_mask(half, params)["cell"]
    assert [set(mask[name].values()) for name in ("simple_rnn_cell", "top")] == [{False}, {True}]
    expected, _ = rnn.apply(params, {}, x)
    np.testing.assert_array_equal(half.apply(params, {}, x, train=True)[0], expected)
    for again in (pickle.loads(pickle.dumps(half)), layers.get(json.loads(json.dumps(half.to_data())))):
        assert again.frozen == half.frozen
        np.testing.assert_array_equal(again.apply(params, {}, x, train=True)[0], expected)
    both = jl.Bidirectional(jl.RNN(cell_of("SimpleRNN")))
    params, _ = made(both, x)
    assert both.apply(params, {}, x)[0].shape == (BATCH, 2 * UNITS)


def test_rnn_in_a_graph_and_in_data():
    x = jl.Input((None, 4))
    y, state, other = jl.RNN([cell_of("LSTM"), cell_of("GRU", 2)], return_state=True)(x)
    assert y.shape == (None, 2)
    z = jl.RNN([cell_of("LSTM"), cell_of("GRU", 2)], return_sequences=True)([x, state, other])
    assert z.shape == (None, None, 2)
    model = jl.Model(x, z)
    again = layers.get(json.loads(json.dumps(model.to_data())))
    data_in = jnp.asarray(data((1, 2, 4)))
    params, _ = made(model, data_in)
    np.testing.assert_array_equal(again.apply(params, {}, data_in)[0], model.apply(params, {}, data_in)[0])
    named = layers.get({"RNN": {"cell": [{"GRUCell": {"units": 2}}, {"GRUCell": {"units": 3}}]}})
    assert list(named.children["cell"].children) == ["gru_cell", "gru_cell_1"]


def test_errors_of_rnn_teach(key):
    with pytest.raises(TypeError, match=r" such as LSTMCell, .*received cell=Dense\(2\)"):
        jl.RNN(jl.Dense(2)).apply(
            {"cell": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}, {}, jnp.ones((1, 2, 2))
        )
    with pytest.raises(ValueError, match=r"sequences \(batch, time, \.\.\.\), received float32\(2, 3\)"):
        jl.RNN(cell_of("GRU")).init(key, (2, 3))
    with pytest.raises(ValueError, match=r"RNN: expected a fixed number of time steps.*unroll=False"):
        jl.RNN(cell_of("GRU"), unroll=True).init(key, jax.ShapeDtypeStruct(symbolic((None, 8)), jnp.float32))
    with pytest.raises(ValueError, match=r"at least one cell, received cells=\[\]"):
        jl.StackedRNNCells([])
    stacked = jl.RNN([cell_of("GRU"), cell_of("GRU")])
    with pytest.raises(
        ValueError, match=r"expected 2 states, one per cell.* not 1, received float32\(3, 5\)"
    ):
        stacked.init(key, (3, 4, 2), (3, 5))
    x, h = jl.Input((2,), name="x"), jl.Input((3,), name="h")
    growing = jl.RNN(jl.Model([x, h], [x, jl.Concatenate()([x, h])]))
    with pytest.raises(
        ValueError, match=r"gives back states of the shapes it took, float32\(4, 3\), rec.*5\)"
    ):
        growing.apply({}, {}, jnp.ones((4, 5, 2)), jnp.ones((4, 3)))
