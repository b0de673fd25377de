"""Constraints: values against Keras, whose parameter they belong to, and that training keeps them."""

from __future__ import annotations

import inspect
import os
import re

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_values import keras_values

import jlayers as jl
from jlayers import constraints
from jlayers.core.layer import layers

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3)).astype("float32")
KERNEL = RNG.normal(size=(2, 2, 3, 4)).astype("float32")


SHAPES = {"matrix": W, "long": 10 * W, "conv": KERNEL, "bias": W[0], "zeros": 0 * W}
CASES = [
    ("max_norm", {}),
    ("MaxNorm", {"max_value": 0.5}),
    ("max_norm", {"max_value": 1.0, "axis": (0, 1, 2)}),
    ("min_max_norm", {}),
    ("MinMaxNorm", {"min_value": 0.7, "max_value": 1.5, "rate": 0.3, "axis": -1}),
    ("non_neg", {}),
    ("unit_norm", {}),
    ("UnitNorm", {"axis": (0, 1, 2)}),
]


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        (name, arguments, shape)
        for name, arguments in CASES
        for shape in SHAPES
        if not isinstance(arguments.get("axis"), tuple) or shape == "conv"  # several axes are a kernel's
    ],
)
def test_keras_parity(name, arguments, shape):
    w = SHAPES[shape]
    ours = constraints.get({name: arguments})(jnp.asarray(w))
    theirs = keras_values(lambda: getattr(keras.constraints, name)(**arguments)(w))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert ours.dtype == jnp.float32


def test_names():
    for spelling in ("max_norm", "MaxNorm", "min_max_norm", "MinMaxNorm", "non_neg", "NonNeg", "UnitNorm"):
        assert spelling in constraints.registry
        assert hasattr(constraints, spelling)
    assert repr(constraints.max_norm(3)) == "max_norm(max_value=3)"
    with pytest.raises(KeyError, match=r"unknown constraint 'max_nrm': did you mean 'max_norm'"):
        jl.Dense(2, kernel_constraint="max_nrm")
    with pytest.raises(TypeError, match="expected a constraint, received the regularizer l2"):
        jl.LSTM(2, recurrent_constraint=jl.l2(0.1))


def test_half_precision_sums_in_float32_and_keeps_its_dtype():
    w = constraints.max_norm(1.0)(jnp.ones((1024, 1), jnp.bfloat16))
    assert w.dtype == jnp.bfloat16
    assert float(w[0, 0]) == 1 / 32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: constraints.max_norm(-1.0),
            "max_norm: expected a finite norm of at least 0, received max_value=-1.0",
        ),
        (
            lambda: constraints.min_max_norm(2.0, 1.0),
            "min_max_norm: expected min_value <= max_value, received min_value=2.0, max_value=1.0",
        ),
        (
            lambda: constraints.min_max_norm(rate=2),
            "min_max_norm: expected rate between 0 and 1, received rate=2",
        ),
        (
            lambda: constraints.unit_norm(axis=1)(jnp.ones(3)),
            "unit_norm: expected distinct axes of the parameter, received axis=1, shape=(3,)",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


# --------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("name", [name for name in layers if hasattr(keras.layers, name)])
def test_every_layer_has_keras_s_constraint_arguments_in_their_place(name):
    """Among the arguments that both have, the order is the same."""
    theirs = list(inspect.signature(getattr(keras.layers, name).__init__).parameters)
    ours = list(layers.parameters(name))
    if not layers[name].__module__.startswith("jlayers."):
        return
    missing = [a for a in theirs if a.endswith("_constraint") and a not in ours]
    assert not missing
    if any(a.endswith("_constraint") for a in ours):
        both = [a for a in ours if a in theirs and a not in ("name", "trainable")]
        assert both == [a for a in theirs if a in both]


def test_each_constraint_finds_its_parameter(key):
    half = constraints.max_norm(0.5)
    rnn = jl.GRU(2, kernel_constraint="non_neg", recurrent_constraint=half, recurrent_initializer="ones")
    params, _ = rnn.init(key, (1, 3, 2))
    held = rnn.constrain(params)
    assert float(held["kernel"].min()) == 0.0
    np.testing.assert_allclose(held["recurrent_kernel"], half(params["recurrent_kernel"]))
    assert held["bias"] is params["bias"]
    off = jl.Dense(2, use_bias=False, bias_constraint="non_neg")
    assert list(off.constrain(off.init(key, (1, 3))[0])) == ["kernel"]


def test_a_repeated_block_is_constrained_once_for_each_repetition(key):
    block = jl.Dense(3, kernel_constraint="unit_norm", kernel_regularizer="orthogonal_regularizer")
    tower = jl.Repeat(block, 5)
    params, _ = tower.init(key, (2, 3))
    kernel = tower.constrain(params)["layer"]["kernel"]
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=1), np.ones((5, 3)), rtol=1e-5)
    each = [block.penalty(jax.tree.map(lambda w, i=i: w[i], params["layer"])) for i in range(5)]
    np.testing.assert_allclose(tower.penalty(params), sum(each), rtol=1e-5)


