"""Spectral and unit norms, further dropout, layers over volumes, and parts of vision models."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data, parity
from keras_values import keras_values

import jlayers as jl
from jlayers.core.notes import observe

VOLUME = (2, 3, 4, 5, 2)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ZeroPadding3D", {"padding": ((1, 2), (0, 3), (1, 0))}),
        ("ZeroPadding3D", {}),
        ("Cropping3D", {"cropping": (1, 0, 2)}),
        ("Cropping3D", {}),
        ("UpSampling3D", {"size": (1, 2, 3)}),
        ("SpatialDropout3D", {"rate": 0.5}),
    ],
    ids=str,
)
def test_volumes(name, arguments):
    parity(name, data((2, 3, 4, 5, 3) if name == "Cropping3D" else VOLUME), **arguments)


@pytest.mark.parametrize("name", ["ZeroPadding3D", "UpSampling3D"])
def test_volumes_channels_first(name):
    parity(name, data(VOLUME), data_format="channels_first")


@pytest.mark.parametrize(("axis", "shape"), [(-1, (3, 5)), (1, (2, 4, 3)), ((1, 2), (2, 4, 3))])
def test_unit_normalization(axis, shape):
    parity("UnitNormalization", data(shape), axis=axis)


def test_a_vector_of_zeros_stays_and_has_a_gradient():
    norm = jl.UnitNormalization()
    x = jnp.zeros((1, 3))
    assert norm.apply({}, {}, x)[0].tolist() == [[0, 0, 0]]
    assert jnp.isfinite(jax.grad(lambda x: norm.apply({}, {}, x)[0].sum())(x)).all()


def test_unit_normalization_refuses_one_axis_twice():
    with pytest.raises(ValueError, match=r"distinct axes, at least one, received axis=\(1, -1\)"):
        jl.UnitNormalization((1, -1)).apply({}, {}, jnp.ones((2, 3)))


# ------------------------------------------------------------------------------------ spectral norm


@pytest.mark.parametrize(
    ("inner", "shape"), [("Dense", (4, 5)), ("Conv2D", (2, 4, 4, 3)), ("Conv1DTranspose", (2, 4, 3))]
)
def test_one_training_step_as_in_keras(inner, shape):
    arguments = {"units": 3} if inner == "Dense" else {"filters": 3, "kernel_size": 2}
    x = jnp.asarray(data(shape))
    u = jnp.asarray(data((1, 3), seed=2))

    def run_keras():
        layer = getattr(keras.layers, inner)(**arguments)
        theirs = keras.layers.SpectralNormalization(layer, power_iterations=2)
        theirs.build(x.shape)
        trained = [jnp.asarray(data(v.shape, seed=1)) for v in theirs.trainable_variables]

        def expected(trained, x):
            y, moved = theirs.stateless_call(trained, [u], x, training=True)[:2]
            return jnp.sum(y**2), (y, moved[0])

        # Keras overwrites the kernel within the call; the gradient flows through that.
        return trained, jax.value_and_grad(expected, has_aux=True)(trained, x)

    trained, ((_, (their_y, their_u)), gradient) = keras_values(run_keras)
    trained = [jnp.asarray(value) for value in trained]
    ours = jl.SpectralNormalization(getattr(jl, inner)(**arguments), power_iterations=2)

    def actual(params, x):
        y, state = ours.apply({"layer": params}, {"vector_u": u}, x, train=True)
        return jnp.sum(y**2), (y, state["vector_u"])

    params = {"kernel": trained[0], "bias": trained[1]}
    (_, (our_y, our_u)), by_params = jax.value_and_grad(actual, has_aux=True)(params, x)
    np.testing.assert_allclose(our_y, their_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(our_u, their_u, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_params["kernel"], gradient[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(by_params["bias"], gradient[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("layer", [jl.Dense(3), jl.Conv1D(3, 2), jl.DepthwiseConv1D(2, depth_multiplier=3)])
def test_the_largest_singular_value_becomes_one(layer):
    seen = {}
    norm = jl.SpectralNormalization(layer, power_iterations=30)
    x = jnp.asarray(data((2, 5, 4)))
    params, state = norm.init(jax.random.key(0), x)
    with observe(lambda path, layer, params, *rest: seen.update(params)):
        norm.apply(params, state, x)
    kernel = np.asarray(seen["kernel"]).reshape(-1, 3)
    assert abs(np.linalg.svd(kernel, compute_uv=False)[0] - 1) < 1e-3
    untouched = layer.init(jax.random.key(1), x)[0]["kernel"].shape
    assert params["layer"]["kernel"].shape == untouched


def test_only_training_moves_the_vector_and_nothing_moves_the_kernel():
    norm = jl.SpectralNormalization(jl.Dense(3))
    params, state = norm.init(jax.random.key(0), (2, 4))
    x = jnp.ones((2, 4))
    resting, after = norm.apply(params, state, x)
    training, moved = norm.apply(params, state, x, train=True)
    assert (after["vector_u"] == state["vector_u"]).all()
    assert not (moved["vector_u"] == state["vector_u"]).all()
    np.testing.assert_array_equal(resting, training)


def test_a_kernel_of_zeros_stays_finite():
    norm = jl.SpectralNormalization(jl.Dense(3, kernel_initializer="zeros"))
    params, state = norm.init(jax.random.key(0), (2, 4))

    def loss(params):
        y, moved = norm.apply(params, state, jnp.ones((2, 4)), train=True)
        return y.sum(), moved

    gradient, moved = jax.grad(loss, has_aux=True)(params)
    assert jnp.isfinite(gradient["layer"]["kernel"]).all()
    assert (moved["vector_u"] == state["vector_u"]).all()


def test_spectral_normalization_of_an_embedding_and_of_a_stateful_layer():
    tokens = jnp.array([[1, 2]])
    norm = jl.SpectralNormalization(jl.Embedding(4, 3))
    params, state = norm.init(jax.random.key(0), tokens)
    assert norm.apply(params, state, tokens)[0].dtype == jnp.float32
    with pytest.raises(ValueError, match=r"a parameter named kernel or embeddings, .* received layer=Batch"):
        jl.SpectralNormalization(jl.BatchNormalization()).init(jax.random.key(0), (2, 3))


def test_a_frozen_layer_is_not_trained_through_its_norm():
    norm = jl.SpectralNormalization(jl.Dense(3, trainable=False))
    params, state = norm.init(jax.random.key(0), (2, 4))
    gradient = jax.grad(lambda p: norm.apply(p, state, jnp.ones((2, 4)), train=True)[0].sum())(params)
    assert not any(jnp.any(g) for g in jax.tree.leaves(gradient))


# ------------------------------------------------------------------------------------------ dropout


@pytest.mark.parametrize("name", ["AlphaDropout", "GaussianDropout"])
def test_dropout_rests_without_training(name):
    parity(name, data((3, 4)), rate=0.5)


def test_alpha_dropout_has_keras_values():
    x = jnp.asarray(data((50, 20)))
    y, _ = jl.AlphaDropout(0.3).apply({}, {}, x, key=jax.random.key(0), train=True)
    floor = -1.6732632423543772 * 1.0507009873554805
    a = ((1 - 0.3) * (1 + 0.3 * floor**2)) ** -0.5
    dropped = np.isclose(y, a * floor - a * floor * 0.3, atol=1e-6)
    assert 0.2 < dropped.mean() < 0.4
    np.testing.assert_allclose(
        np.asarray(y)[~dropped], (a * x - a * floor * 0.3)[~dropped], rtol=1e-5, atol=1e-6
    )


def test_alpha_dropout_keeps_mean_and_variance_and_follows_noise_shape():
    x = jnp.asarray(data((400, 100)))
    y, _ = jl.AlphaDropout(0.4).apply({}, {}, x, key=jax.random.key(0), train=True)
    assert abs(float(y.mean())) < 0.03
    assert abs(float(y.std()) - 1) < 0.03
    drop = jl.AlphaDropout(0.5, noise_shape=(None, 1))
    y, _ = drop.apply({}, {}, jnp.ones((8, 5)), key=jax.random.key(0), train=True)
    assert (y == y[:, :1]).all()
    y, _ = jl.AlphaDropout(1.0).apply({}, {}, x, key=jax.random.key(0), train=True)
    assert not y.any()


def test_gaussian_dropout_has_the_variance_of_dropout():
    x = jnp.full((200, 200), 2.0)
    y, _ = jl.GaussianDropout(0.2).apply({}, {}, x, key=jax.random.key(0), train=True)
    assert abs(float(y.mean()) - 2) < 0.03
    assert abs(float(y.std()) - 1) < 0.03
    with pytest.raises(ValueError, match="a rate below 1, where the noise is infinite, received rate=1"):
        jl.GaussianDropout(1)


# ------------------------------------------------------------------------------------------- vision


@pytest.mark.parametrize("data_format", [None, "channels_first"])
def test_patch_embedding_is_a_convolution(data_format):
    x = jnp.asarray(data((2, 6, 4, 3) if data_format is None else (2, 3, 6, 4)))
    embed = jl.PatchEmbedding((3, 2), 5, data_format=data_format, bias_initializer="ones")
    conv = jl.Conv2D(5, (3, 2), strides=(3, 2), data_format=data_format)
    params, _ = embed.init(jax.random.key(0), x)
    y = conv.apply(params, {}, x)[0]
    expected = jnp.moveaxis(y, 1, -1) if data_format else y
    np.testing.assert_allclose(embed.apply(params, {}, x)[0], expected.reshape(2, 4, 5), rtol=1e-5, atol=1e-5)


def test_patches_have_to_fill_the_image():
    with pytest.raises(
        ValueError, match=r"multiples of the patch's, received patch_size=4, float32\(2, 8, 6"
    ):
        jl.PatchEmbedding(4, 5).init(jax.random.key(0), (2, 8, 6, 3))


def test_drop_path_drops_examples():
    x = jnp.asarray(data((400, 2, 3)))
    y, _ = jl.DropPath(0.25).apply({}, {}, x, key=jax.random.key(0), train=True)
    kept = (np.asarray(y) != 0).all(axis=(1, 2))
    assert (np.asarray(y)[~kept] == 0).all()
    np.testing.assert_allclose(np.asarray(y)[kept], np.asarray(x)[kept] / 0.75, rtol=1e-6)
    assert 0.68 < kept.mean() < 0.82
    assert (jl.DropPath(0.25).apply({}, {}, x)[0] == x).all()
    assert not jl.DropPath(1.0).apply({}, {}, x, key=jax.random.key(0), train=True)[0].any()


def test_layer_scale():
    x = jnp.asarray(data((2, 3, 4)))
    scale = jl.LayerScale(0.5)
    params, _ = scale.init(jax.random.key(0), x)
    np.testing.assert_allclose(scale.apply(params, {}, x)[0], 0.5 * x)
    with pytest.raises(ValueError, match="expected 4 channels"):
        scale.apply(params, {}, x[..., :3])


@pytest.mark.parametrize("data_format", [None, "channels_first"])
def test_squeeze_excite_follows_its_formula(data_format):
    x = data((2, 3, 5, 6), seed=4)
    layer = jl.SqueezeExcite(2, data_format=data_format)
    params = {
        "reduce_kernel": data((6, 3)),
        "reduce_bias": data((3,)),
        "expand_kernel": data((3, 6)),
        "expand_bias": data((6,)),
    }
    hidden = np.maximum(x.mean(axis=(1, 2)) @ params["reduce_kernel"] + params["reduce_bias"], 0)
    factors = 1 / (1 + np.exp(-(hidden @ params["expand_kernel"] + params["expand_bias"])))
    expected = x * factors[:, None, None, :]
    given, wanted = (np.moveaxis(a, -1, 1) if data_format else a for a in (x, expected))
    params = jax.tree.map(jnp.asarray, params)
    np.testing.assert_allclose(layer.apply(params, {}, jnp.asarray(given))[0], wanted, rtol=1e-5, atol=1e-6)
    made = jax.eval_shape(lambda: layer.init(jax.random.key(0), given.shape))[0]
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in params.items()}
    assert float(layer.replace(reduce_regularizer=jl.l2(1.0)).penalty(params)) > 0
