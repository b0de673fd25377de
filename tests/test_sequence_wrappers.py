"""TimeDistributed and Bidirectional against Keras with the same weights, and against plain loops."""

import json
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
from jlayers.core.tree import flatten, unflatten

CHEAP = {"recurrent_initializer": "glorot_uniform"}  # the QR factorisation takes seconds to compile


def drawn(tree, seed=0):
    """Random values in the shapes of a tree; variances stay positive."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        value = rng.normal(size=leaf.shape) * 0.5
        return jnp.asarray(np.abs(value) + 0.5 if "variance" in path else value, leaf.dtype)

    return unflatten({path: draw(path, leaf) for path, leaf in flatten(tree).items()})


def made(layer, *inputs):
    """Random params and state in the shapes that `init` makes."""
    order = []

    def init(key):
        trees = layer.init(key, *inputs)
        order.extend(list(flatten(tree)) for tree in trees)
        return trees

    trees = map(flatten, map(drawn, jax.eval_shape(init, jax.random.key(0))))
    return tuple(
        unflatten({path: tree[path] for path in paths}) for tree, paths in zip(trees, order, strict=True)
    )


def quick(function):
    """Compiled fast rather than well: that is what takes the time here."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def is_drawing(variable):
    return "seed" in variable.path


def parity(ours, theirs, *inputs, train=False, tol=2e-5):
    """Assert equal variables in equal order, outputs, states and gradients."""
    x, *initial = map(jnp.asarray, inputs)
    params, state = map(flatten, made(ours, x, *initial))

    def run_ours(trained, x, initial):
        y, moved = ours.apply(unflatten(trained), unflatten(state), x, *initial, train=train)
        return y, {path: flatten(moved)[path] for path in state}

    def run_theirs(trained, x, initial):
        fed = iter(state.values())
        values = [v.value if is_drawing(v) else next(fed) for v in theirs.non_trainable_variables]
        more = ({"initial_state": initial} if initial else {}) | ({"training": True} if train else {})
        y, moved = theirs.stateless_call([trained[path] for path in params], values, x, **more)
        pairs = zip(theirs.non_trainable_variables, moved, strict=True)
        return y, dict(zip(state, [m for v, m in pairs if not is_drawing(v)], strict=True))

    def evaluated(run):
        def loss(arguments):
            output = run(*arguments)
            leaves = jax.tree.leaves(output[0])
            return sum(jnp.sum(y * data(y.shape, seed=i)) for i, y in enumerate(leaves)), output

        return quick(jax.value_and_grad(loss, has_aux=True))((params, x, initial))

    def run_keras():
        if not theirs.built:
            theirs.build(x.shape)
        rest = [v for v in theirs.non_trainable_variables if not is_drawing(v)]
        kinds = [[[v.name, list(v.shape)] for v in group] for group in (theirs.trainable_variables, rest)]
        return kinds, jax.tree.leaves(evaluated(run_theirs))

    kinds, expected = keras_values(run_keras)
    for tree, variables in zip((params, state), kinds, strict=True):
        found = [[path.rpartition("/")[2], list(value.shape)] for path, value in tree.items()]
        assert found == variables, "the variables in order"
    for got, want in zip(jax.tree.leaves(evaluated(run_ours)), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=tol, atol=tol)
    again = layers.get(json.loads(json.dumps(ours.to_data())))
    assert again.spec == ours.spec


# ---------------------------------------------------------------------------------- TimeDistributed


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "train"),
    [
        ("Dense", {"units": 3, "activation": "tanh"}, (2, 4, 5), False),
        ("Conv1D", {"filters": 3, "kernel_size": 2}, (2, 3, 4, 2), False),
        ("SimpleRNN", {"units": 2, **CHEAP}, (2, 2, 3, 2), False),
        ("BatchNormalization", {"momentum": 0.9}, (3, 4, 2), False),
        ("BatchNormalization", {"momentum": 0.9}, (3, 4, 2), True),
    ],
)
def test_time_distributed_is_that_of_keras(name, arguments, shape, train):
    ours = jl.TimeDistributed(getattr(jl, name)(**arguments))
    theirs = keras.layers.TimeDistributed(getattr(keras.layers, name)(**arguments))
    parity(ours, theirs, data(shape), train=train, tol=5e-5)


