"""Layers at the edges: empty batches, half precision, large means, symbolic sizes."""

from __future__ import annotations

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import signal

import jlayers as jl
from jlayers.ops import pool

IMAGE = (2, 7, 6, 4)
RNG = np.random.default_rng(0)


def normal(shape, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def run(layer, *xs, train=False, key=None):
    """The output on arrays, with the weights of key 0."""
    params, state = layer.init(jax.random.key(0), *xs)
    return layer.apply(params, state, *xs, train=train, key=key)[0]


# ---------------------------------------------------------------------- all layers, many inputs

IDS = jnp.array([[0, 3], [4, 1]])
EACH = {
    "vector": [jl.Dense(3), jl.RepeatVector(2), jl.Reshape((2, -1)), jl.Dot(1), jl.Subtract()],
    "sequence": [
        jl.Conv1D(3, 2),
        jl.Conv1D(3, 2, padding="causal", dilation_rate=2),
        jl.MaxPooling1D(),
        jl.AveragePooling1D(2, padding="same"),
        jl.GlobalMaxPooling1D(),
        jl.GlobalAveragePooling1D(),
        jl.SpatialDropout1D(0.5),
        jl.ZeroPadding1D(),
        jl.Cropping1D(),
        jl.UpSampling1D(),
    ],
    "image": [
        jl.Conv2D(3, 2, padding="same", strides=2),
        jl.MaxPooling2D(),
        jl.MaxPooling2D(3, 2, padding="same"),
        jl.AveragePooling2D(2),
        jl.AveragePooling2D(3, padding="same"),
        jl.GlobalMaxPooling2D(),
        jl.GlobalAveragePooling2D(),
        jl.SpatialDropout2D(0.5),
        jl.ZeroPadding2D(),
        jl.Cropping2D(1),
        jl.UpSampling2D(),
        jl.UpSampling2D(interpolation="bilinear"),
        jl.Flatten(),
        jl.Permute((3, 1, 2)),
        jl.Dropout(0.5),
        jl.GaussianNoise(0.5),
        jl.ActivityRegularization(l1=0.1, l2=0.1),
        jl.BatchNormalization(),
        jl.LayerNormalization(),
        jl.GroupNormalization(2),
        jl.RMSNormalization(),
        jl.PReLU(shared_axes=(1, 2)),
        jl.ReLU(),
        jl.LeakyReLU(),
        jl.ELU(),
        jl.Softmax(),
        jl.Activation("gelu"),
        jl.Identity(),
        jl.Lambda(jnp.tanh),
        jl.Add(),
        jl.Multiply(),
        jl.Average(),
        jl.Maximum(),
        jl.Minimum(),
        jl.Concatenate(),
        jl.Concatenate(axis=1),
    ],
}
SHAPES = {"vector": (2, 4), "sequence": (2, 5, 4), "image": IMAGE}
TWO = ("Dot", "Subtract", "Add", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
ALL = [(layer, SHAPES[kind]) for kind, some in EACH.items() for layer in some]


def arity(layer):
    return 2 if layer.spec.name in TWO else 1


@pytest.mark.parametrize(("layer", "shape"), ALL, ids=repr)
def test_dtypes_empty_batches_and_symbolic_sizes(layer, shape):
    """Traced only: the output keeps half precision, and its shape follows the batch, be it 0 or a symbol."""
    key = jax.random.key(0)

    def shapes(size, dtype="float32", train=False):
        xs = [jax.ShapeDtypeStruct((size, *shape[1:]), dtype)] * arity(layer)
        params, state = jax.eval_shape(lambda: layer.init(key, *xs))
        output, moved = jax.eval_shape(
            lambda params, state, *xs: layer.apply(params, state, *xs, key=key, train=train),
            params,
            state,
            *xs,
        )
        assert jax.tree.map(lambda s: (s.shape, s.dtype), moved) == jax.tree.map(
            lambda s: (s.shape, s.dtype), state
        )
        assert all(p.dtype == dtype for p in params.values())
        assert output.dtype == dtype
        return output.shape

    two = shapes(2)
    for train, dtype in itertools.product((False, True), ("bfloat16", "float16")):
        assert shapes(2, dtype, train) == two
    assert shapes(0, train=True) == (0, *two[1:])
    node = jl.Input(shape[1:])
    assert layer(*[node] * arity(layer)).shape == (None, *two[1:])
    if len(shape) > 2:
        free = jl.Input((*(None,) * (len(shape) - 2), shape[-1]))
        assert len(layer(*[free] * arity(layer)).shape) == len(two)


def test_parameters_may_be_wider_than_the_data():
    x = normal((2, 7, 6, 4), "bfloat16")
    for layer in (
        jl.Conv2D(3, 2),
        jl.Dense(3),
        jl.BatchNormalization(),
        jl.GroupNormalization(2),
        jl.PReLU(),
    ):
        params, state = layer.init(jax.random.key(0), x.shape)
        y, moved = layer.apply(params, state, x, train=True)
        assert y.dtype == jnp.bfloat16
        assert all(p.dtype == jnp.float32 for p in moved.values())


def test_float64():
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=IMAGE))
        params, state = jl.BatchNormalization().init(jax.random.key(0), x)
        assert x.dtype == params["gamma"].dtype == state["moving_mean"].dtype == jnp.float64


