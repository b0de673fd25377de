"""SimpleRNN, LSTM and GRU in their form for CPUs against the plain scan: values, derivatives, odd cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jlayers as jl
from jlayers.ops import recurrent_cpu
from jlayers.ops.recurrent import add_bias, gru_step, lstm_step, scan_time
from jlayers.ops.recurrent_cpu import Weights, run

BATCH, TIME, FEATURES, UNITS = 3, 4, 2, 5
USUAL = {"activation": jnp.tanh, "recurrent_activation": jax.nn.sigmoid}
KINDS = {
    "SimpleRNN": (recurrent_cpu.RNN, 1, 1),
    "LSTM": (recurrent_cpu.LSTM, 4, 2),
    "GRU": (recurrent_cpu.GRU, 3, 1),
    "GRU, reset before": (recurrent_cpu.GRU_RESET_BEFORE, 3, 1),
}


def plain(kind, weights, x, start, mask=None, **order):
    kernel, recurrent_kernel, bias = weights

    def simple_rnn(state, x_t):
        return (jnp.tanh(add_bias(x_t @ kernel + state[0] @ recurrent_kernel, bias)),)

    def lstm(state, x_t):
        z = add_bias(x_t @ kernel + state[0] @ recurrent_kernel, bias)
        return lstm_step(z, state[1], **USUAL)

    def gru(state, x_t):
        z = add_bias(x_t @ kernel, bias[0])
        return (gru_step(z, state[0], recurrent_kernel, bias[1], reset_after=True, **USUAL),)

    def gru_reset_before(state, x_t):
        z = add_bias(x_t @ kernel, bias)
        return (gru_step(z, state[0], recurrent_kernel, reset_after=False, **USUAL),)

    step = dict(zip(KINDS, (simple_rnn, lstm, gru, gru_reset_before), strict=True))[kind]
    return scan_time(step, start, x, unroll=False, mask=mask, **order)


def forms(kind, *, sequences=True, backwards=False, batch=BATCH, units=UNITS, dtype=np.float32):
    """The fast form, the plain one, and arguments for both."""
    cell, gates, states = KINDS[kind]
    rng = np.random.default_rng(0)
    shapes = (FEATURES, gates * units), (units, gates * units), (*cell.biases, gates * units)
    draw = lambda shape: jnp.asarray(rng.normal(size=shape) * 0.5, dtype)  # noqa: E731
    arguments = Weights(*map(draw, shapes)), draw((batch, TIME, FEATURES)), (draw((batch, units)),) * states
    slow = functools.partial(plain, kind, sequences=sequences, backwards=backwards)
    return functools.partial(run, cell, slow, sequences, backwards), slow, arguments


def close(received, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def loss(form, *arguments):
    return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves(form(*arguments)))


ORDERS = [
    ({}, True),
    ({"backwards": True}, False),
    ({"sequences": False}, True),
    *(
        pytest.param(order, masked, marks=pytest.mark.slow)
        for order, masked in [({}, False), ({"backwards": True}, True), ({"sequences": False}, False)]
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("order", "masked"), ORDERS, ids=str)
def test_values_gradients_forward_mode_and_second_derivatives(kind, order, masked):
    fast, slow, arguments = forms(kind, **order)
    mask = jnp.asarray([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool) if masked else None

    def all_of(form, arguments):
        form = functools.partial(form, mask=mask)
        moved = jax.tree.map(jnp.cos, arguments)
        gradient = jax.grad(lambda arguments: loss(form, *arguments))
        return (
            form(*arguments),
            gradient(arguments),
            jax.jvp(lambda a: form(*a), (arguments,), (moved,))[1],
            jax.jvp(gradient, (arguments,), (moved,))[1],
        )

    close(*(jax.jit(functools.partial(all_of, form))(arguments) for form in (fast, slow)), tolerance=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_wide_layers_without_a_gradient(kind):
    fast, slow, (weights, x, start) = forms(kind, batch=8, units=256, backwards=True)
    weights = jax.tree.map(lambda w: w / 8, weights)
    program = str(jax.make_jaxpr(fast)(weights, x, start))
    assert "f32[256,8]" in program  # the state, units first
    close(jax.jit(fast)(weights, x, start), jax.jit(slow)(weights, x, start))


@pytest.mark.parametrize("kind", KINDS)
def test_under_vmap_and_checkpoint(kind):
    fast, slow, (weights, x, start) = forms(kind)

    def gradients(form, weights, x, start):
        mapped = jax.vmap(jax.grad(functools.partial(loss, form)), (None, 0, None))
        kept = jax.checkpoint(lambda weights: loss(form, weights, x, start))
        return mapped(weights, jnp.stack([x, x + 1]), start), jax.grad(kept)(weights)

    close(
        *(jax.jit(functools.partial(gradients, form))(weights, x, start) for form in (fast, slow)),
        tolerance=1e-4,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_in_float64(kind):
    with jax.enable_x64(True):
        fast, slow, arguments = forms(kind, dtype=np.float64)
        gradient = lambda form: jax.jit(jax.grad(lambda a: loss(form, *a)))(arguments)  # noqa: E731
        close(gradient(fast), gradient(slow), tolerance=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_not_finite_stay_in_their_row(kind):
    fast, slow, (weights, x, start) = forms(kind)
    x = x.at[0, 1, 0].set(jnp.nan).at[1, 2, 1].set(jnp.inf)
    (received, _), _ = jax.vjp(fast, weights, x, start)
    expected, _ = slow(weights, x, start)
    np.testing.assert_array_equal(jnp.isnan(received), jnp.isnan(expected))
    np.testing.assert_allclose(received[2], expected[2], rtol=1e-5)


def test_where_it_is_taken():
    def taken(layer, x, **options):
        shapes, _ = jax.eval_shape(lambda: layer.init(jax.random.key(0), x))
        run = functools.partial(layer.apply, train=True, key=jax.random.key(0), **options)
        return "name=run" in str(jax.make_jaxpr(run)(shapes, {}, x))  # of `recurrent_cpu`

    x = jax.ShapeDtypeStruct((32, 3, 8), jnp.float32)
    for layer in (jl.LSTM(32), jl.GRU(32, use_bias=False), jl.GRU(32, reset_after=False), jl.SimpleRNN(32)):
        assert taken(layer, x)
    assert taken(jl.GRU(32, go_backwards=True, return_sequences=True, dropout=0.5), x)
    masked = jl.Masked(x, jax.ShapeDtypeStruct((32, 3), bool))
    zeros = {"return_sequences": True, "zero_output_for_mask": True}
    assert taken(jl.LSTM(32), masked)
    assert taken(jl.LSTM(32, **zeros), x)
    assert not taken(jl.LSTM(32, **zeros), masked)
    for layer in (
        jl.LSTM(32, activation="relu"),
        jl.SimpleRNN(32, activation="relu"),
        jl.LSTM(32, unroll=True),
        jl.LSTM(32, recurrent_dropout=0.5),
    ):
        assert not taken(layer, x)
    for shape, dtype in [((32, 3, 8), jnp.bfloat16), ((0, 3, 8), jnp.float32), ((32, 0, 8), jnp.float32)]:
        assert not taken(jl.LSTM(32), jax.ShapeDtypeStruct(shape, dtype))


@pytest.mark.parametrize("layer", [jl.SimpleRNN(32), jl.LSTM(32), jl.GRU(32)], ids=lambda x: x.spec.name)
def test_a_layer_without_initial_state_inside_shard_map(layer):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 3, 2)), jnp.float32)
    params, _ = layer.init(jax.random.key(0), x.shape)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    row = PartitionSpec("data")

    def gradient(params, x):
        return jax.grad(lambda params: jnp.sum(layer.apply(params, {}, x)[0] ** 2))(params)

    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(PartitionSpec(), row), out_specs=PartitionSpec())
    close(jax.jit(sharded)(params, x), jax.jit(gradient)(params, x))


@pytest.mark.parametrize("layer", [jl.SimpleRNN, jl.LSTM, jl.GRU], ids=lambda x: x.__name__)
def test_layers_without_a_bias_and_under_a_mask(layer, monkeypatch):
    layer = layer(4, use_bias=False, return_sequences=True)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3, 2)), jnp.float32)
    params, _ = layer.init(jax.random.key(0), x)
    inputs = jl.Masked(x, jnp.arange(3)[None] < jnp.arange(8)[:, None] % 4)

    def results():
        return jax.value_and_grad(lambda p: jnp.sum(layer.apply(p, {}, inputs)[0].values ** 2))(params)

    fast = results()
    monkeypatch.setattr(recurrent_cpu, "by_platform", lambda fast, plain, *arrays: plain(*arrays))
    close(fast, results())