def test_time_distributed_takes_and_gives_several_arrays():
    a, b = jl.Input((3,), name="a"), jl.Input((2,), name="b")
    both = jl.Model([a, b], {"joined": jl.Concatenate()([a, b]), "a": jl.Dense(2)(a)})
    layer = jl.TimeDistributed(both)
    x = data((2, 4, 3)), data((2, 4, 2), seed=1)
    params, state = made(layer, *x)
    y, _ = layer.apply(params, state, *x)
    for t in range(4):
        expected, _ = both.apply(params["layer"], {}, x[0][:, t], x[1][:, t])
        jax.tree.map(lambda e, r, t=t: np.testing.assert_allclose(r[:, t], e, rtol=1e-5), expected, y)


def test_time_distributed_dropout_differs_between_steps_and_needs_a_key(key):
    for layer in (
        jl.TimeDistributed(jl.Dropout(0.5)),
        jl.TimeDistributed(jl.Sequential(jl.Dropout(0.5), jl.BatchNormalization())),
    ):
        x = jnp.ones((4, 3, 20))
        params, state = layer.init(key, x)
        assert layer.draws
        y, _ = layer.apply(params, state, x, key=key, train=True)
        assert not np.array_equal(y[:, 0] > 0, y[:, 1] > 0)
        with pytest.raises(jl.MissingKeyError):
            layer.apply(params, state, x, train=True)


def test_time_distributed_sums_losses_over_steps(key):
    penalty = jl.ActivityRegularization(l2=0.5)
    layer = jl.TimeDistributed(penalty)
    x = jnp.asarray(data((3, 4, 2)))
    params, state = layer.init(key, x)
    expected = sum(penalty.apply({}, {"aux_loss": jnp.zeros(())}, x[:, t])[1]["aux_loss"] for t in range(4))
    for train in (True, False):
        for _ in range(2):  # the losses of the call before do not count
            _, state = layer.apply(params, state, x, train=train)
            np.testing.assert_allclose(state["layer"]["aux_loss"], expected, rtol=1e-6)


def test_time_distributed_frozen_batch_normalization_is_inference(key):
    layer = jl.TimeDistributed(jl.Sequential(jl.Dense(3), jl.BatchNormalization(name="norm")))
    x = jnp.asarray(data((3, 4, 2)))
    params, state = made(layer, x)
    frozen = jl.freeze(layer, "layer/norm")
    expected, _ = layer.apply(params, state, x)
    received, moved = frozen.apply(params, state, x, train=True)
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, moved, state)
    mask = jl.trainable_mask(frozen, params)["layer"]
    assert mask == {
        "dense": {"kernel": True, "bias": True},
        "norm": {"gamma": False, "beta": False},
    }
    assert "scan" not in str(
        jax.make_jaxpr(lambda x: jl.freeze(layer).apply(params, state, x, train=True)[0])(x)
    )


def test_time_distributed_errors_teach(key):
    with pytest.raises(ValueError, match=r"at least three dimensions \(batch, time, \.\.\.\).*x\[None\]"):
        jl.TimeDistributed(jl.Dense(2)).init(key, (3, 4))
    with pytest.raises(ValueError, match=r"same batch and time .*float32\(2, 3, 4\), float32\(2, 2, 4\)"):
        jl.TimeDistributed(jl.Add()).init(key, (2, 3, 4), (2, 2, 4))
    summed = jl.Lambda(lambda x: jnp.sum(x, axis=0))
    with pytest.raises(
        ValueError, match=r"keep the batch of 6 rows as the first axis of its output, received float32\(4,\)"
    ):
        jl.TimeDistributed(summed).init(key, (2, 3, 4))
    with pytest.raises(TypeError, match=r"received the constructor Dense; call it"):
        jl.TimeDistributed(jl.Dense)


# ------------------------------------------------------------------------------------ Bidirectional

GRID = [
    ("SimpleRNN", {"return_sequences": True}, "concat", False),
    ("SimpleRNN", {"return_sequences": True, "return_state": True}, None, True),
    ("SimpleRNN", {}, "ave", False),
    ("SimpleRNN", {}, None, False),
    ("LSTM", {"return_sequences": True, "return_state": True}, "mul", True),
    ("GRU", {"return_state": True}, "sum", True),
]


