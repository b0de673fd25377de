"""Freezing as a static fact; that training respects it is proven in test_freeze_training.py."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl


@pytest.fixture
def model():
    base = jl.Sequential(
        jl.Dense(4, kernel_regularizer="l2"), jl.BatchNormalization(), jl.Dropout(0.5), name="base"
    )
    return jl.Sequential(base, jl.Dense(2, name="head"))


def test_freeze_matches_layers_and_all_inside(model):
    inside = {"base", "base/dense", "base/batch_normalization", "base/dropout"}
    assert jl.freeze(model, "base").frozen == inside
    assert jl.freeze(model, "base/**").frozen == inside
    assert jl.freeze(model, "**/dense").frozen == {"base/dense"}
    assert jl.freeze(model).frozen == inside | {"", "head"}
    assert jl.freeze(jl.freeze(model, "head"), "base/dense").frozen == {"head", "base/dense"}
    assert model.frozen == set()


def test_unfreeze(model):
    frozen = jl.freeze(model)
    assert jl.unfreeze(frozen).frozen == set()
    assert jl.unfreeze(frozen, "head").frozen == jl.freeze(model, "base").frozen
    assert jl.unfreeze(jl.freeze(model, "base"), "base/dense").frozen == {
        "base/batch_normalization",
        "base/dropout",
    }
    assert jl.unfreeze(jl.freeze(model, "base")) is model


def test_trainable_false_is_freezing(key):
    dense = jl.Dense(3, trainable=False)
    assert dense.frozen == {""}
    assert repr(dense) == "Dense(3, trainable=False)"
    assert dense.to_data() == {"Dense": {"units": 3, "trainable": False}}
    model = jl.Sequential(dense, jl.Dense(2))
    assert model.frozen == {"dense"}
    assert model.to_data() == jl.core.layer.layers.get(model.to_data()).to_data()
    assert jl.unfreeze(model).frozen == set()
    assert jl.core.layer.layers.get(jl.unfreeze(model).to_data()).frozen == set()
    assert dense.replace(units=4).frozen == {""}
    assert dense.replace(trainable=True).frozen == set()


def test_a_frozen_model_round_trips_as_data(model):
    frozen = jl.freeze(model, "base/dense", "head")
    assert jl.core.layer.layers.get(frozen.to_data()).frozen == {"base/dense", "head"}


def test_the_mask_follows_the_deepest_owner(model, key):
    params, _ = model.init(key, (2, 3))
    mask = jl.trainable_mask(jl.freeze(model, "base/dense"), params)
    assert mask == {
        "base": {
            "dense": {"kernel": False, "bias": False},
            "batch_normalization": {"gamma": True, "beta": True},
        },
        "head": {"kernel": True, "bias": True},
    }


def test_frozen_layers_run_in_inference_mode_and_keep_their_state(model, key):
    frozen = jl.freeze(model, "base")
    x = jax.random.normal(key, (8, 3))
    params, state = frozen.init(key, x)
    expected, _ = model.apply(params, state, x)
    output, moved = frozen.apply(params, state, x, train=True)  # no key: frozen dropout draws nothing
    np.testing.assert_array_equal(output, expected)
    jax.tree.map(np.testing.assert_array_equal, moved, state)
    gradients = jax.grad(lambda p: jnp.sum(frozen.apply(p, state, x, train=True)[0]))(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients["base"]))
    assert np.any(gradients["head"]["kernel"])
    towards_x = jax.grad(lambda x: jnp.sum(frozen.apply(params, state, x)[0]))(x)
    assert np.any(towards_x)
    assert float(frozen.penalty(params)) == 0.0


def test_a_pattern_that_matches_nothing_names_the_nearest(model):
    with pytest.raises(ValueError, match="'bases' matches no layer of the model: did you mean 'base'"):
        jl.freeze(model, "bases")
    with pytest.raises(ValueError, match="matches no layer"):
        jl.unfreeze(model, "base/*/kernel")


def test_what_a_constructor_returns_frozen_can_be_unfrozen(key):
    @jl.layer
    def Settled(units: int):
        return jl.Dense(units, trainable=False)

    layer = Settled(2)
    assert layer.frozen == {""}
    assert jl.core.layer.layers.get(layer.to_data()).frozen == {""}
    thawed = jl.unfreeze(layer)
    assert thawed.frozen == set()
    params, state = thawed.init(key, (3, 2))
    gradients = jax.grad(lambda p: jnp.sum(thawed.apply(p, state, jnp.ones((3, 2)))[0]))(params)
    assert np.all(gradients["bias"] == 3)


REMADE = {
    "freeze": lambda model, head: jl.freeze(model, "base"),
    "unfreeze": lambda model, head: jl.unfreeze(jl.freeze(model), "head"),
    "with_precision": lambda model, head: jl.with_precision(model, "mixed_bfloat16"),
    "cut": lambda model, head: jl.cut(jl.freeze(model, "base"), "base/dense"),
    "replace_head": lambda model, head: jl.replace_head(jl.freeze(model), head),
    "insert": lambda model, head: jl.insert(model, head, after="base"),
}


@pytest.mark.parametrize("make", REMADE.values(), ids=REMADE)
def test_the_same_change_of_a_model_is_traced_once(make, key):
    traces = []

    @jl.layer
    def Noted():
        def apply(params, x):
            traces.append(x.shape)
            return x * 2

        return jl.no_params, apply

    base = jl.Sequential(Noted(), jl.Dense(4), name="base")
    model, head, x = jl.Sequential(base, jl.Dense(2, name="head")), jl.Dense(3, name="new"), np.ones((2, 5))
    x = x.astype(np.float32)
    params, state = make(model, head).init(key, x)
    del traces[:]
    for _ in range(3):
        once = jl.predict(make(model, head), (params, state), x)
    jitted = [jax.jit(make(model, head).apply)(params, state, x)[0] for _ in range(3)]
    np.testing.assert_allclose(jitted[2], once, rtol=1e-5)
    assert len(traces) == 3  # to look for tables, to predict, and by jax.jit


def test_a_changed_model_goes_with_the_model():
    model = jl.Sequential(jl.Dense(2, name="base"), jl.Dense(2))
    there = [weakref.ref(made) for made in (model, jl.freeze(model, "base"), jl.cut(model, "base"))]
    del model
    gc.collect()
    assert [made() for made in there] == [None] * 3
    model = jl.Sequential([jl.Dense(2) for _ in range(40)], name="deep")
    for name in model.children:
        jl.freeze(model, name)
    assert len(model._kept) <= 16
