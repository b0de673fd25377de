"""Bytes, whole numbers and booleans count as fractions where a layer computes with fractions, as in Keras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1)).astype(np.uint8)
LAYERS = [
    jl.Conv2D(2, 3),
    jl.BatchNormalization(),
    jl.Activation("tanh"),
    jl.SeparableConv2D(2, 2),
    jl.Sequential(jl.Flatten(), jl.Dense(3)),
    jl.Sequential(jl.Input((4, 4, 1)), jl.Flatten(), jl.Dense(3)),
    jl.Sequential(jl.Reshape((4, 4)), jl.LSTM(2)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.bool_])
def test_the_result_is_that_of_the_same_fractions(layer, kind, key):
    x = IMAGES.astype(kind)
    params, state = layer.init(key, x)
    y, _ = layer.apply(params, state, x)
    expected, _ = layer.apply(params, state, x.astype(np.float32))
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, expected)


def test_a_policy_decides_how_wide_they_become(key):
    layer = jl.Dense(3, precision="mixed_bfloat16")
    params, state = layer.init(key, np.ones((2, 4), np.int32))
    assert params["kernel"].dtype == jnp.float32
    assert layer.apply(params, state, np.ones((2, 4), np.int32))[0].dtype == jnp.bfloat16


def test_masks_keep_their_kind(key):
    x, mask = jnp.ones((2, 3, 4), jnp.int32), jnp.ones((2, 3, 3), bool)
    attention = jl.MultiHeadAttention(2, 3)
    params, state = attention.init(key, x, x, x, mask)
    y, _ = attention.apply(params, state, x, x, x, mask)
    expected, _ = attention.apply(params, state, *[x.astype(jnp.float32)] * 3, mask)
    np.testing.assert_array_equal(y, expected)


def test_bytes_train(key):
    model = jl.Sequential(jl.Input((4, 4, 1)), jl.Rescaling(1 / 255), jl.Flatten(), jl.Dense(1))
    trainer = jl.compile(model, "sgd", "mse")
    runs = [jl.fit(trainer, x, np.ones((2, 1)), epochs=2)[1] for x in (IMAGES, IMAGES.astype(np.float32))]
    assert runs[0] == runs[1]


def test_complex_numbers_are_refused(key):
    with pytest.raises(TypeError, match="Dense: expected a floating input, received complex64"):
        jl.Dense(2).init(key, jax.ShapeDtypeStruct((2, 3), jnp.complex64))