@pytest.mark.parametrize(("name", "options", "merge_mode", "given"), GRID)
def test_bidirectional_is_that_of_keras(name, options, merge_mode, given):
    states = [data((2, 3), seed=i) for i in range(2, 6 if name == "LSTM" else 4)] if given else []
    options = {**options, **CHEAP}
    ours = jl.Bidirectional(getattr(jl, name)(3, **options), merge_mode)
    theirs = keras.layers.Bidirectional(getattr(keras.layers, name)(3, **options), merge_mode)
    parity(ours, theirs, data((2, 4, 2)), *states)


def test_bidirectional_with_two_layers_is_that_of_keras():
    def two(module):
        ahead = module.GRU(2, return_sequences=True, **CHEAP)
        return ahead, module.SimpleRNN(3, return_sequences=True, go_backwards=True, **CHEAP)

    layer, backward_layer = two(jl)
    ours = jl.Bidirectional(layer, backward_layer=backward_layer)
    layer, backward_layer = two(keras.layers)
    theirs = keras.layers.Bidirectional(layer, backward_layer=backward_layer)
    parity(ours, theirs, data((2, 4, 2)))


def test_bidirectional_freezes_one_direction_and_pickles(key):
    layer = jl.Bidirectional(jl.SimpleRNN(2, **CHEAP))
    half = jl.freeze(layer, "backward_layer")
    x = jnp.asarray(data((2, 3, 2)))
    params, _ = made(half, x)
    mask = jl.trainable_mask(half, params)
    assert set(mask["forward_layer"].values()) == {True}
    assert set(mask["backward_layer"].values()) == {False}
    by = jax.grad(lambda params: half.apply(params, {}, x)[0].sum())(params)
    assert np.any(by["forward_layer"]["kernel"])
    assert not np.any(by["backward_layer"]["kernel"])
    again = pickle.loads(pickle.dumps(half))
    assert again.frozen == half.frozen
    np.testing.assert_array_equal(again.apply(params, {}, x)[0], layer.apply(params, {}, x)[0])
    assert {p.shape for p in jax.tree.leaves(params)} == {(2, 2), (2,)}


def test_bidirectional_directions_have_weights_of_their_own(key):
    params, _ = jl.Bidirectional(jl.SimpleRNN(2, **CHEAP)).init(key, (2, 3, 2))
    assert not np.array_equal(params["forward_layer"]["kernel"], params["backward_layer"]["kernel"])


def test_wrappers_in_a_graph_with_an_unknown_number_of_steps():
    x = jl.Input((None, 4))
    y = jl.TimeDistributed(jl.Dense(3))(x)
    assert y.shape == (None, None, 3)
    y, *states = jl.Bidirectional(jl.LSTM(5, return_state=True))(y)
    assert y.shape == (None, 10)
    assert [s.shape for s in states] == [(None, 5)] * 4


def test_bidirectional_errors_teach(key):
    with pytest.raises(ValueError, match=r"merge_mode out of 'concat'.*received merge_mode='add'"):
        jl.Bidirectional(jl.GRU(2), "add")
    with pytest.raises(TypeError, match=r"a recurrent layer such as LSTM.*received layer=Dense\(2\)"):
        jl.Bidirectional(jl.Dense(2))
    with pytest.raises(ValueError, match=r"received layer=GRU\(2, go_backwards=True\), backward"):
        jl.Bidirectional(jl.GRU(2, go_backwards=True))
    with pytest.raises(ValueError, match=r"received layer=GRU\(2\), backward_layer=GRU\(2\)"):
        jl.Bidirectional(jl.GRU(2), backward_layer=jl.GRU(2))
    with pytest.raises(
        ValueError, match=r"one return_state in both layers, not False and True, received layer"
    ):
        jl.Bidirectional(jl.GRU(2), backward_layer=jl.GRU(2, go_backwards=True, return_state=True))
    with pytest.raises(ValueError, match=r"not 1 in all, received float32\(2, 2\)"):
        jl.Bidirectional(jl.GRU(2, **CHEAP)).init(key, (2, 3, 2), (2, 2))