def test_an_empty_batch_moves_no_statistics():
    norm = jl.BatchNormalization()
    params, state = norm.init(jax.random.key(0), (0, 4))
    _, moved = norm.apply(params, state, jnp.zeros((0, 4)), train=True)
    np.testing.assert_array_equal(moved["moving_variance"], np.ones(4))
    layer = jl.ActivityRegularization(l2=1.0)
    _, state = layer.apply({}, {"aux_loss": jnp.ones(())}, jnp.zeros((0, 4)))
    assert float(state["aux_loss"]) == 0.0


# ----------------------------------------------------------------------------- numbers by NumPy


def test_dense_is_an_affine_map():
    x = normal((2, 3, 4))
    params, state = jl.Dense(5, activation="relu", bias_initializer="random_normal").init(
        jax.random.key(0), x
    )
    expected = np.maximum(np.asarray(x) @ np.asarray(params["kernel"]) + np.asarray(params["bias"]), 0)
    actual = jl.Dense(5, activation="relu").apply(params, state, x)[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv2d_is_a_cross_correlation(padding):
    x, kernel = normal((1, 7, 6, 3)), normal((3, 3, 3, 2), seed=1)
    actual = jl.Conv2D(2, 3, padding=padding, use_bias=False).apply({"kernel": kernel}, {}, x)[0]
    for f in range(2):
        expected = sum(signal.correlate2d(x[0, :, :, c], kernel[:, :, c, f], mode=padding) for c in range(3))
        np.testing.assert_allclose(actual[0, :, :, f], expected, rtol=1e-4, atol=1e-4)


def test_same_padding_puts_the_odd_cell_last():
    x = jnp.arange(1.0, 5)[None, :, None]
    y = jl.Conv1D(1, 3, strides=2, padding="same", use_bias=False).apply(
        {"kernel": jnp.ones((3, 1, 1))}, {}, x
    )[0]
    assert y[0, :, 0].tolist() == [6.0, 7.0]


def test_causal_convolution_sees_no_future():
    layer = jl.Conv1D(2, 3, padding="causal", dilation_rate=2)
    params, state = layer.init(jax.random.key(0), (1, 8, 1))
    by_input = jax.jacobian(lambda x: layer.apply(params, state, x)[0])(normal((1, 8, 1)))
    reach = np.abs(np.asarray(by_input)).sum(axis=(0, 2, 3, 5))  # (output step, input step)
    assert (np.triu(reach, 1) == 0).all()
    assert (np.diag(reach) > 0).all()


def test_average_pooling_counts_real_cells():
    y = run(jl.AveragePooling1D(3, 1, padding="same"), jnp.ones((1, 4, 1)))
    assert y[0, :, 0].tolist() == [1.0] * 4


def test_global_pooling_in_half_precision_sums_in_float32():
    x = jnp.full((1, 64, 64, 1), 1.0, "bfloat16")
    assert float(run(jl.GlobalAveragePooling2D(), x)[0, 0]) == 1.0


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e5])
@pytest.mark.parametrize(
    ("layer", "axes"),
    [
        (jl.BatchNormalization(epsilon=1e-5), (0, 1, 2)),
        (jl.LayerNormalization(epsilon=1e-5, axis=(1, 2, 3)), (1, 2, 3)),
        (jl.GroupNormalization(1, epsilon=1e-5), (1, 2, 3)),
    ],
    ids=repr,
)
def test_a_large_mean_does_not_eat_the_variance(layer, axes, offset):
    x = np.asarray(RNG.normal(size=IMAGE) + offset, "float32")
    actual = run(layer, jnp.asarray(x), train=True)
    exact = x.astype("float64")
    expected = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_batch_normalization_moves_its_statistics_in_training_alone():
    norm = jl.BatchNormalization(momentum=0.9)
    params, state = norm.init(jax.random.key(0), (8, 3))
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(4):
        x = np.asarray(normal((8, 3), seed=seed) * 2 + 1)
        same = norm.apply(params, state, jnp.asarray(x))[1]
        assert all(same[k] is state[k] for k in state)
        y, state = norm.apply(params, state, jnp.asarray(x), train=True)
        np.testing.assert_allclose(np.mean(y, 0), 0, atol=1e-5)
        mean = 0.9 * mean + 0.1 * np.mean(x, 0)
        variance = 0.9 * variance + 0.1 * np.var(x, 0)  # biased
    np.testing.assert_allclose(state["moving_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(state["moving_variance"], variance, rtol=1e-5)
    y, _ = norm.apply(params, state, jnp.asarray(x))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-4, atol=1e-5)


def test_a_frozen_batch_normalization_does_not_move():
    norm = jl.BatchNormalization(trainable=False)
    params, state = norm.init(jax.random.key(0), (8, 3))
    x = normal((8, 3)) + 5
    y, moved = norm.apply(params, state, x, train=True)
    assert all(moved[k] is state[k] for k in state)
    np.testing.assert_allclose(y, x / math.sqrt(1.001), rtol=1e-5)


def test_half_precision_statistics_are_taken_in_float32():
    x = jnp.full((4096, 1), 1.0, "bfloat16").at[0].set(0)
    norm = jl.BatchNormalization(momentum=0.0)
    params, state = norm.init(jax.random.key(0), x)
    _, state = norm.apply(params, state, x, train=True)
    assert state["moving_mean"].dtype == jnp.float32
    np.testing.assert_allclose(state["moving_mean"], [4095 / 4096], rtol=1e-6)


def test_embedding_outside_the_range_shows():
    embed = jl.Embedding(5, 2)
    params, state = embed.init(jax.random.key(0), IDS)
    y, _ = embed.apply(params, state, jnp.array([0, 4, 5, -1]))
    assert jnp.isnan(y).any(axis=1).tolist() == [False, False, True, True]
    for dtype in ("uint8", "int16", "uint32"):
        np.testing.assert_array_equal(
            embed.apply(params, state, IDS.astype(dtype))[0], params["embeddings"][IDS]
        )


def test_embedding_gradients_add_up():
    table = jax.grad(lambda t: jl.Embedding(5, 2).apply({"embeddings": t}, {}, jnp.array([1, 1, 3]))[0].sum())
    assert table(jnp.zeros((5, 2)))[:, 0].tolist() == [0.0, 2.0, 0.0, 1.0, 0.0]


def test_softmax_with_a_mask():
    x, mask = normal((2, 3)), jnp.array([[True, True, False], [False, False, False]])
    y, _ = jl.Softmax().apply({}, {}, x, mask)
    np.testing.assert_allclose(y[0, :2], jax.nn.softmax(x[0, :2]), rtol=1e-6)
    assert y[0, 2] == 0
    assert (y[1] == 0).all()


def test_activity_regularization_is_per_example():
    x = normal((4, 3, 2))
    _, state = jl.ActivityRegularization(l1=0.1, l2=0.2).apply({}, {"aux_loss": jnp.zeros(())}, x)
    expected = (0.1 * np.abs(x).sum() + 0.2 * np.square(x).sum()) / 4
    np.testing.assert_allclose(state["aux_loss"], expected, rtol=1e-6)


# --------------------------------------------------------------------------------- random layers


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate):
    x = jnp.full((200, 500), 3.0)
    y, _ = jl.Dropout(rate).apply({}, {}, x, key=jax.random.key(1), train=True)
    dropped = float(jnp.mean(y == 0))
    assert abs(dropped - rate) < 4 * math.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose(np.unique(y), [0, 3 / (1 - rate)], rtol=1e-6)


