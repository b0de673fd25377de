"""Other layers in the places of those inside a model: weights, sharing, freezing, precision, YAML."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import LayerLike, layers
from jlayers.core.tree import flatten


@jl.layer
def Doubled(layer: LayerLike):
    """Twice the output of a layer."""
    return jl.routed({"layer": layer}, lambda call, *xs: 2 * call("layer", *xs), wraps="layer")


@jl.layer
def Tower(units: int = 3):
    """Makes its layers itself."""
    return jl.Sequential(jl.Input((4,)), jl.Dense(units, name="in"), jl.Dense(units, name="out"))


def same(a, b):
    assert flatten(a).keys() == flatten(b).keys()
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y), a, b)


def copies(model):
    """What survives pickle, and YAML's data."""
    return pickle.loads(pickle.dumps(model)), layers.get(model.to_data())


def test_names_stay_and_weights_move_one_level_down():
    model = jl.Sequential(jl.Dense(3), jl.Dense(3), jl.Dense(2, name="head"))
    new = jl.substitute(model, {"dense_1": Doubled})
    assert list(new.children) == ["dense", "dense_1", "head"]
    params, state = model.init(jax.random.key(0), (2, 4))
    moved = {**params, "dense_1": {"layer": params["dense_1"]}}
    assert flatten(new.init(jax.random.key(0), (2, 4))[0]).keys() == flatten(moved).keys()
    x = jnp.ones((2, 4))
    hidden = model.children["dense_1"].apply(
        params["dense_1"], {}, model.children["dense"].apply(params["dense"], {}, x)[0]
    )[0]
    expected = model.children["head"].apply(params["head"], {}, 2 * hidden)[0]
    np.testing.assert_allclose(new.apply(moved, state, x)[0], expected, rtol=1e-6)
    for again in copies(new):
        assert again.to_data() == new.to_data()
        np.testing.assert_array_equal(again.apply(moved, state, x)[0], new.apply(moved, state, x)[0])


def test_a_graph_keeps_its_nodes_and_shared_layers_stay_shared():
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    encode = jl.Dense(3)
    model = jl.Model([a, b], jl.Dense(1)(jl.Concatenate()([encode(a), encode(b)])))
    new = jl.substitute(model, {"dense": Doubled})
    assert list(new.children) == list(model.children)
    assert new.structure == model.structure
    params, _ = new.init(jax.random.key(0), (2, 4), (2, 4))
    assert list(flatten(params)) == [
        "dense/layer/kernel",
        "dense/layer/bias",
        "dense_1/kernel",
        "dense_1/bias",
    ]
    for again in copies(new):
        assert again.to_data() == new.to_data()
    chain = jl.substitute(jl.Sequential(encode2 := jl.Dense(4), encode2), {"dense": Doubled})
    assert list(chain.children) == ["dense"]
    assert chain.structure.order == ("dense", "dense")


def test_what_is_frozen_and_precise_stays():
    model = jl.freeze(jl.Sequential(jl.Dense(4, name="a"), jl.Sequential(jl.Dense(4), name="b")), "a")
    model = jl.with_precision(model, {"b": "mixed_bfloat16"})
    new = jl.substitute(model, {"a": Doubled, "b/dense": Doubled})
    assert new.frozen == {"a/layer"}  # the wrapper has nothing frozen of its own
    assert set(new.precision) == {"b", "b/dense", "b/dense/layer"}
    params, _ = new.init(jax.random.key(0), (2, 4))
    mask = flatten(jl.trainable_mask(new, params))
    assert not mask["a/layer/kernel"]
    assert mask["b/dense/layer/kernel"]
    for again in copies(new):
        assert (again.frozen, again.precision) == (new.frozen, new.precision)
        assert again.to_data() == new.to_data()


def test_layers_inside_are_replaced_first_and_the_later_pattern_holds():
    model = jl.Sequential(jl.Sequential(jl.Dense(4), name="block"))
    new = jl.substitute(model, {"block": jl.Remat, "**/dense": Doubled})
    assert [path for path, _ in new.walk()] == [
        "",
        "block",
        "block/layer",
        "block/layer/dense",
        "block/layer/dense/layer",
    ]
    assert jl.substitute(model, {"block/*": Doubled, "block/dense": lambda layer: layer}) is model
    assert jl.substitute(model, {"": Doubled}).children["layer"] is model


