"""Pooling in its forms for CPUs against `reduce_window`: values, all kinds of derivatives, odd cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlayers.ops.pool import avg_pool, avg_pool_lax, max_pool, max_pool_lax

FORMS = {"max": (max_pool, max_pool_lax), "avg": (avg_pool, avg_pool_lax)}

# shape of x, window, strides, padding
CASES = [
    ((2, 7, 6, 3), (2, 2), (2, 2), "valid"),
    ((2, 7, 6, 3), (2, 3), (2, 3), "same"),
    ((2, 8, 7, 3), (3, 3), (2, 2), "same"),
    ((2, 8, 7, 3), (3, 2), (1, 4), "valid"),
    ((2, 9, 3), (4,), (3,), "same"),
    ((2, 7, 9, 3), (3, 4), (3, 4), "valid"),
    ((1, 4, 5, 4, 2), (3, 2, 3), (2, 2, 1), "same"),
    ((2, 7, 6, 3), (3, 3), (2, 2), ((1, 1), (0, 2))),
    ((2, 5, 3), (2,), (2,), ((1, 0),)),
]


def forms(kind, case):
    """The form that is chosen, `reduce_window`, and an array with many ties."""
    shape, window, strides, padding = case
    options = {"window": window, "strides": strides, "padding": padding}
    x = jnp.asarray(np.random.default_rng(0).integers(-2, 3, size=shape), jnp.float32)
    return *(functools.partial(form, **options) for form in FORMS[kind]), x


def same(received, expected, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), tolerance, tolerance)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_gradients_forward_mode_and_second_derivatives(kind, case):
    *both, x = forms(kind, case)

    def all_of(form, x):
        def loss(x):
            y = form(x)
            return jnp.sum(jnp.sin(y + jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)))

        gradient, moved = jax.grad(loss), jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
        apart = x + 0.1 * moved  # in forward mode `reduce_window` takes any of equal cells
        tangents = [jax.jvp(f, (apart,), (moved,))[1] for f in (form, gradient)]
        return form(x), gradient(x), tangents

    same(*(jax.jit(functools.partial(all_of, form))(x) for form in both), tolerance=1e-5)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=str)
def test_under_vmap_and_checkpoint_in_half_precision_and_with_no_examples(kind, case):
    *both, x = forms(kind, case)

    def all_of(form, x):
        def loss(x):
            return jnp.sum(jnp.sin(form(x).astype(jnp.float32)))

        mapped = jax.vmap(jax.grad(loss))(jnp.stack([x, -x]))
        kept = jax.grad(jax.checkpoint(loss))(x)
        return mapped, kept, form(x.astype(jnp.bfloat16)), jax.grad(loss)(x[:0])

    same(*(jax.jit(functools.partial(all_of, form))(x) for form in both))


@pytest.mark.parametrize("kind", FORMS)
def test_what_is_not_finite(kind):
    *both, x = forms(kind, CASES[2])
    x = x.at[0, 3, 3, 0].set(jnp.nan).at[0, 0, 0, 1].set(jnp.inf).at[1, :, :, 2].set(-jnp.inf)
    fast, plain = (jax.jit(form)(x) for form in both)
    np.testing.assert_array_equal(fast, plain)


def test_whole_numbers():
    fast, plain, x = forms("max", CASES[2])
    same(fast(x.astype(jnp.int32)), plain(x.astype(jnp.int32)))