def test_dropout_by_key_and_mode():
    drop, x, key = jl.Dropout(0.5), jnp.ones((4, 50)), jax.random.key(1)
    first = drop.apply({}, {}, x, key=key, train=True)[0]
    np.testing.assert_array_equal(first, drop.apply({}, {}, x, key=key, train=True)[0])
    other = drop.apply({}, {}, x, key=jax.random.key(2), train=True)[0]
    assert (first != other).any()
    assert drop.apply({}, {}, x, key=key)[0] is x
    assert jl.Dropout(0.0).apply({}, {}, x, train=True)[0] is x


def test_dropout_of_everything_has_a_finite_gradient():
    drop = jl.Dropout(1.0)
    value, gradient = jax.value_and_grad(
        lambda x: drop.apply({}, {}, x, key=jax.random.key(0), train=True)[0].sum()
    )(jnp.ones(3))
    assert float(value) == 0.0
    assert gradient.tolist() == [0.0] * 3


def test_noise_shape_shares_the_mask():
    drop = jl.Dropout(0.5, noise_shape=(None, 1, None))
    y, _ = drop.apply({}, {}, jnp.ones((4, 6, 5)), key=jax.random.key(0), train=True)
    assert (y == y[:, :1]).all()
    assert (y[1:] != y[:-1]).any()