@jl.layer
def Positive(units: int, kernel_regularizer: str | None = None):
    """A layer that adopts another one."""
    return jl.Dense(units, kernel_constraint="non_neg", kernel_regularizer=kernel_regularizer or "l2")


def test_an_adopted_layer_keeps_its_constraints_and_penalties(key):
    dense = jl.Dense(2, kernel_regularizer="l2")
    params, _ = dense.init(key, (1, 3))
    for layer in (Positive(2), Positive(2, kernel_regularizer="l2")):
        assert layer.constrain(params)["kernel"].min() == 0
        assert layer.penalty(params) == dense.penalty(params)
        frozen = layer.with_frozen([""])
        assert frozen.constrain(params)["kernel"] is params["kernel"]
        assert float(frozen.penalty(params)) == 0.0
        assert frozen.with_frozen([]).penalty(params) == dense.penalty(params)


def model(**options):
    return jl.Sequential(
        jl.Dense(4, kernel_constraint=constraints.max_norm(0.4), bias_constraint="non_neg", **options),
        jl.LayerNormalization(gamma_constraint=constraints.max_norm(0.5)),
        jl.Dense(1, kernel_constraint="unit_norm"),
    )


DATA = jl.Batch(jnp.asarray(RNG.normal(size=(8, 3)), "float32"), jnp.ones((8, 1)))


def test_constraints_hold_after_steps_and_leave_what_is_frozen_alone(key):
    net = jl.freeze(model(), "dense_1")
    step = jl.make_train_step(net, "mse", jl.optimizers.adamw(0.3))
    state = jl.TrainState.create(net, jl.optimizers.adamw(0.3), key, DATA.x)
    head = np.asarray(state.params["dense_1"]["kernel"])
    for _ in range(3):
        state, _ = step(state, DATA)
        params = state.params
        assert np.linalg.norm(params["dense"]["kernel"], axis=0).max() <= 0.4 + 1e-5
        assert params["dense"]["bias"].min() >= 0
        assert np.linalg.norm(params["layer_normalization"]["gamma"]) <= 0.5 + 1e-5
        np.testing.assert_array_equal(params["dense_1"]["kernel"], head)


def test_the_step_is_keras_s(key):
    """Two steps of SGD with constraints, from the same weights."""
    ours = jl.Dense(2, kernel_constraint=constraints.max_norm(0.3), bias_constraint="non_neg")
    state = jl.TrainState.create(ours, jl.optimizers.sgd(0.5), key, DATA.x)
    kernel = np.asarray(state.params["kernel"])
    y = np.ones((8, 2), np.float32)
    step = jl.make_train_step(ours, "mse", jl.optimizers.sgd(0.5))
    for _ in range(2):
        state, _ = step(state, (DATA.x, jnp.asarray(y)))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        dense = keras.layers.Dense(
            2, kernel_constraint=keras.constraints.MaxNorm(0.3), bias_constraint="non_neg"
        )
        theirs = keras.Sequential([keras.Input((3,)), dense])
        dense.kernel.assign(kernel)
        theirs.compile(keras.optimizers.SGD(0.5), "mse")
        for _ in range(2):
            theirs.train_on_batch(np.asarray(DATA.x), y)
    np.testing.assert_allclose(state.params["kernel"], dense.kernel.value, rtol=1e-5)
    np.testing.assert_allclose(state.params["bias"], dense.bias.value, rtol=1e-5)


def test_a_model_without_constraints_pays_nothing(key):
    net = jl.Sequential(jl.Dense(4), jl.Repeat(jl.Dense(4), 2))
    params, _ = net.init(key, (1, 3))
    assert not jax.make_jaxpr(net.constrain)(params).eqns


CONFIG = """\
data: digits
model:
  Sequential:
    - Flatten
    - Dense: {units: 10, kernel_constraint: {max_norm: {max_value: %s}}, bias_constraint: NonNeg}
loss: mse
"""


def test_configuration():
    from jlayers import config

    *_, dense = config.loads(CONFIG % 3).model.children.values()
    assert repr(dense) == "Dense(10, kernel_constraint=max_norm(max_value=3.0), bias_constraint='NonNeg')"
    params = {"kernel": jnp.full((4, 10), 3.0), "bias": -jnp.ones(10)}
    held = layers.get(dense.to_data()).constrain(params)
    np.testing.assert_allclose(held["kernel"], np.full((4, 10), 1.5), rtol=1e-6)
    assert not held["bias"].any()
    with pytest.raises(config.ConfigError, match=r"max_norm: expected a finite norm of at least 0.*-2"):
        config.loads(CONFIG % -2)
    with pytest.raises(config.ConfigError, match="expected a number, received max_value='two'"):
        config.loads(CONFIG % "two")
