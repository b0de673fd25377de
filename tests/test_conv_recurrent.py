"""ConvLSTM1D, 2D and 3D against Keras with the same weights, and dropout against a plain loop."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data
from test_sequence_wrappers import CHEAP, made, parity, quick

import jlayers as jl

GRID = [  # rank, options, whether an initial state is given
    (1, {"return_sequences": True, "go_backwards": True, "dilation_rate": 2, "activation": "relu"}, False),
    (1, {"strides": 2, "padding": "same", "return_state": True, "use_bias": False}, True),
    (2, {"dilation_rate": (2, 1), "return_sequences": True, "recurrent_activation": "hard_sigmoid"}, False),
    (3, {"padding": "same", "activation": "relu", "recurrent_activation": "tanh"}, False),
]
FRAMES = {1: (7,), 2: (6, 5), 3: (3, 2, 3)}


@pytest.mark.parametrize(("rank", "options", "given"), GRID)
def test_conv_lstm_is_that_of_keras(rank, options, given):
    name, window = f"ConvLSTM{rank}D", 3 if rank < 3 else 2
    arguments = {"filters": 2, "kernel_size": window, **options, **CHEAP}
    initial = [data((2, 4, 2), seed=i) for i in (5, 6)] if given else []
    x = data((2, 3, *FRAMES[rank], 2))
    parity(getattr(jl, name)(**arguments), getattr(keras.layers, name)(**arguments), x, *initial)


@pytest.mark.parametrize("rank", [1, 2])
def test_channels_first_is_channels_last_transposed(rank):
    arguments = {"filters": 2, "kernel_size": 2, "return_sequences": True, **CHEAP}
    make = getattr(jl, f"ConvLSTM{rank}D")
    last, first = make(**arguments), make(data_format="channels_first", **arguments)
    x = jnp.asarray(data((2, 3, *FRAMES[rank], 2)))
    params, _ = made(last, x)
    assert jax.tree.map(jnp.shape, made(first, jnp.moveaxis(x, -1, 2))[0]) == jax.tree.map(jnp.shape, params)
    expected, _ = last.apply(params, {}, x)
    received, _ = first.apply(params, {}, jnp.moveaxis(x, -1, 2))
    np.testing.assert_allclose(jnp.moveaxis(received, 2, -1), expected, atol=1e-6)


def test_bias_of_the_forget_gate_starts_at_one(key):
    x = (1, 2, 3, 1)
    params, _ = jl.ConvLSTM1D(2, 2, **CHEAP).init(key, x)
    np.testing.assert_array_equal(params["bias"], [0, 0, 1, 1, 0, 0, 0, 0])
    params, _ = jl.ConvLSTM1D(2, 2, unit_forget_bias=False, **CHEAP).init(key, x)
    np.testing.assert_array_equal(params["bias"], np.zeros(8))


def test_a_window_of_one_is_an_lstm_at_every_place_dropout_included(key):
    """With one place, the convolutions are products: masks of its own for each gate."""
    options = {"dropout": 0.4, "recurrent_dropout": 0.3, "return_sequences": True, **CHEAP}
    conv, plain = jl.ConvLSTM1D(5, 1, **options), jl.LSTM(5, **options)
    x = jnp.asarray(data((3, 4, 2)))
    params, _ = made(plain, x)
    convolved = {name: p if name == "bias" else p[None] for name, p in params.items()}
    expected = quick(lambda: plain.apply(params, {}, x, key=key, train=True)[0])()
    received = quick(lambda: conv.apply(convolved, {}, x[:, :, None], key=key, train=True)[0])()
    np.testing.assert_allclose(received[:, :, 0], expected, atol=1e-5)
    assert conv.draws
    with pytest.raises(jl.MissingKeyError):
        conv.apply(convolved, {}, x[:, :, None], train=True)


def test_input_dropout_alone_masks_each_gate_for_itself(key):
    layer = jl.ConvLSTM1D(1, 1, dropout=0.5, use_bias=False, return_sequences=True, **CHEAP)
    identity = {"kernel": jnp.zeros((1, 1, 4)), "recurrent_kernel": jnp.zeros((1, 1, 4))}
    x = jnp.ones((1, 2, 400, 1))
    open_gates = {**identity, "kernel": jnp.array([[[0.0, 0.0, 1.0, 9.0]]])}
    y, _ = layer.apply(open_gates, {}, x, key=key, train=True)
    first = np.unique(np.round(np.asarray(y[0, 0, :, 0]), 4))
    assert len(first) == 3  # candidate dropped; kept with the output gate dropped; both kept


def test_conv_lstm_in_both_directions_and_in_a_graph(key):
    x = jl.Input((None, 4, 4, 1))
    y, h, c = jl.ConvLSTM2D(2, 3, padding="same", return_state=True, **CHEAP)(x)
    assert (y.shape, h.shape, c.shape) == ((None, 4, 4, 2),) * 3
    both = jl.Bidirectional(jl.ConvLSTM2D(2, 3, return_sequences=True, **CHEAP))(x)
    assert both.shape == (None, None, 2, 2, 4)
    again = jl.ConvLSTM2D(2, 3, padding="same", **CHEAP)([x, h, c])
    assert again.shape == (None, 4, 4, 2)


def test_errors_teach(key):
    def conv(*args, **options):
        return jl.ConvLSTM2D(*args, **options, **CHEAP)

    with pytest.raises(ValueError, match=r"ConvLSTM2D: .*received filters=0"):
        conv(0, 3)
    with pytest.raises(ValueError, match=r"padding out of 'valid', 'same', received padding='causal'"):
        conv(2, 3, padding="causal")
    with pytest.raises(ValueError, match=r"strides or dilation_rate to be 1, received strides=2, dilation"):
        conv(2, 3, strides=2, dilation_rate=2)
    with pytest.raises(ValueError, match=r"between 0 and 1, received dropout=2"):
        conv(2, 3, dropout=2)
    with pytest.raises(
        ValueError, match=r"\(batch, time, height, width, channels\), received float32\(2, 3, 4"
    ):
        conv(2, 3).init(key, (2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"the window \(5, 5\) is larger than the input"):
        conv(2, 5).init(key, (2, 3, 4, 5, 1))
    with pytest.raises(TypeError, match="expected a floating input"):
        conv(2, 2).init(key, jnp.zeros((2, 3, 4, 5, 1), jnp.complex64))
    x = jnp.zeros((2, 3, 4, 4, 1))
    params, _ = made(conv(2, 3), x)
    with pytest.raises(
        ValueError, match=r"initial state h, c.* \(2, 2, 2, 2\), received float32\(2, 4, 4, 2\)"
    ):
        conv(2, 3).apply(params, {}, x, jnp.zeros((2, 4, 4, 2)))
    with pytest.raises(ValueError, match=r"expected 1 channels"):
        conv(2, 3).apply(params, {}, jnp.zeros((2, 3, 4, 4, 3)))
