"""Residual, Repeat and Remat against the same thing written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl


def block(rate=0.0):
    return jl.Sequential(jl.Dense(4, activation="tanh"), jl.BatchNormalization(), jl.Dropout(rate))


def test_repeat_equals_the_stack_written_out(key):
    x = jax.random.normal(key, (8, 4))
    tower = jl.Repeat(jl.Residual(block()), times=3)
    params, state = tower.init(key, x)
    assert params["layer"]["layer"]["dense"]["kernel"].shape == (3, 4, 4)
    kernels = params["layer"]["layer"]["dense"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])
    output, moved = tower.apply(params, state, x, key=key, train=True)
    one, y, states = jl.Residual(block()), x, []
    for i in range(3):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], (params["layer"], state["layer"]))
        y, s = one.apply(*mine, y, key=key, train=True)
        states.append(s)
    np.testing.assert_allclose(output, y, rtol=1e-5, atol=1e-6)
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), moved["layer"], expected)


def test_repeat_draws_anew_at_each_depth(key):
    x = jnp.ones((1, 1000))
    y, _ = jl.Repeat(jl.Dropout(0.5), times=2).apply({}, {}, x, key=key, train=True)
    assert 0.2 < float(jnp.mean((y > 0).astype(jnp.float32))) < 0.3


def test_repeat_compiles_one_block_whatever_the_depth(key):
    x = jnp.ones((2, 4))

    def lines(times):
        tower = jl.Repeat(jl.Dense(4), times=times)
        params, state = tower.init(key, x)
        return jax.jit(lambda p: tower.apply(p, state, x)[0]).lower(params).as_text().count("\n")

    assert lines(64) == lines(2)


def test_freezing_reaches_inside(key):
    x = jax.random.normal(key, (8, 4))
    model = jl.freeze(jl.Repeat(block(0.5), times=2), "layer/batch_normalization", "layer/dropout")
    params, state = model.init(key, x)
    assert "gamma" in params["layer"]["batch_normalization"]
    _, moved = model.apply(params, state, x, train=True)
    jax.tree.map(np.testing.assert_array_equal, moved, state)


def test_remat_changes_nothing_but_memory(key):
    x = jax.random.normal(key, (8, 4))
    plain, remat = block(0.5), jl.Remat(block(0.5))
    params, state = remat.init(key, x)

    def loss(layer, params, state):
        y, moved = layer.apply(params, state, x, key=key, train=True)
        return jnp.sum(y**2), moved

    (value, moved), gradients = jax.value_and_grad(lambda p: loss(remat, p, state), has_aux=True)(params)
    assert np.isfinite(value)
    assert jax.tree.structure(moved) == jax.tree.structure(state)
    text = str(jax.make_jaxpr(jax.grad(lambda p: loss(remat, p, state)[0]))(params))
    assert "remat" in text or "checkpoint" in text
    quiet = jl.Remat(block())
    ours = jax.grad(lambda p: loss(quiet, p, state)[0])(params)["layer"]
    theirs = jax.grad(lambda p: loss(block(), p, state["layer"])[0])(params["layer"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)
    assert jax.tree.structure(gradients) == jax.tree.structure(params)
    assert plain.draws


@pytest.mark.parametrize("make", [lambda: jl.Residual(jl.Dense(3)), lambda: jl.Repeat(jl.Dense(3), times=2)])
def test_a_changed_shape_teaches(key, make):
    layer = make()
    text = r"keeps the shape and dtype float32\(2, 4\), received float32\(2, 3\)"
    with pytest.raises(ValueError, match=text):
        layer.apply(*layer.init(key, (2, 4)), jnp.ones((2, 4)))


def test_repeat_takes_a_positive_number(key):
    with pytest.raises(ValueError, match="received times=0"):
        jl.Repeat(jl.Dense(3), times=0)


def test_a_part_in_inference_mode_is_trained_all_the_same(key):
    inside = jl.Sequential(jl.Dense(4), jl.BatchNormalization(), jl.Dropout(0.5))
    model = jl.Sequential(jl.Inference(inside), jl.Dense(1))
    x = 3 * jax.random.normal(key, (8, 3)) + 1
    params, state = model.init(key, x)

    def loss(params):
        output, moved = model.apply(params, state, x, train=True)  # no key: nothing draws
        return jnp.mean(jnp.square(output)), moved

    gradients, moved = jax.grad(loss, has_aux=True)(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), moved, state))
    assert all(np.any(g) for g in jax.tree.leaves(gradients["inference"]["layer"]["batch_normalization"]))
    own, _ = inside.apply(params["inference"]["layer"], state["inference"]["layer"], x)
    np.testing.assert_array_equal(
        own, model.children["inference"].apply(params["inference"], state["inference"], x, train=True)[0]
    )
    mask = jl.trainable_mask(model, params)["inference"]["layer"]
    assert mask["batch_normalization"] == {"gamma": True, "beta": True}
