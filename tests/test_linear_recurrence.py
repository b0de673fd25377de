"""MinGRU and LRU against the recurrence step by step in NumPy, and the parallel form beside the plain one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data

import jlayers as jl
from jlayers.ops.linear_recurrence import linear_recurrence_by_steps, linear_recurrence_in_parallel


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def min_gru(params, x, h):
    kernel, bias = (np.asarray(params[k], np.float64) for k in ("kernel", "bias"))
    outputs = []
    for t in range(x.shape[1]):
        z, candidate = np.split(x[:, t] @ kernel + bias, 2, axis=1)
        h = (1 - sigmoid(z)) * h + sigmoid(z) * np.tanh(candidate)
        outputs.append(h)
    return np.stack(outputs, axis=1), h


def lru(params, x, h):
    p = {k: np.asarray(v, np.float64) for k, v in params.items()}
    size = p["nu_log"].size
    h = h[:, :size] + 1j * h[:, size:]
    factor = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    b = p["input_kernel"][:, :size] + 1j * p["input_kernel"][:, size:]
    c = p["output_kernel"][:size] - 1j * p["output_kernel"][size:]
    outputs = []
    for t in range(x.shape[1]):
        h = factor * h + np.exp(p["gamma_log"]) * (x[:, t] @ b)
        outputs.append((h @ c).real + x[:, t] @ p["feedthrough_kernel"])
    return np.stack(outputs, axis=1), np.concatenate([h.real, h.imag], axis=1)


CASES = [
    (lambda **o: jl.MinGRU(3, activation="tanh", bias_initializer="ones", **o), min_gru, 3),
    (lambda **o: jl.LRU(3, 5, r_min=0.5, **o), lru, 10),
]


@pytest.mark.parametrize(("make", "reference", "width"), CASES, ids=["MinGRU", "LRU"])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_equals_the_recurrence_step_by_step(make, reference, width, go_backwards):
    x, h = data((2, 6, 4)), data((2, width), seed=1)
    layer = make(return_sequences=True, return_state=True, go_backwards=go_backwards)
    params, _ = layer.init(jax.random.key(0), x)
    apply = jax.jit(lambda x, h: layer.apply(params, {}, x, h)[0])

    def seen(x):  # the steps in the order in which they are computed
        return x[:, ::-1] if go_backwards else x

    expected, last = reference(params, seen(x), h)
    first, middle = apply(seen(seen(x)[:, :3]), h)
    rest, state = apply(seen(seen(x)[:, 3:]), middle)  # continues where it stopped
    np.testing.assert_allclose(jnp.concatenate([first, rest], axis=1), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state, last, rtol=1e-5, atol=1e-5)
    y = jax.jit(lambda x: make(go_backwards=go_backwards).apply(params, {}, x)[0])(x)
    np.testing.assert_allclose(
        y, reference(params, seen(x), np.zeros_like(h))[0][:, -1], rtol=1e-5, atol=1e-5
    )


def test_min_gru_is_stable_over_long_sequences_of_extreme_inputs():
    layer = jl.MinGRU(3, activation="tanh", return_sequences=True)
    x = data((2, 2000, 2)) * np.float32(10) ** np.random.default_rng(0).integers(-3, 5, (2, 2000, 1))
    params, _ = layer.init(jax.random.key(0), x)
    params["bias"] = jnp.asarray(np.float32([-20.0, 0.0, 20.0, 0.0, 1.0, -1.0]))
    expected, _ = min_gru(params, x.astype(np.float32), np.zeros((2, 3)))

    def loss(params, x):
        y, _ = layer.apply(params, {}, x)
        return jnp.sum(y**2), y

    gradients, y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, jnp.asarray(x))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradients))


def test_lru_is_stable_over_long_sequences():
    layer = jl.LRU(2, 16, r_min=0.0, r_max=1.0)
    x = data((1, 2000, 2))
    params, _ = layer.init(jax.random.key(0), x)
    assert all(np.all(np.isfinite(p)) for p in jax.tree.leaves(params))
    expected, _ = lru(params, x, np.zeros((1, 32)))
    total = jax.value_and_grad(lambda p: jnp.sum(layer.apply(p, {}, jnp.asarray(x))[0]))
    y, gradients = jax.jit(total)(params)
    np.testing.assert_allclose(np.asarray(y), expected[:, -1].sum(), rtol=1e-4, atol=1e-4)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradients))


def test_lru_starts_in_its_ring():
    layer = jl.LRU(64, r_min=0.4, r_max=0.8, max_phase=0.3)
    params, _ = layer.init(jax.random.key(0), (1, 2, 3))
    radius, phase = np.exp(-np.exp(params["nu_log"])), np.exp(params["theta_log"])
    assert np.all((radius >= 0.4) & (radius <= 0.8))
    assert np.all((phase > 0) & (phase <= 0.3))
    np.testing.assert_allclose(np.exp(params["gamma_log"]), np.sqrt(1 - radius**2), rtol=1e-5)


@pytest.mark.slow
def test_the_parallel_form_equals_its_plain_twin():
    a, b, start = (jnp.asarray(data(shape, seed=i)) for i, shape in enumerate([(1, 9, 4), (2, 9, 4), (2, 4)]))

    def all_of(form, a, b, given):
        def loss(a, b):
            return jnp.sum(jnp.sin(form(a, b, given)))

        gradient, moved = jax.grad(loss, (0, 1)), (jnp.cos(a), jnp.cos(b))
        return (
            form(a, b, given),
            jax.jvp(gradient, (a, b), moved),
            jax.vmap(gradient)(jnp.stack([a, -a]), jnp.stack([b, -b])),
            jax.grad(jax.checkpoint(loss))(a, b),
        )

    for given in (None, start):
        fast, plain = (
            jax.tree.leaves(jax.jit(functools.partial(all_of, form))(a, b, given))
            for form in (linear_recurrence_in_parallel, linear_recurrence_by_steps)
        )
        for received, expected in zip(fast, plain, strict=True):
            np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)
    half = [x.astype(jnp.bfloat16) for x in (a, b)]
    fast, plain = (
        form(*half).astype(jnp.float32)
        for form in (linear_recurrence_in_parallel, linear_recurrence_by_steps)
    )
    np.testing.assert_allclose(fast, plain, rtol=5e-2, atol=5e-2)
    broken = b.at[0, 3, 0].set(jnp.nan).at[1, 4, 1].set(jnp.inf)
    fast, plain = (form(a, broken) for form in (linear_recurrence_in_parallel, linear_recurrence_by_steps))
    np.testing.assert_array_equal(jnp.isfinite(fast), jnp.isfinite(plain))


@pytest.mark.parametrize("make", [case[0] for case in CASES], ids=["MinGRU", "LRU"])
def test_a_graph_may_leave_the_number_of_steps_open(make):
    x = jl.Input((None, 4))
    model = jl.Model(x, make(return_sequences=True)(x))
    params, state = model.init(jax.random.key(0), (2, 5, 4))
    y, _ = jax.eval_shape(model.apply, params, state, jax.ShapeDtypeStruct((2, 6, 4), "float32"))
    assert y.shape == (2, 6, 3)


def test_errors_teach():
    with pytest.raises(ValueError, match="MinGRU: expected one initial state of shape"):
        jl.MinGRU(3).init(jax.random.key(0), (2, 5, 4), (2, 4))
    with pytest.raises(ValueError, match="LRU: expected at least one time step"):
        jl.LRU(3).init(jax.random.key(0), (2, 0, 4))
    with pytest.raises(ValueError, match=r"0 <= r_min < r_max <= 1, received r_min=0\.9, r_max=0\.5"):
        jl.LRU(3, r_min=0.9, r_max=0.5)
