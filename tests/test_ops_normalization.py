"""Normalization against textbook and plain forms: values, all kinds of derivatives, what a step keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.ops.normalization import moments, normalized, normalized_plain

NORM = jl.BatchNormalization(epsilon=1e-3)


def layer(x, gamma, beta):
    state = {"moving_mean": jnp.zeros(gamma.shape), "moving_variance": jnp.ones(gamma.shape)}
    y, state = NORM.apply({"gamma": gamma, "beta": beta}, state, x, train=True)
    return y, state["moving_mean"], state["moving_variance"]


def textbook(x, gamma, beta):
    wide = x.astype(jnp.float32)
    centered = wide - wide.mean((0, 1), keepdims=True)
    variance = jnp.square(centered).mean((0, 1), keepdims=True)
    y = centered / jnp.sqrt(variance + 1e-3) * gamma.reshape(1, 1, 3) + beta.reshape(1, 1, 3)
    return y.astype(x.dtype), 0.01 * wide.mean((0, 1)), 0.99 + 0.01 * variance.reshape(3)


def inputs(mean=3.0):
    rng = np.random.default_rng(0)
    x = mean + rng.normal(size=(6, 5, 3))
    return tuple(jnp.asarray(a, jnp.float32) for a in (x, rng.normal(size=3), rng.normal(size=3)))


def close(received, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), tolerance, tolerance)


def test_values_gradients_forward_mode_and_second_derivatives():
    def all_of(form, *args):
        def loss(*args):
            y, mean, variance = form(*args)
            return jnp.sum(jnp.sin(y)) + jnp.sum(mean * variance)

        gradient = functools.partial(jax.grad(loss, (0, 1, 2)))
        moved = tuple(map(jnp.cos, args))
        mapped = jax.vmap(gradient, (0, None, None))(jnp.stack([args[0], -args[0]]), *args[1:])
        return (
            form(*args),
            gradient(*args),
            jax.grad(jax.checkpoint(loss))(*args),
            jax.jvp(form, args, moved)[1],
            jax.jvp(gradient, args, moved)[1],
            mapped,
            form(args[0].astype(jnp.bfloat16), *args[1:])[1:],
        )

    close(
        *(jax.jit(functools.partial(all_of, form))(*inputs()) for form in (layer, textbook)), tolerance=1e-4
    )


def test_a_large_mean_costs_no_more_than_the_rounding_of_the_data():
    x, gamma, beta = inputs(mean=1e4)

    def gradient(form, *args):
        return jax.jit(jax.grad(lambda *args: jnp.sum(jnp.sin(form(*args)[0])), (0, 1, 2)))(*args)

    shifted = x - 1e4  # exact
    close(gradient(layer, x, gamma, beta), gradient(layer, shifted, gamma, beta), tolerance=1e-3)
    variance = moments(x, (0, 1)).variance
    np.testing.assert_allclose(variance, jnp.var(shifted, (0, 1), keepdims=True), 1e-4)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA keeps on CPUs")
def test_a_training_step_keeps_two_arrays_for_each_normalization():
    x = jnp.ones((512, 64, 8))

    def memory(depth):
        kinds = (lambda: jl.Dense(8), jl.BatchNormalization, jl.ReLU)
        model = jl.Sequential(*[kind() for _ in range(depth) for kind in kinds])
        params, state = jax.eval_shape(lambda: model.init(jax.random.key(0), x))

        def loss(params, state, x):
            return jnp.sum(model.apply(params, state, x, train=True)[0] ** 2)

        used = jax.jit(jax.grad(loss)).lower(params, state, x).compile().memory_analysis()
        return used.temp_size_in_bytes / x.nbytes

    assert memory(6) - memory(2) < 4 * 2.5


@pytest.mark.parametrize("axes", [(2,), (1, 2)])
def test_layer_normalization_has_the_derivatives_of_its_plain_form(axes):
    @functools.partial(jax.jit, static_argnums=0)
    def all_of(form, x):
        def loss(x):
            return jnp.sum(jnp.sin(form(x, axes, 1e-3)))

        gradient = jax.grad(loss)
        forward = jax.jvp(lambda x: form(x, axes, 1e-3), (x,), (jnp.cos(x),))
        return forward, gradient(x), jax.jvp(gradient, (x,), (jnp.cos(x),)), jax.vmap(gradient)(x[None])

    x = inputs()[0]
    close(all_of(normalized, x), all_of(normalized_plain, x), 1e-4)


def test_layer_normalization_keeps_its_precision_far_from_zero():
    x = np.random.default_rng(0).normal(1e4, 1, (4, 64)).astype(np.float32)
    dy = np.cos(np.arange(256, dtype=np.float32)).reshape(4, 64)
    y, back = jax.vjp(lambda x: normalized(x, (1,), 1e-5), jnp.asarray(x))
    wide = x.astype(np.float64)
    scale = 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    expected = (wide - wide.mean(1, keepdims=True)) * scale
    moved = dy - dy.mean(1, keepdims=True) - expected * (dy * expected).mean(1, keepdims=True)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(back(jnp.asarray(dy))[0], moved * scale, rtol=1e-4, atol=1e-4)


def test_values_that_are_not_finite_stay_in_their_row():
    x = inputs()[0].at[0, 1, 0].set(jnp.nan).at[1, 2, 1].set(jnp.inf)
    received, expected = (
        jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(jnp.sin(f(x, (1, 2), 1e-3))[2:])))(x)
        for f in (normalized, normalized_plain)
    )
    assert bool(jnp.isfinite(received[1][2:]).all())
    close(received, expected)
