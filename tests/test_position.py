"""Position embeddings: against complex rotations and the paper's formula, in attention, errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data

import jlayers as jl


def turned(x, positions, max_wavelength, scaling, interleaved):
    """Each pair of features a complex number, turned; `(batch, length, heads, size)`, in float64."""
    x = np.asarray(x, np.float64)
    n = x.shape[-1] // 2
    pairs = x.reshape(*x.shape[:-1], n, 2) if interleaved else np.stack([x[..., :n], x[..., n:]], -1)
    speeds = np.array([1 / max_wavelength ** (2 * i / (2 * n)) for i in range(n)])
    angles = positions[:, :, None, None] / scaling * speeds
    z = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)
    parts = np.stack([z.real, z.imag], -1)
    return parts.reshape(x.shape) if interleaved else np.concatenate([z.real, z.imag], -1)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("max_wavelength", "scaling"), [(10000.0, 1.0), (500.0, 4.0)])
def test_rotary_turns_complex_numbers(interleaved, max_wavelength, scaling):
    x = data((2, 5, 3, 8))
    layer = jl.RotaryEmbedding(max_wavelength, scaling, interleaved=interleaved)
    options = (max_wavelength, scaling, interleaved)
    y, _ = layer.apply({}, {}, x)
    np.testing.assert_allclose(y, turned(x, np.arange(5)[None], *options), rtol=1e-5, atol=1e-5)
    positions = np.array([[7, 0, 3, 3, 100], [1, 2, 3, 4, 5]], np.int32)
    y, _ = layer.apply({}, {}, x, positions)
    np.testing.assert_allclose(y, turned(x, positions, *options), rtol=1e-4, atol=1e-4)


def test_rotary_along_other_axes():
    x = data((2, 5, 3, 8))
    expected, _ = jl.RotaryEmbedding().apply({}, {}, x)
    moved = jl.RotaryEmbedding(sequence_axis=3, feature_axis=1)
    y, _ = moved.apply({}, {}, np.transpose(x, (0, 3, 2, 1)))
    np.testing.assert_allclose(np.transpose(y, (0, 3, 2, 1)), expected, atol=1e-6)


def test_products_of_turned_vectors_depend_on_the_distance():
    x = np.broadcast_to(data((1, 1, 1, 8)), (1, 6, 1, 8))
    y = np.asarray(jl.RotaryEmbedding().apply({}, {}, x)[0])[0, :, 0]
    products = y @ y.T
    for distance in range(6):
        np.testing.assert_allclose(np.diagonal(products, distance), products[0, distance], rtol=1e-4)


@pytest.mark.parametrize("make", ["MultiHeadAttention", "GroupQueryAttention"])
def test_rotary_stands_in_attention(make):
    arguments = {"MultiHeadAttention": (2, 4), "GroupQueryAttention": (4, 4, 2)}[make]
    plain = getattr(jl, make)(*arguments)
    rotary = plain.replace(position_embedding=jl.RotaryEmbedding())
    x = np.broadcast_to(data((2, 1, 6)), (2, 5, 6))
    params, state = rotary.init(jax.random.key(0), x)
    assert jax.tree.structure(params) == jax.tree.structure(plain.init(jax.random.key(0), x)[0])
    with_scores = rotary.replace(return_attention_scores=True)
    (_, weights), _ = with_scores.apply(params, state, x)
    assert not np.allclose(weights, 1 / 5)  # without positions equal inputs are equal
    (_, weights), _ = with_scores.replace(position_embedding=None).apply(params, state, x)
    np.testing.assert_allclose(weights, 1 / 5, rtol=1e-6)
    assert jl.core.layer.layers.get(rotary.to_data()).spec == rotary.spec


@pytest.mark.parametrize("size", [1, 6, 7])
def test_sinusoidal_is_the_formula(size):
    y, _ = jl.SinusoidalPositionEmbedding(1000.0).apply({}, {}, np.zeros((2, 9, size), np.float32))
    for position in range(9):
        for i in range(size):
            angle = position / 1000.0 ** ((i - i % 2) / size)
            expected = np.cos(angle) if i % 2 else np.sin(angle)
            np.testing.assert_allclose(y[:, position, i], expected, atol=1e-5)


@pytest.mark.parametrize("make", [jl.SinusoidalPositionEmbedding, lambda: jl.PositionEmbedding(7)])
def test_positions_may_be_given(make):
    x = np.zeros((2, 6, 4), np.float32)
    params, state = make().init(jax.random.key(0), x)
    y, _ = make().apply(params, state, x)
    positions = np.array([[3, 5], [0, 1]], np.int32)
    some, _ = make().apply(params, state, x[:, :2], positions)
    np.testing.assert_allclose(some, np.stack([y[0, [3, 5]], y[1, [0, 1]]]), atol=1e-6)


def test_learned_positions_are_rows_of_a_table():
    layer = jl.PositionEmbedding(7, embeddings_regularizer="l2")
    x = np.zeros((2, 5, 4), np.float32)
    params, state = layer.init(jax.random.key(0), x)
    y, _ = layer.apply(params, state, x)
    np.testing.assert_array_equal(y, np.broadcast_to(params["embeddings"][:5], (2, 5, 4)))
    assert float(layer.penalty(params)) > 0
    beyond, _ = layer.apply(params, state, x[:, :2], np.array([[-1, 7], [6, 0]], np.int32))
    assert np.isnan(beyond[0]).all()
    assert np.isfinite(beyond[1]).all()


@pytest.mark.parametrize(
    "make", [jl.RotaryEmbedding, jl.SinusoidalPositionEmbedding, lambda: jl.PositionEmbedding(300)]
)
def test_half_precision_counts_in_float32_and_lengths_may_be_symbolic(make):
    layer = make()
    x = jnp.ones((1, 300, 4), jnp.bfloat16)
    params, state = layer.init(jax.random.key(0), x)
    half, _ = layer.apply(params, state, x)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    full, _ = layer.apply(wide, state, x.astype(jnp.float32))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.01)
    assert jl.Residual(layer)(jl.Input((None, 4))).shape == (None, None, 4)


@pytest.mark.parametrize(
    ("make", "inputs", "error", "message"),
    [
        (lambda: jl.RotaryEmbedding(0.0), [], ValueError, r"max_wavelength > 0, received max_wavelength=0"),
        (lambda: jl.RotaryEmbedding(scaling_factor=-1.0), [], ValueError, r"scaling_factor=-1\.0"),
        (jl.RotaryEmbedding, [(2, 4, 3)], ValueError, r"an even number of features .*float32\(2, 4, 3\)"),
        (jl.RotaryEmbedding, [(2, 4)], ValueError, r"sequence_axis=1, float32\(2, 4\)"),
        (jl.RotaryEmbedding, [(2, 4, 2), (2, 4)], TypeError, r"positions as whole numbers, received float32"),
        (
            jl.RotaryEmbedding,
            [(2, 4, 2), np.zeros((2, 3), np.int32)],
            ValueError,
            r"positions \(batch, length\) for float32\(2, 4, 2\), received int32\(2, 3\)",
        ),
        (jl.SinusoidalPositionEmbedding, [(2, 4)], ValueError, r"\(batch, length, size\), received"),
        (lambda: jl.PositionEmbedding(0), [], ValueError, r"sequence_length=0"),
        (
            lambda: jl.PositionEmbedding(3),
            [(2, 4, 2)],
            ValueError,
            r"at most sequence_length positions, received sequence_length=3",
        ),
    ],
)
def test_errors_teach(make, inputs, error, message, key):
    with pytest.raises(error, match=message):
        make().init(key, *inputs)
