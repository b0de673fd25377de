"""Penalties: values against Keras, gradients, names, and whose parameter they belong to."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_values import keras_values

import jlayers as jl
from jlayers import regularizers

W = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("l1", {}),
        ("l1", {"l1": 0.3}),
        ("l2", {}),
        ("l2", {"l2": 0.3}),
        ("L1L2", {"l1": 0.2, "l2": 0.3}),
        ("L1L2", {"l2": 0.3}),
        ("orthogonal_regularizer", {}),
        ("orthogonal_regularizer", {"factor": 0.5, "mode": "columns"}),
    ],
)
def test_keras_parity(name, arguments):
    ours = regularizers.get({name: arguments})
    value, gradient = jax.jit(jax.value_and_grad(lambda w: ours(w)))(jnp.asarray(W))
    theirs = getattr(keras.regularizers, name)(**arguments)
    run_keras = jax.jit(jax.value_and_grad(lambda w: theirs(w)))
    expected, expected_gradient = keras_values(lambda: run_keras(jnp.asarray(W)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_no_half_in_l2():
    assert float(jl.l2(1.0)(jnp.array([3.0]))) == 9.0


def test_names():
    for spelling in ("l1", "L1", "l2", "L2", "l1_l2", "L1L2", "OrthogonalRegularizer"):
        assert spelling in regularizers.registry
    assert regularizers.L1 is regularizers.l1
    assert repr(jl.l1_l2(l2=0.5)) == "l1_l2(l2=0.5)"


def test_half_precision_sums_in_float32():
    assert float(jl.l2(1.0)(jnp.full((1000,), 1.0, "bfloat16"))) == 1000.0


def test_zero_rows_have_a_finite_gradient():
    w = jnp.zeros((2, 3))
    assert jnp.isfinite(jax.jit(jax.grad(lambda w: regularizers.orthogonal_regularizer()(w)))(w)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jl.l1(-1.0), "l1: expected a finite factor of at least 0, received l1=-1.0"),
        (lambda: jl.l2(float("inf")), "l2: expected a finite factor of at least 0, received l2=inf"),
        (lambda: jl.l1_l2(l2="a"), "l1_l2: expected a finite factor of at least 0, received l2='a'"),
        (
            lambda: regularizers.orthogonal_regularizer(mode="row"),
            "orthogonal_regularizer: expected mode 'rows' or 'columns', received mode='row'",
        ),
        (
            lambda: regularizers.orthogonal_regularizer()(jnp.ones(3)),
            "orthogonal_regularizer: expected a matrix, received float32(3,)",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_each_penalty_finds_its_parameter(key):
    dense = jl.Dense(2, kernel_regularizer="l2", bias_regularizer=jl.l1(1.0), bias_initializer="ones")
    params, _ = dense.init(key, (1, 3))
    expected = 0.01 * np.square(params["kernel"]).sum() + 2.0
    np.testing.assert_allclose(dense.penalty(params), expected, rtol=1e-6)


def test_a_bias_that_is_off_has_no_penalty(key):
    dense = jl.Dense(2, use_bias=False, bias_regularizer="l2")
    params, _ = dense.init(key, (1, 3))
    assert float(dense.penalty(params)) == 0.0


def test_penalties_sum_over_layers_and_spare_the_frozen(key):
    model = jl.Sequential(
        jl.Conv2D(2, 2, kernel_regularizer="l1"),
        jl.BatchNormalization(gamma_regularizer=jl.l2(1.0), beta_regularizer="l2"),
        jl.PReLU(alpha_regularizer=jl.l1(1.0), alpha_initializer="ones"),
        jl.Flatten(),
        jl.Dense(1, kernel_regularizer=jl.l2(0.5)),
    )
    params, _ = model.init(key, (1, 3, 3, 1))
    parts = {
        "conv2d": 0.01 * np.abs(params["conv2d"]["kernel"]).sum(),
        "batch_normalization": 2.0,
        "p_re_lu": 8.0,
        "dense": 0.5 * np.square(params["dense"]["kernel"]).sum(),
    }
    np.testing.assert_allclose(model.penalty(params), sum(parts.values()), rtol=1e-6)
    frozen = jl.freeze(model, "dense")
    np.testing.assert_allclose(frozen.penalty(params), sum(parts.values()) - parts["dense"], rtol=1e-6)