def test_spatial_dropout_drops_whole_channels():
    x = jnp.ones((8, 3, 4, 5))
    for data_format, axes in (("channels_last", (1, 2)), ("channels_first", (2, 3))):
        drop = jl.SpatialDropout2D(0.5, data_format)
        y, _ = drop.apply({}, {}, x, key=jax.random.key(0), train=True)
        assert (np.ptp(np.asarray(y), axis=axes) == 0).all()
        assert 0.2 < float(jnp.mean(y == 0)) < 0.8


def test_gaussian_noise_has_its_deviation():
    y, _ = jl.GaussianNoise(0.5).apply({}, {}, jnp.ones((300, 300)), key=jax.random.key(0), train=True)
    np.testing.assert_allclose([np.mean(y), np.std(y)], [1, 0.5], rtol=1e-2)


# ----------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("layer", "shape", "train"),
    [
        (jl.Dense(3, activation="tanh"), (2, 4), False),
        (jl.Conv2D(2, 2, strides=2, padding="same"), (1, 3, 4, 2), False),
        (jl.Conv1D(2, 2, groups=2, padding="causal"), (1, 4, 2), False),
        (jl.MaxPooling2D(2), (1, 5, 4, 2), False),
        (jl.AveragePooling2D(2, padding="same"), (1, 3, 3, 1), False),
        (jl.BatchNormalization(), (4, 3), True),
        (jl.BatchNormalization(), (4, 3), False),
        (jl.LayerNormalization(), (2, 4), False),
        (jl.GroupNormalization(2), (2, 3, 4), False),
        (jl.RMSNormalization(), (2, 4), False),
        (jl.PReLU("ones"), (2, 4), False),
        (jl.UpSampling2D(interpolation="bilinear"), (1, 2, 2, 1), False),
        (jl.Dot(1, normalize=True), (2, 3), False),
    ],
    ids=repr,
)
def test_gradients_by_finite_differences(layer, shape, train):
    xs = [normal(shape, seed=i) for i in range(arity(layer))]
    params, state = layer.init(jax.random.key(0), *xs)
    weight = normal(jax.eval_shape(layer.apply, params, state, *xs)[0].shape, seed=5)

    @jax.jit
    def loss(params, *xs):
        return jnp.sum(layer.apply(params, state, *xs, train=train)[0] * weight)

    check_grads(loss, (params, *xs), order=1, modes=["rev"], eps=1e-2, atol=2e-2, rtol=2e-2)


