"""The mixture of experts against NumPy, token by token."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data

import jlayers as jl


def by_hand(params, x, top_k, factor, weight):
    """Output and loss by loops over examples, choices and tokens."""
    batch, length, _ = x.shape
    router, kernel, bias = (
        np.asarray(p, np.float64)
        for p in (params["router_kernel"], params["expert"]["kernel"], params["expert"]["bias"])
    )
    experts = router.shape[1]
    logits = x.astype(np.float64) @ router
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    order = np.argsort(-p, axis=-1, kind="stable")[..., :top_k]
    room = length if factor is None else max(1, min(length, math.ceil(factor * top_k * length / experts)))
    y, used, dropped = np.zeros((batch, length, kernel.shape[2])), np.zeros(experts), 0
    for b in range(batch):
        left = [room] * experts
        for choice in range(top_k):
            for t in range(length):
                e = order[b, t, choice]
                used[e] += 1 / (batch * length * top_k)
                gate = p[b, t, e] / (p[b, t, order[b, t]].sum() if top_k > 1 else 1)
                if left[e] > 0:
                    y[b, t] += gate * np.tanh(x[b, t] @ kernel[e] + bias[e])
                else:
                    dropped += 1
                left[e] -= 1
    return y, weight * experts * np.sum(used * p.mean((0, 1))), dropped


@pytest.mark.parametrize(
    ("top_k", "factor", "drops"), [(1, 1.25, True), (1, None, False), (2, 1.0, True), (3, 2.0, False)]
)
def test_equals_a_loop_over_tokens(top_k, factor, drops):
    layer = jl.MoE(jl.Dense(3, activation="tanh"), 4, top_k, factor, aux_loss_weight=0.1)
    x = data((3, 7, 5))
    params, state = layer.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: jnp.asarray(data(p.shape, seed=4)), params)
    assert float(state["aux_loss"]) == 0.0
    y, moved = jax.jit(layer.apply)(params, state, jnp.asarray(x))
    expected, loss, dropped = by_hand(params, x, top_k, factor, 0.1)
    assert bool(dropped) == drops
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moved["aux_loss"], loss, rtol=1e-5)


def test_gradients_reach_the_router_and_every_expert_that_is_used():
    layer = jl.MoE(jl.Dense(3, activation="tanh"), 3, aux_loss_weight=0.1)
    x = jnp.asarray(data((2, 8, 4)))
    params, state = layer.init(jax.random.key(1), x)

    def both(params):
        y, moved = layer.apply(params, state, x)
        return jnp.stack([jnp.sum(y**2), moved["aux_loss"]])

    gradients = jax.jit(jax.jacrev(both))(params)
    by_output, by_loss = (jax.tree.map(lambda g, i=i: g[i], gradients) for i in range(2))
    assert np.all(np.any(by_output["router_kernel"], axis=0))
    assert np.all(np.any(by_output["expert"]["kernel"], axis=(1, 2)))
    assert np.any(by_loss["router_kernel"])
    assert not np.any(by_loss["expert"]["kernel"])


def test_the_loss_is_its_weight_for_even_use_and_more_for_one_expert():
    layer = jl.MoE(jl.Identity(), 2, capacity_factor=None, aux_loss_weight=0.5)
    router = {"router_kernel": jnp.array([[9.0, -9.0]])}
    state = {"aux_loss": jnp.zeros(())}
    apply = jax.jit(layer.apply)
    for x, expected in (([[1.0], [-1.0]], 0.5), ([[1.0], [1.0]], 1.0)):
        _, moved = apply(router, state, jnp.array(x))
        np.testing.assert_allclose(moved["aux_loss"], expected, rtol=1e-5)


def test_training_adds_the_loss_and_a_frozen_one_leaves_none():
    layer = jl.MoE(jl.Dense(1), 2, aux_loss_weight=0.5)
    x = data((8, 3))
    for model, extra in ((layer, True), (jl.Sequential(jl.freeze(layer), jl.Dense(1)), False)):
        trainer = jl.compile(model, "sgd", "mse")
        state = trainer.init(jax.random.key(0), x)
        y, _ = jax.jit(model.apply)(state.params, state.state, x)
        mse = np.mean((np.asarray(y) - x[:, :1]) ** 2)
        _, history = jl.fit(trainer, x, x[:, :1], batch_size=8, state=state)
        added = float(history["loss"][0]) - mse
        assert (0.3 < added <= 1.01) if extra else abs(added) < 1e-5


def test_experts_inside_draw_and_keep_states_of_their_own():
    expert = jl.Sequential(jl.Dense(4), jl.Dropout(0.5), jl.BatchNormalization())
    layer = jl.MoE(expert, 3, 2)
    x = jnp.asarray(data((2, 2, 3, 4)))  # more than one axis between batch and features
    params, state = layer.init(jax.random.key(0), x)
    train = jax.jit(lambda key: layer.apply(params, state, x, key=key, train=True))
    y, moved = train(jax.random.key(1))
    assert y.shape == x.shape
    means = moved["expert"]["batch_normalization"]["moving_mean"]
    assert means.shape == (3, 4)
    assert len(np.unique(np.asarray(means), axis=0)) == 3


def test_errors_teach():
    with pytest.raises(ValueError, match=r"top_k of at most num_experts=2, received top_k=3"):
        jl.MoE(jl.Dense(2), 2, 3)
    with pytest.raises(ValueError, match=r"capacity_factor > 0, or None, received capacity_factor=0"):
        jl.MoE(jl.Dense(2), 2, capacity_factor=0)
    layer = jl.MoE(jl.Flatten(), 2)
    made = layer.init(jax.random.key(0), (2, 4, 3))
    with pytest.raises(ValueError, match="expected the expert to give"):
        layer.apply(*made, jnp.ones((2, 4, 3)))
    layer = jl.MoE(jl.Dense(2), 2)
    params, state = layer.init(jax.random.key(0), (2, 4, 3))
    with pytest.raises(ValueError, match="expected 3 features"):
        layer.apply(params, state, jnp.ones((2, 4, 5)))
