"""SimpleRNN, LSTM and GRU against Keras with the same weights, and against plain NumPy under dropout."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_values import keras_values

from jlayers.core.graph import Input
from jlayers.core.layer import MissingKeyError
from jlayers.core.sizes import symbolic
from jlayers.layers.recurrent._recurrence import drop
from jlayers.layers.recurrent.recurrent import GRU, LSTM, SimpleRNN

LAYERS = [SimpleRNN, LSTM, GRU]
STATES = {SimpleRNN: 1, LSTM: 2, GRU: 1}
BATCH, TIME, FEATURES, UNITS = 3, 4, 2, 5


def weights_of(layer, *inputs):
    """Random weights of the shapes that `init` makes, biases too; drawing them by `init` is slow."""
    rng = np.random.default_rng(0)
    shapes, _ = jax.eval_shape(lambda key: layer.init(key, *inputs), jax.random.key(0))
    return {k: jnp.asarray(rng.normal(size=v.shape) * 0.5, v.dtype) for k, v in sorted(shapes.items())}


def data(seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(BATCH, TIME, FEATURES)), jnp.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------------------------------- Keras

GRID = [  # layer, whether the initial state is given, options
    (SimpleRNN, False, {}),
    (SimpleRNN, True, {"activation": "relu", "use_bias": False, "go_backwards": True, "unroll": True}),
    (LSTM, False, {}),
    (LSTM, True, {"return_sequences": True, "go_backwards": True, "use_bias": False}),
    (LSTM, False, {"recurrent_activation": "hard_sigmoid", "activation": None, "unroll": True}),
    (GRU, False, {}),
    (GRU, True, {"return_sequences": True, "go_backwards": True, "unroll": True}),
    (GRU, True, {"reset_after": False, "return_sequences": True, "recurrent_activation": "tanh"}),
    (GRU, False, {"reset_after": False, "use_bias": False, "activation": "relu"}),
]


@pytest.mark.parametrize(("make", "given_state", "options"), GRID)
def test_outputs_states_and_gradients_are_those_of_keras(make, given_state, options):
    x = data()
    rng = np.random.default_rng(2)
    initial = [jnp.asarray(rng.normal(size=(BATCH, UNITS)), jnp.float32) for _ in range(STATES[make])]
    initial = initial if given_state else []
    ours = make(UNITS, return_state=True, **options)
    params = weights_of(ours, x, *initial)
    keras_options = {**options, "activation": options.get("activation", "tanh") or "linear"}
    theirs = getattr(keras.layers, make.__name__)(UNITS, return_state=True, **keras_options)

    def run_ours(params, x, *initial):
        return ours.apply(params, {}, x, *initial)[0]

    def run_theirs(params, x, *initial):
        state = {"initial_state": list(initial)} if initial else {}
        weights = [params[v.name] for v in theirs.trainable_variables]
        rest = [v.value for v in theirs.non_trainable_variables]
        return tuple(theirs.stateless_call(weights, rest, x, **state)[0])

    shapes = jax.eval_shape(run_ours, params, x, *initial)
    weights = [rng.normal(size=s.shape).astype(np.float32) for s in shapes]

    def value_and_gradients(run):
        def loss(args):
            outputs = run(*args)
            return sum(jnp.vdot(o, w) for o, w in zip(outputs, weights, strict=True)), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))((params, x, *initial))
        return outputs, gradients

    def run_keras():
        theirs.build(x.shape)
        shapes = {v.name: list(v.shape) for v in theirs.trainable_variables}
        return shapes, value_and_gradients(run_theirs)

    their_shapes, expected = keras_values(run_keras)
    assert their_shapes == {name: list(value.shape) for name, value in params.items()}
    pairs = zip(jax.tree.leaves(value_and_gradients(run_ours)), jax.tree.leaves(expected), strict=True)
    for received, wanted in pairs:
        np.testing.assert_allclose(received, wanted, rtol=2e-5, atol=2e-5)


# ---------------------------------------------------------------------------------------- parameters


def test_recurrent_kernel_is_orthogonal_as_one_matrix_and_forget_bias_is_one(key):
    params, state = LSTM(8).init(key, (2, 3, 4))
    np.testing.assert_allclose(
        params["recurrent_kernel"] @ params["recurrent_kernel"].T, np.eye(8), atol=1e-5
    )
    np.testing.assert_array_equal(params["bias"], np.repeat([0.0, 1.0, 0.0, 0.0], 8))
    assert state == {}
    plain, _ = LSTM(8, unit_forget_bias=False).init(key, (2, 3, 4))
    np.testing.assert_array_equal(plain["bias"], np.zeros(32))


@pytest.mark.parametrize("make", LAYERS)
def test_regularizers_reach_their_parameters(make):
    layer = make(
        UNITS,
        kernel_regularizer={"l2": {"l2": 0.1}},
        recurrent_regularizer={"l1": {"l1": 0.2}},
        bias_regularizer={"l2": {"l2": 0.3}},
    )
    params = weights_of(layer, (1, 2, FEATURES))
    expected = (
        0.1 * np.sum(np.square(params["kernel"]))
        + 0.2 * np.sum(np.abs(params["recurrent_kernel"]))
        + 0.3 * np.sum(np.square(params["bias"]))
    )
    np.testing.assert_allclose(layer.penalty(params), expected, rtol=1e-5)


# ------------------------------------------------------------------------------------------- dropout


def test_input_dropout_is_one_mask_for_all_steps():
    layer = SimpleRNN(500, activation=None, dropout=0.4, return_sequences=True)
    params = {"kernel": jnp.eye(500), "recurrent_kernel": jnp.zeros((500, 500)), "bias": jnp.zeros(500)}
    x = jnp.ones((4, 3, 500))
    y, _ = layer.apply(params, {}, x, key=jax.random.key(3), train=True)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert not np.array_equal(y[0], y[1])
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.6], rtol=1e-6)
    assert abs(np.mean(np.asarray(y[:, 0]) == 0) - 0.4) < 0.05
    still, _ = layer.apply(params, {}, x)
    np.testing.assert_array_equal(still, x)


def lstm_reference(params, x, masks_x, masks_h):
    h = c = np.zeros((BATCH, UNITS))
    for t in range(x.shape[1]):
        gates = [
            (x[:, t] * masks_x[g]) @ w + (h * masks_h[g]) @ r + b
            for g, (w, r, b) in enumerate(
                zip(
                    *(np.split(params[n], 4, -1) for n in ("kernel", "recurrent_kernel", "bias")), strict=True
                )
            )
        ]
        i, f, g, o = gates
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def gru_reference(params, x, masks_x, masks_h, reset_after):
    h = np.zeros((BATCH, UNITS))
    bias = params["bias"] if reset_after else np.stack([params["bias"], np.zeros_like(params["bias"])])
    kernel, recurrent = (np.split(params[n], 3, -1) for n in ("kernel", "recurrent_kernel"))
    of_input, of_product = np.split(bias[0], 3), np.split(bias[1], 3)
    for t in range(x.shape[1]):
        from_x = [(x[:, t] * masks_x[g]) @ kernel[g] + of_input[g] for g in range(3)]
        z, r = (sigmoid(from_x[g] + (h * masks_h[g]) @ recurrent[g] + of_product[g]) for g in range(2))
        if reset_after:
            inner = r * ((h * masks_h[2]) @ recurrent[2] + of_product[2])
        else:
            inner = (r * h * masks_h[2]) @ recurrent[2]
        h = z * h + (1 - z) * np.tanh(from_x[2] + inner)
    return h


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (LSTM(UNITS, dropout=0.3, recurrent_dropout=0.5), lstm_reference),
        (GRU(UNITS, dropout=0.3, recurrent_dropout=0.5), lambda *a: gru_reference(*a, True)),
        (
            GRU(UNITS, dropout=0.3, recurrent_dropout=0.5, reset_after=False),
            lambda *a: gru_reference(*a, False),
        ),
    ],
    ids=["LSTM", "GRU", "GRU before"],
)
def test_recurrent_dropout_masks_each_gate_for_itself(layer, reference, key):
    x = data()
    params = weights_of(layer, x)
    y, _ = layer.apply(params, {}, x, key=key, train=True)
    gates = 4 if layer.spec.name == "LSTM" else 3
    _, (masks_x, masks_h) = drop(key, (0.3, 0.5), gates, x, UNITS)
    assert len({m.tobytes() for m in np.asarray(masks_h)}) == gates
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, x, masks_x, masks_h))
    np.testing.assert_allclose(y, reference(*wide), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_dropout_needs_a_key_in_training_alone(make, option):
    layer = make(UNITS, **{option: 0.5})
    x = data()
    params, state = weights_of(layer, x), {}
    assert layer.draws
    assert not make(UNITS).draws
    with pytest.raises(MissingKeyError, match=r"pass key=jax\.random\.key"):
        layer.apply(params, state, x, train=True)
    still, _ = layer.apply(params, state, x)
    np.testing.assert_array_equal(still, make(UNITS).apply(params, state, x)[0])
    drawn = [layer.apply(params, state, x, key=jax.random.key(i), train=True)[0] for i in (1, 2)]
    assert not np.array_equal(*drawn)


# ---------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("make", LAYERS)
def test_a_sequence_can_be_run_in_two_parts(make):
    layer = make(UNITS, return_sequences=True, return_state=True)
    x = data()
    params = weights_of(layer, x)
    (whole, *last), _ = layer.apply(params, {}, x)
    (first, *state), _ = layer.apply(params, {}, x[:, :2])
    (second, *end), _ = layer.apply(params, {}, x[:, 2:], *state)
    np.testing.assert_allclose(whole, jnp.concatenate([first, second], axis=1), atol=1e-6)
    for expected, received in zip(last, end, strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-6)
    np.testing.assert_array_equal(whole[:, -1], last[0])


@pytest.mark.parametrize("make", LAYERS)
def test_backwards_is_the_flipped_input_and_unrolled_the_same(make):
    options = {"return_sequences": True}
    x = data()
    params = weights_of(make(UNITS), x)
    expected, _ = make(UNITS, **options).apply(params, {}, jnp.flip(x, axis=1))
    backwards, _ = make(UNITS, go_backwards=True, **options).apply(params, {}, x)
    unrolled, _ = make(UNITS, go_backwards=True, unroll=True, **options).apply(params, {}, x)
    np.testing.assert_allclose(backwards, expected, atol=1e-6)
    np.testing.assert_allclose(unrolled, expected, atol=1e-6)


@pytest.mark.parametrize("make", LAYERS)
def test_bfloat16_stays_and_is_near_float32(make):
    layer = make(UNITS, return_state=True)
    x = data()
    params = weights_of(layer, x.astype(jnp.bfloat16))
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    half, _ = layer.apply(params, {}, x.astype(jnp.bfloat16))
    full, _ = layer.apply(jax.tree.map(lambda p: p.astype(jnp.float32), params), {}, x)
    for received, expected in zip(half, full, strict=True):
        assert received.dtype == jnp.bfloat16
        np.testing.assert_allclose(received.astype(jnp.float32), expected, atol=0.03)


@pytest.mark.parametrize("make", LAYERS)
def test_batch_and_time_may_be_symbolic(make):
    x = Input((None, 8))
    sequences = make(UNITS, return_sequences=True, go_backwards=True)(x)
    assert sequences.shape == (None, None, UNITS)
    output, *states = make(UNITS, return_state=True)(sequences)
    assert [node.shape for node in (output, *states)] == [(None, UNITS)] * (1 + STATES[make])
    assert make(UNITS)(x, *states).shape == (None, UNITS)


# -------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("make", LAYERS)
def test_errors_teach(make, key):
    name = make.__name__
    with pytest.raises(ValueError, match=rf"{name}: .*received units=0"):
        make(0)
    with pytest.raises(ValueError, match=r"between 0 and 1, received recurrent_dropout=1\.5"):
        make(4, recurrent_dropout=1.5)
    with pytest.raises(KeyError, match=r"unknown regularizer 'l22'.*'l2'"):
        make(4, recurrent_regularizer="l22")
    with pytest.raises(ValueError, match=r"\(batch, time, features\), received float32\(2, 3\)"):
        make(4).init(key, (2, 3))
    x = data()
    params = weights_of(make(4), x)
    with pytest.raises(
        ValueError, match=r"expected the initial state h.* \(3, 4\), received float32\(3, 5\)"
    ):
        make(4).apply(params, {}, x, jnp.zeros((3, 5)))
    with pytest.raises(ValueError, match="expected a fixed number of time steps"):
        make(4, unroll=True)(Input((None, 2)))
    with pytest.raises(ValueError, match=r"expected a fixed number of time steps.*set unroll=False"):
        make(4, unroll=True).init(key, jax.ShapeDtypeStruct(symbolic((None, 8)), jnp.float32))