# ------------------------------------------------------------------------------------- pooling


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("shape", "window"),
    [((2, 7, 3), (2,)), ((2, 7, 6, 3), (2, 2)), ((2, 7, 6, 3), (3, 1)), ((1, 4, 5, 3, 2), (2, 2, 2))],
    ids=str,
)
@pytest.mark.parametrize("kind", ["ties", "NaN", "infinite"])
def test_max_pool_equals_its_twin(shape, window, padding, kind):
    x = np.random.default_rng(0).integers(-1, 2, shape).astype("float32")
    if kind == "NaN":
        x.reshape(-1)[::5] = np.nan
    if kind == "infinite":
        x[x < 1] = -np.inf
    assert_equal_pools(jnp.asarray(x), window, padding)


def test_max_pool_equals_its_twin_in_half_precision():
    assert_equal_pools(normal((2, 5, 4, 3), "bfloat16"), (2, 2), "same")


def assert_equal_pools(x, window, padding):
    def both(f):
        def loss(x):
            y = f(x, window, window, padding)
            return jnp.sum(y * jnp.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape)), y

        (_, y), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(x)
        return y, gradient

    for ours, plain in zip(both(pool.max_pool), both(pool.max_pool_lax), strict=True):
        assert ours.dtype == plain.dtype
        np.testing.assert_array_equal(ours, plain)


def test_max_pool_in_forward_and_second_order():
    x = normal((1, 4, 4, 1))
    f = jax.jit(lambda x: jnp.sum(pool.max_pool(x, (2, 2), (2, 2), "valid") ** 3))
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], eps=1e-2, atol=5e-2, rtol=5e-2)


def test_max_pool_of_whole_numbers():
    x = jnp.asarray([[[3], [-7], [-9]]])
    assert run(jl.MaxPooling1D(2, padding="same"), x)[0, :, 0].tolist() == [3, -9]


# ----------------------------------------------------------------------------- functions as layers


def test_lambda_takes_several_inputs_and_options():
    layer = jl.Lambda(lambda a, b, scale: (a + b) * scale, arguments={"scale": 2.0})
    assert run(layer, jnp.ones((1, 2)), jnp.ones((1, 2))).tolist() == [[4.0, 4.0]]
    a = jl.Input((2,))
    assert layer([a, a]).shape == (None, 2)


def test_lambda_is_written_down_by_name_alone():
    assert jl.Lambda("relu").to_data() == {"Lambda": {"function": "relu"}}
    with pytest.raises(TypeError, match=re.escape("such as with @jl.activations.register")):
        jl.Lambda(lambda x: x).to_data()


def test_merging_takes_a_list_as_in_keras():
    x = jnp.ones((1, 2))
    assert run(jl.Add(), [x, x, x]).tolist() == [[3.0, 3.0]]
    assert jl.Concatenate()([jl.Input((2,)), jl.Input((3,))]).shape == (None, 5)
