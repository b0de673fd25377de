"""Weight and instance normalization by their formulas; the reversible embedding against Keras."""

import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data
from keras_values import keras_values

import jlayers as jl
from jlayers.core.layer import layers


@pytest.mark.parametrize(
    ("layer", "shape", "names"),
    [
        (jl.Conv2D(3, 2), (2, 4, 4, 2), ["kernel"]),
        (jl.SimpleRNN(3, recurrent_initializer="glorot_uniform"), (2, 3, 4), ["kernel", "recurrent_kernel"]),
    ],
)
def test_weight_normalization_is_g_times_the_direction(layer, shape, names):
    x = jnp.asarray(data(shape))
    wrapped = jl.WeightNormalization(layer)
    params, state = wrapped.init(jax.random.key(0), x)
    assert list(params["g"]) == names
    np.testing.assert_allclose(
        wrapped.apply(params, state, x)[0], layer.apply(params["layer"], {}, x)[0], rtol=1e-5, atol=1e-6
    )
    params["g"] = jax.tree.map(lambda g: jnp.asarray(data(g.shape, seed=2)), params["g"])
    plain = dict(params["layer"])
    for name in names:
        v = np.asarray(plain[name], np.float64)
        norm = np.sqrt((v**2).sum(tuple(range(v.ndim - 1))))
        plain[name] = jnp.asarray((np.asarray(params["g"][name]) * v / norm).astype(np.float32))
    np.testing.assert_allclose(
        wrapped.apply(params, state, x)[0], layer.apply(plain, {}, x)[0], rtol=1e-5, atol=1e-5
    )


def test_weight_normalization_inside_repeat_around_it_and_of_a_frozen_layer():
    x = jnp.asarray(data((2, 3)))
    around = jl.WeightNormalization(jl.Repeat(jl.Dense(3, activation="tanh"), 2))
    inside = jl.Repeat(jl.WeightNormalization(jl.Dense(3, activation="tanh")), 2)
    params, _ = around.init(jax.random.key(0), x)
    assert params["g"]["layer"]["kernel"].shape == (2, 3)
    other = {"layer": {"layer": params["layer"]["layer"], "g": params["g"]["layer"]}}
    np.testing.assert_allclose(
        around.apply(params, {}, x)[0], inside.apply(other, {}, x)[0], rtol=1e-6, atol=1e-6
    )
    fixed = jl.WeightNormalization(jl.Dense(2, trainable=False))
    params, _ = fixed.init(jax.random.key(0), x)
    params["layer"]["kernel"] = params["layer"]["kernel"].at[:, 0].set(0.0)
    gradient = jax.grad(lambda p: jnp.sum(fixed.apply(p, {}, x)[0]))(params)
    assert not np.any(gradient["layer"]["kernel"])
    assert np.isfinite(gradient["g"]["kernel"]).all()
    assert np.any(gradient["g"]["kernel"])
    with pytest.raises(ValueError, match="WeightNormalization: expected a layer with parameters named"):
        jl.WeightNormalization(jl.LayerNormalization()).init(jax.random.key(0), x)


@pytest.mark.parametrize("axis", [-1, 1])
def test_instance_normalization_by_its_formula(axis):
    x = data((2, 4, 5, 3))
    layer = jl.InstanceNormalization(axis, epsilon=1e-5, gamma_regularizer="l2")
    params, state = layer.init(jax.random.key(0), x)
    params = {k: jnp.asarray(data(p.shape, seed=i)) for i, (k, p) in enumerate(params.items())}
    over = (1, 2) if axis == -1 else (2, 3)
    shape = (3,) if axis == -1 else (4, 1, 1)
    wide = x.astype(np.float64)
    y = (wide - wide.mean(over, keepdims=True)) / np.sqrt(wide.var(over, keepdims=True) + 1e-5)
    gamma, beta = (np.asarray(params[name]).reshape(shape) for name in ("gamma", "beta"))
    y = y * gamma + beta
    np.testing.assert_allclose(layer.apply(params, state, jnp.asarray(x))[0], y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.penalty(params), 0.01 * np.sum(np.square(params["gamma"])), rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"tie_weights": False, "logit_soft_cap": 0.5}, {"reverse_dtype": "bfloat16"}],
    ids=str,
)
def test_reversible_embedding_equals_keras_s_both_ways(arguments):
    ids, x = data((2, 3), "int32"), data((2, 3, 4))

    def run_keras():
        theirs = keras.layers.ReversibleEmbedding(5, 4, **arguments)
        theirs.build(ids.shape)
        params = {v.name: jnp.asarray(data(v.shape, seed=i)) for i, v in enumerate(theirs.variables)}
        for v in theirs.variables:
            v.assign(params[v.name])
        return params, theirs(ids), theirs(x, reverse=True)

    params, vectors, logits = jax.tree.map(jnp.asarray, keras_values(run_keras))
    ours = jl.ReversibleEmbedding(5, 4, **arguments)
    for first in (ids, x):  # whichever way it is called first
        made = jax.eval_shape(lambda first=first: ours.init(jax.random.key(0), first)[0])
        assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in params.items()}
    np.testing.assert_array_equal(ours.apply(params, {}, jnp.asarray(ids))[0], vectors)
    received = ours.apply(params, {}, jnp.asarray(x))[0]
    assert received.dtype == logits.dtype
    np.testing.assert_allclose(received.astype(jnp.float32), logits.astype(jnp.float32), rtol=1e-5, atol=1e-5)


def test_a_model_with_a_tied_embedding_has_one_weight():
    ids = jl.Input((None,), dtype="int32", name="ids")
    embed = jl.ReversibleEmbedding(5, 4)
    model = jl.Model(ids, embed(jl.Dense(4, activation="tanh")(embed(ids))))
    x = jnp.asarray(data((2, 3), "int32"))
    params, state = model.init(jax.random.key(0), x)
    assert list(params) == ["reversible_embedding", "dense"]
    y = model.apply(params, state, x)[0]
    assert y.shape == (2, 3, 5)
    table, dense = params["reversible_embedding"]["embeddings"], params["dense"]
    by_hand = np.tanh(np.asarray(table)[np.asarray(x)] @ np.asarray(dense["kernel"])) @ np.asarray(table).T
    np.testing.assert_allclose(y, by_hand, rtol=1e-5, atol=1e-6)
    for again in (pickle.loads(pickle.dumps(model)), layers.get(model.to_data())):
        np.testing.assert_array_equal(again.apply(params, state, x)[0], y)
    with pytest.raises(ValueError, match=r"received output_dim=4, float32\(2, 3\); convert numbers"):
        embed.init(jax.random.key(0), (2, 3))
    with pytest.raises(ValueError, match="expected logit_soft_cap > 0"):
        jl.ReversibleEmbedding(5, 4, logit_soft_cap=0.0)


def test_reversible_embedding_hands_its_mask_through_both_ways():
    embed = jl.ReversibleEmbedding(6, 4, mask_zero=True)
    model = jl.Sequential(embed, jl.Dense(4), embed)
    ids = jnp.array([[3, 1, 0], [2, 0, 0]])
    params, state = model.init(jax.random.key(0), ids)
    logits, _ = model.apply(params, state, ids)
    assert logits.values.shape == (2, 3, 6)
    np.testing.assert_array_equal(logits.mask, ids != 0)
