"""The log-probability of one class against its plain twin: values, all kinds of derivatives, odd cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.ops.cross_entropy import log_softmax_at, log_softmax_at_plain

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), -1), ((2, 4, 3), 1), ((7,), 0), ((0, 3), -1)])
def test_values_and_derivatives_are_those_of_the_plain_form(shape, axis):
    rest = np.delete(shape, axis)
    logits = jnp.asarray(3 * RNG.normal(size=shape), jnp.float32)
    numbers = jnp.asarray(RNG.integers(0, shape[axis], rest), jnp.int32)
    tangent = jnp.asarray(RNG.normal(size=shape), jnp.float32)
    results = []
    for form in (log_softmax_at, log_softmax_at_plain):
        run = jax.jit(lambda logits, form=form: form(logits, numbers, axis))
        forward = jax.jvp(run, (logits,), (tangent,))
        loss = lambda logits, run=run: jnp.sin(run(logits)).sum()  # noqa: E731
        results.append((*forward, jax.grad(loss)(logits), jax.grad(jax.checkpoint(loss))(logits)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)


def test_vmap():
    logits = jnp.asarray(RNG.normal(size=(4, 5, 3)), jnp.float32)
    numbers = jnp.asarray(RNG.integers(0, 3, (4, 5)), jnp.int32)
    np.testing.assert_array_equal(jax.vmap(log_softmax_at)(logits, numbers), log_softmax_at(logits, numbers))


def test_large_logits_lose_no_digits_and_impossible_classes_no_value():
    logits, numbers = jnp.array([[1e8, 1e8], [-1e30, 0.0], [0.0, -jnp.inf]]), jnp.array([0, 1, 0])
    np.testing.assert_allclose(log_softmax_at(logits, numbers), [-np.log(2), 0.0, 0.0], rtol=1e-6)
    gradient = jax.grad(lambda logits: log_softmax_at(logits, numbers).sum())(logits)
    np.testing.assert_allclose(gradient, [[0.5, -0.5], [0.0, 0.0], [0.0, 0.0]])
    assert jnp.isnan(log_softmax_at(jnp.array([jnp.nan, 0.0]), jnp.array(1)))


def test_the_loss_has_no_gradient_where_it_ignores():
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    logits, labels = jnp.asarray(RNG.normal(size=(3, 4)), jnp.bfloat16), jnp.array([-1, 2, 0])
    gradient = jax.grad(lambda logits: loss(labels, logits).sum())(logits)
    assert gradient.dtype == jnp.bfloat16
    assert bool((gradient[0] == 0).all())
    assert bool((gradient[1:] != 0).all())