def test_a_layer_that_a_constructor_made_is_replaced_but_not_written_down():
    model = Tower(2)
    new = jl.substitute(model, {"out": Doubled})
    assert repr(new) == "Tower(units=2, substituted={'out': Doubled(Dense(2, name='out'), name='out')})"
    assert list(new.children) == list(model.children)
    params, state = new.init(jax.random.key(0), (1, 4))
    assert "out/layer/kernel" in flatten(params)
    x = jnp.ones((1, 4))
    plain = {**params, "out": params["out"]["layer"]}
    np.testing.assert_allclose(new.apply(params, state, x)[0], 2 * model.apply(plain, state, x)[0], rtol=1e-6)
    with pytest.raises(TypeError, match=r"Tower cannot be written down: .*'out'.*jl\.substitute"):
        new.to_data()
    frozen = jl.with_precision(jl.freeze(new, "in"), {"out": "mixed_bfloat16"})
    for one in (new, frozen):
        again = pickle.loads(pickle.dumps(one))
        assert repr(again) == repr(one)
        assert (again.frozen, again.precision) == (one.frozen, one.precision)
        same(again.init(jax.random.key(0), (1, 4))[0], one.init(jax.random.key(0), (1, 4))[0])
    assert repr(new.replace(units=5)).startswith("Tower(units=5, substituted=")
    outer = jl.Sequential(new, jl.Dense(1))
    assert "tower/out/layer/kernel" in flatten(outer.init(jax.random.key(0), (1, 4))[0])
    with pytest.raises(TypeError, match="cannot be written down"):
        outer.to_data()


def test_a_constructor_that_returns_a_substituted_model_is_written_down():
    @jl.layer
    def DoubledTower(units: int = 3):
        return jl.substitute(Tower(units), {"out": Doubled})

    model = DoubledTower(2)
    assert model.to_data() == {"DoubledTower": {"units": 2}}
    assert "out/layer" in dict(model.walk())


def test_a_layer_inside_attention_is_replaced():
    model = jl.Sequential(jl.TransformerEncoder(4, 8, 2), name="encoder")
    new = jl.substitute(model, {"**/query": lambda layer: jl.LoRA(layer, 2)})
    params, _ = new.init(jax.random.key(0), (1, 3, 4))
    adapted = [path for path in flatten(params) if "lora_a" in path]
    assert adapted
    assert all("/query/lora_a" in path for path in adapted)
    x = jnp.ones((1, 3, 4))
    assert new.apply(params, new.init(jax.random.key(0), x)[1], x)[0].shape == (1, 3, 4)


def test_lora_by_substitution_is_merged():
    model = jl.substitute(
        jl.Sequential(jl.Dense(3, name="a"), jl.Dense(3, name="b")), {"b": lambda layer: jl.LoRA(layer, 1)}
    )
    x = jnp.ones((2, 4))
    params, state = model.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p + 0.1, params)
    plain, merged, plain_state = jl.merge_lora(model, params, state)
    assert list(plain.children) == ["a", "b"]
    np.testing.assert_allclose(
        plain.apply(merged, plain_state, x)[0], model.apply(params, state, x)[0], rtol=1e-5
    )


def test_lora_that_a_constructor_made_is_merged():
    @jl.layer
    def Tuned(units: int):
        return jl.Sequential(jl.LoRA(jl.Dense(units), 1), jl.Dense(2))

    model, x = Tuned(3), jnp.ones((2, 4))
    params, state = model.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p + 0.1, params)
    plain, merged, plain_state = jl.merge_lora(model, params, state)
    np.testing.assert_allclose(
        plain.apply(merged, plain_state, x)[0], model.apply(params, state, x)[0], rtol=1e-5
    )


def test_errors_teach():
    model = jl.Sequential(jl.Dense(3, name="head"))
    with pytest.raises(ValueError, match=r"'haed' matches no layer of the model: did you mean 'head'\?"):
        jl.substitute(model, {"haed": Doubled})
    with pytest.raises(TypeError, match="expected a layer in the place of 'head', received 3"):
        jl.substitute(model, {"head": lambda layer: 3})
    with pytest.raises(ValueError, match="has no layer 'haed' directly inside"):
        model.with_children({"haed": jl.Dense(3)})
