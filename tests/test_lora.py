"""LoRA on any layer: against Keras's own, what it trains, and that merging changes no output."""

import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from keras_parity import data
from keras_values import keras_values

import jlayers as jl
from jlayers.core.layer import layers
from jlayers.core.tree import flatten, unflatten


def drawn(tree, seed=1):
    """Random values in the place of all arrays, so that no product is zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(0.5 * rng.normal(size=p.shape), p.dtype), tree)


def paths(tree):
    return {path: leaf.shape for path, leaf in flatten(tree).items()}


@pytest.mark.parametrize(
    ("name", "arguments", "x"),
    [
        ("Dense", {"units": 5}, data((3, 4))),
        (
            "EinsumDense",
            {"equation": "abc,cde->abde", "output_shape": (None, 2, 3), "bias_axes": "de"},
            data((2, 3, 4)),
        ),
        ("Conv2D", {"filters": 3, "kernel_size": (2, 3), "strides": 2}, data((2, 5, 4, 2))),
        ("Embedding", {"input_dim": 5, "output_dim": 4}, data((2, 3), "int32")),
    ],
)
def test_equals_keras_s_lora(name, arguments, x):
    kernel = "embeddings" if name == "Embedding" else "kernel"

    def run_keras():
        theirs = getattr(keras.layers, name)(**arguments)
        theirs.build(x.shape)
        theirs.enable_lora(2, lora_alpha=8)
        named = {
            **{v.name: v for v in theirs.variables if v.name in ("kernel", "bias", "embeddings")},
            "lora_a": getattr(theirs, f"lora_{kernel}_a"),
            "lora_b": getattr(theirs, f"lora_{kernel}_b"),
        }
        values = {k: jnp.asarray(data(v.shape, seed=i)) for i, (k, v) in enumerate(named.items())}
        for key, variable in named.items():
            variable.assign(values[key])
        return theirs(x), values, [v.name for v in theirs.trainable_variables]

    expected, values, trained_there = keras_values(run_keras)
    values = {k: jnp.asarray(v) for k, v in values.items()}
    ours = jl.LoRA(getattr(jl, name)(**arguments), rank=2, alpha=8)
    params, state = ours.init(jax.random.key(0), x)
    given = {
        "layer": {k: v for k, v in values.items() if not k.startswith("lora")},
        "lora_a": {kernel: values["lora_a"]},
        "lora_b": {kernel: values["lora_b"]},
    }
    assert paths(given) == paths(params)
    np.testing.assert_allclose(ours.apply(given, state, x)[0], expected, rtol=1e-5, atol=1e-5)
    # Keras continues training the bias; here all of the layer is frozen, as in the paper.
    assert ("bias" in values) == ("bias" in trained_there)
    mask = flatten(jl.trainable_mask(ours, params))
    assert {path for path, trained in mask.items() if trained} == {f"lora_a/{kernel}", f"lora_b/{kernel}"}


def tower():
    x = jl.Input((4, 6), name="x")
    y = jl.MultiHeadAttention(2, 3, name="attention")(x, x)
    y = jl.Repeat(jl.Residual(jl.Dense(6, activation="tanh")), 3, name="deep")(y)
    y = jl.BatchNormalization(name="norm")(y)
    y = jl.GRU(3, recurrent_initializer="glorot_uniform", name="gru")(y)
    return jl.Model(x, jl.Dense(2, name="head", kernel_regularizer="l2")(y))


@pytest.mark.slow
def test_a_whole_model_is_adapted_trained_and_merged():
    base, x = tower(), jnp.asarray(data((2, 4, 6)))
    start, state = base.init(jax.random.key(3), x)
    model = jl.LoRA(base, rank=2, alpha=3.0)
    params, model_state = model.init(jax.random.key(0), x)
    kernels = {path for path in flatten(start) if path.endswith("kernel")}
    assert set(flatten(params["lora_a"])) == set(flatten(params["lora_b"])) == kernels
    assert params["lora_a"]["deep"]["layer"]["layer"]["kernel"].shape == (3, 6, 2)
    assert params["lora_b"]["deep"]["layer"]["layer"]["kernel"].shape == (3, 2, 6)
    assert jax.tree.all(jax.tree.map(np.array_equal, model_state, {"layer": state}))
    params["layer"] = start  # pretrained weights fit under layer
    np.testing.assert_array_equal(model.apply(params, model_state, x)[0], base.apply(start, state, x)[0])

    def loss(params):
        y, moved = model.apply(params, model_state, x, train=True)
        return jnp.sum(y**2) + model.penalty(params), moved

    params |= drawn({k: params[k] for k in ("lora_a", "lora_b")})
    (_, moved), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert jax.tree.all(jax.tree.map(np.array_equal, moved, model_state)), "the base is in inference mode"
    assert all(not np.any(g) for g in jax.tree.leaves(gradients["layer"]))
    for part in ("lora_a", "lora_b"):
        assert all(np.any(g) for g in jax.tree.leaves(gradients[part])), part

    plain, merged, plain_state = jl.merge_lora(model, params, model_state)
    assert plain is base
    assert paths(merged) == paths(start)
    flat, a, b = (flatten(tree) for tree in (start, params["lora_a"], params["lora_b"]))
    for path in kernels:
        rows = np.asarray(a[path]).reshape(*(a[path].shape[:1] if "deep" in path else ()), -1, 2)
        product = (rows @ np.asarray(b[path])).reshape(flat[path].shape)
        flat[path] = flat[path] + np.float32(1.5) * product
    jax.tree.map(lambda m, e: np.testing.assert_allclose(m, e, rtol=1e-5, atol=1e-6), merged, unflatten(flat))
    np.testing.assert_allclose(
        plain.apply(merged, plain_state, x)[0], model.apply(params, model_state, x)[0], rtol=1e-5, atol=1e-6
    )


def test_a_head_that_is_unfrozen_trains_beside_the_adapters():
    base = jl.Sequential(jl.Dense(4, name="body"), jl.BatchNormalization(), jl.Dense(2, name="head"))
    model = jl.unfreeze(jl.LoRA(base, 2, targets="body/kernel"), "layer/head")
    x = jnp.asarray(data((5, 3)))
    params, state = model.init(jax.random.key(0), x)
    trained = {path for path, yes in flatten(jl.trainable_mask(model, params)).items() if yes}
    assert trained == {"layer/head/kernel", "layer/head/bias", "lora_a/body/kernel", "lora_b/body/kernel"}
    params |= drawn({k: params[k] for k in ("lora_a", "lora_b")})

    def loss(params):
        y, moved = model.apply(params, state, x, train=True)
        return jnp.sum(y**2), moved

    gradients, moved = jax.grad(loss, has_aux=True)(params)
    assert {path for path, g in flatten(gradients).items() if np.any(g)} == trained
    assert jax.tree.all(jax.tree.map(np.array_equal, moved, state))
    frozen = jl.freeze(model)
    gradients = jax.grad(lambda p: jnp.sum(frozen.apply(p, state, x)[0]))(params)
    assert not any(np.any(g) for g in jax.tree.leaves(gradients))


def test_training_moves_the_adapters_alone():
    model = jl.LoRA(jl.Sequential(jl.Dense(8, activation="tanh"), jl.Dropout(0.5), jl.Dense(1)), rank=2)
    x = data((16, 3))
    trainer = jl.compile(model, optax.adamw(1e-2), "mse")
    start = trainer.init(jax.random.key(0), x[:4])
    kept = {path: np.array(value) for path, value in flatten(start.params).items()}
    state, history = jl.fit(trainer, x, x[:, :1], epochs=4, batch_size=8, state=start)
    assert history["loss"][-1] < history["loss"][0]
    for path, value in flatten(state.params).items():
        assert np.array_equal(value, kept[path]) == path.startswith("layer/"), path


def test_merging_inside_containers_keeps_sharing_and_other_layers():
    shared = jl.LoRA(jl.Dense(3), 1)
    deep = jl.Repeat(jl.LoRA(jl.Dense(3, activation="tanh"), 2), 2)
    model = jl.Sequential(jl.Dense(3), shared, jl.BatchNormalization(), deep, shared)
    x = jnp.asarray(data((2, 4)))
    params, state = model.init(jax.random.key(0), x)
    params = drawn(params)
    plain, merged, plain_state = jl.merge_lora(model, params, state)
    assert list(plain.children) == ["dense", "dense_1", "batch_normalization", "repeat"]
    np.testing.assert_allclose(
        plain.apply(merged, plain_state, x)[0], model.apply(params, state, x)[0], rtol=1e-5, atol=1e-6
    )
    for made, again in ((model, pickle.loads(pickle.dumps(model))), (deep, layers.get(deep.to_data()))):
        assert again.to_data() == made.to_data()
        assert again.frozen == made.frozen


def test_what_an_adapted_layer_carries_moves_in_inference_alone():
    rnn = jl.SimpleRNN(2, stateful=True, recurrent_initializer="glorot_uniform")
    model, x = jl.LoRA(rnn, 1), jnp.asarray(data((2, 3, 4)))
    params, state = model.init(jax.random.key(0), x)
    y, moved = model.apply(params, state, x)
    np.testing.assert_array_equal(moved["layer"]["carry"]["h"], y)
    _, kept = model.apply(params, moved, x, train=True)
    np.testing.assert_array_equal(kept["layer"]["carry"]["h"], y)


def test_errors_teach():
    with pytest.raises(ValueError, match=r"LoRA: expected rank .*received rank=0"):
        jl.LoRA(jl.Dense(2), 0)
    with pytest.raises(ValueError, match="without LoRA inside"):
        jl.LoRA(jl.Sequential(jl.LoRA(jl.Dense(2), 1)), 1)
    with pytest.raises(ValueError, match=r"named kernel, embeddings .*\['beta', 'gamma'\]"):
        jl.LoRA(jl.LayerNormalization(), 1).init(jax.random.key(0), (2, 3))
    with pytest.raises(
        ValueError, match=r"'\*\*/kernle' matches none, received targets=.*; valid: dense/kernel"
    ):
        jl.LoRA(jl.Sequential(jl.Dense(2)), 1, targets=["**/kernle"]).init(jax.random.key(0), (2, 3))
    with pytest.raises(ValueError, match="merge_lora: expected a model with LoRA inside"):
        jl.merge_lora(jl.Dense(2), {}, {})


def test_adapters_are_saved_alone_put_back_and_merged(tmp_path):
    plain = jl.Sequential(jl.Dense(16, activation="relu"), jl.Dense(3))
    model = jl.LoRA(plain, rank=2, b_initializer="normal")
    params, state = model.init(jax.random.key(0), (2, 8))
    adapters = jl.trained_params(model, params)
    assert list(adapters) == ["lora_a", "lora_b"]
    jl.save_weights(tmp_path / "adapters.safetensors", adapters)
    jl.save_weights(tmp_path / "base.safetensors", params["layer"])
    other, _ = model.init(jax.random.key(1), (2, 8))
    base, _ = jl.load_weights(tmp_path / "base.safetensors", other["layer"], {})
    given = {**other, "layer": base}
    loaded, _, report = jl.load_weights(tmp_path / "adapters.safetensors", given, state, partial=True)
    assert len(report.loaded) == 4
    assert not jl.diff(loaded, params)
    merged, weights, rest = jl.merge_lora(model, loaded, state)
    x = jax.numpy.ones((2, 8))
    expected = model.apply(params, state, x)[0]
    np.testing.assert_allclose(merged.apply(weights, rest, x)[0], expected, rtol=1e-5, atol=1e-6)
