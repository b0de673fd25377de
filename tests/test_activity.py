"""Penalties on outputs: `activity_regularizer` of every layer against Keras, and of a user's layer."""

import inspect
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax import export
from keras_parity import data
from keras_values import keras_values

import jlayers as jl
from jlayers.core.layer import layers
from jlayers.core.tree import flatten, unflatten

CHEAP = {"recurrent_initializer": "glorot_uniform"}  # the QR factorisation takes seconds to compile
PENALTY = {"L1L2": {"l1": 0.2, "l2": 0.3}}
PENALIZE = jl.regularizers.get(PENALTY)

CASES = {
    "Dense": ({"units": 3, "activation": "relu"}, (4, 3, 2)),
    "EinsumDense": ({"equation": "abc,cd->abd", "output_shape": (None, 3)}, (2, 3, 4)),
    "Conv1D": ({"filters": 2, "kernel_size": 2}, (2, 4, 3)),
    "Conv2D": ({"filters": 2, "kernel_size": 2}, (2, 3, 3, 2)),
    "Conv3D": ({"filters": 2, "kernel_size": 2}, (2, 2, 2, 2, 1)),
    "Conv1DTranspose": ({"filters": 2, "kernel_size": 2}, (2, 3, 3)),
    "Conv2DTranspose": ({"filters": 2, "kernel_size": 2}, (2, 2, 2, 2)),
    "Conv3DTranspose": ({"filters": 2, "kernel_size": 2}, (2, 2, 2, 2, 1)),
    "DepthwiseConv1D": ({"kernel_size": 2}, (2, 4, 3)),
    "DepthwiseConv2D": ({"kernel_size": 2}, (2, 3, 3, 2)),
    "SeparableConv1D": ({"filters": 2, "kernel_size": 2}, (2, 4, 3)),
    "SeparableConv2D": ({"filters": 2, "kernel_size": 2}, (2, 3, 3, 2)),
    "Embedding": ({"input_dim": 5, "output_dim": 3}, (2, 4)),
    "SimpleRNN": ({"units": 3, "return_state": True, **CHEAP}, (2, 3, 4)),
    "LSTM": ({"units": 3, "return_sequences": True, "stateful": True, **CHEAP}, (2, 3, 4)),
    "GRU": ({"units": 3, **CHEAP}, (2, 3, 4)),
    "ConvLSTM1D": ({"filters": 2, "kernel_size": 2, **CHEAP}, (2, 2, 3, 2)),
    "ConvLSTM2D": ({"filters": 2, "kernel_size": 2, **CHEAP}, (2, 2, 2, 2, 2)),
    "ConvLSTM3D": ({"filters": 1, "kernel_size": 1, **CHEAP}, (2, 2, 2, 1, 1, 1)),
    "MultiHeadAttention": ({"num_heads": 2, "key_dim": 3}, (2, 3, 4)),
    "GroupQueryAttention": ({"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1}, (2, 3, 4)),
}


def test_every_layer_with_the_argument_is_here():
    """Of those that Keras has; `TernaryDense`, which it lacks so far, has its own test."""
    assert CASES.keys() == {name for name in layers if is_penalized(name)} - {"TernaryDense"}


def is_penalized(name):
    own = layers[name].__module__.startswith("jlayers.")
    return own and "activity_regularizer" in inspect.signature(layers[name]).parameters


@pytest.mark.parametrize("name", CASES)
def test_penalty_is_that_of_keras(name):
    """The sum of all `aux_loss` leaves is that of Keras's losses; without the argument there is no state."""
    arguments, shape = CASES[name]
    whole = name == "Embedding"
    x = data(shape, "int32") if whole else data(shape)
    ours = getattr(jl, name)(**arguments, activity_regularizer=PENALTY)
    order = []

    def init(key):
        params, state = ours.init(key, x)
        order.extend(flatten(params))
        return params, state

    params, state = jax.eval_shape(init, jax.random.key(0))
    values = {path: data(flatten(params)[path].shape, seed=i) for i, path in enumerate(order)}
    values = {path: jnp.asarray(value) for path, value in values.items()}
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)

    def run_keras():
        penalty = keras.regularizers.L1L2(0.2, 0.3)
        theirs = getattr(keras.layers, name)(**arguments, activity_regularizer=penalty)
        attends = "Attention" in name
        theirs.build(shape, shape) if attends else theirs.build(shape)
        for variable, value in zip(theirs.trainable_variables, values.values(), strict=True):
            variable.assign(value)
        return theirs(x, x) if attends else theirs(x), [float(loss) for loss in theirs.losses]

    expected, losses = keras_values(run_keras)
    losses = list(losses)
    if name == "GroupQueryAttention":  # in Keras the last projection counts twice: as the output, too
        losses.pop()
    if name == "SimpleRNN":  # Keras leaves the argument of this one layer unused
        losses = [sum(float(PENALIZE(jnp.asarray(leaf))) / len(x) for leaf in expected)]
    quick = {"xla_backend_optimization_level": "0"}  # compiling is what takes the time here
    y, moved = jax.jit(ours.apply, compiler_options=quick)(unflatten(values), state, x)
    for got, want in zip(jax.tree.leaves(y), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    found = [leaf for path, leaf in flatten(moved).items() if path.endswith("aux_loss")]
    assert all(leaf.dtype == jnp.float32 and leaf.shape == () for leaf in found)
    np.testing.assert_allclose(sum(found), sum(losses), rtol=1e-5)
    bare = ours.replace(activity_regularizer=None)
    _, none = jax.eval_shape(bare.init, jax.random.key(0), x)
    assert not any(path.endswith("aux_loss") for path in flatten(none))
    assert layers.get(json.loads(json.dumps(ours.to_data()))).spec == ours.spec


@jl.layer
def PenalizedScale(activity_regularizer: jl.regularizers.Regularizer | None = None, own: bool = False):
    """A user's layer: it has the argument, and that is all."""

    def init(key, x):
        scale = {"scale": jnp.ones(x.shape[-1:], x.dtype)}
        return (scale, {"aux_loss": jnp.zeros(())}) if own else scale

    def apply(params, x):
        return x * params["scale"][None]

    def with_own(params, x, *, state):
        return x * params["scale"][None], {"aux_loss": jnp.float32(5.0)}

    return init, with_own if own else apply


def test_a_layer_of_ones_own_has_it_by_its_argument(key):
    x = jnp.full((2, 3), 2.0)
    for own, expected in ((False, 12.0), (True, 17.0)):
        layer = PenalizedScale("l2", own).replace(activity_regularizer=jl.l2(1.0))
        params, state = layer.init(key, x)
        for _ in range(2):  # a value of the call: it does not add up
            _, state = layer.apply(params, state, x)
        assert float(state["aux_loss"]) == expected
    with pytest.raises(KeyError, match="did you mean 'l2'"):
        PenalizedScale("l22")


def test_it_enters_the_loss_and_the_gradient(key):
    """`fit` sees it once, undivided; a frozen layer adds none."""
    x = data((4, 3))
    dense = jl.Dense(1, use_bias=False, activity_regularizer=jl.l2(0.5))
    trainer = jl.compile(dense, optimizer=jl.optimizers.sgd(0.1), loss="mse")
    params, state = dense.init(key, x)
    y = x @ params["kernel"]  # no error: what is left is the penalty
    before = jl.TrainState.create(dense, jl.optimizers.sgd(0.1), key, x)
    before = before.replace(params=params, state=state)
    after, logs = trainer.train_step(before, jl.Batch(x, np.asarray(y)))
    kernel = dense.init(key, x)[0]["kernel"]
    np.testing.assert_allclose(logs["loss"], 0.5 * np.sum((x @ kernel) ** 2) / 4, rtol=1e-5)
    np.testing.assert_allclose(after.params["kernel"], kernel - 0.1 * x.T @ (x @ kernel) / 4, rtol=1e-4)
    frozen = jl.freeze(jl.Sequential(dense))
    _, moved = frozen.apply({"dense": {"kernel": kernel}}, {"dense": state}, x, train=True)
    assert float(moved["dense"]["aux_loss"]) == 0.0


def test_the_batch_may_be_empty_or_unknown(key):
    layer = jl.Dense(2, activity_regularizer="l2")
    params, state = layer.init(key, (2, 3))
    assert float(layer.apply(params, state, jnp.ones((0, 3)))[1]["aux_loss"]) == 0.0
    (batch,) = export.symbolic_shape("batch")
    _, moved = jax.eval_shape(layer.apply, params, state, jax.ShapeDtypeStruct((batch, 3), jnp.float32))
    assert moved["aux_loss"].shape == ()
