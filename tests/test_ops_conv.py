"""Convolution in its forms for CPUs against the plain one: values, all kinds of derivatives, odd cases."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlayers.ops.conv import conv, conv_lax
from jlayers.ops.conv_transpose import conv_transpose, conv_transpose_lax

# shape of x, window, filters, strides, padding, dilation, groups
CASES = [
    ((3, 9, 8, 3), (3, 3), 5, (1, 1), "same", (1, 1), 1),
    ((3, 9, 8, 3), (3, 2), 5, (2, 1), "valid", (1, 1), 1),
    ((3, 9, 8, 3), (3, 3), 5, (2, 2), "same", (1, 1), 1),
    ((3, 9, 8, 3), (3, 3), 4, (3, 2), ((2, 1), (0, 3)), (1, 1), 1),
    ((3, 9, 8, 2), (2, 3), 4, (1, 1), "valid", (2, 3), 1),
    ((3, 9, 8, 6), (1, 1), 5, (1, 1), "same", (1, 1), 1),
    ((3, 9, 8, 6), (1, 1), 5, (3, 2), "valid", (1, 1), 1),
    ((3, 9, 8, 1), (3, 3), 5, (1, 1), "valid", (1, 1), 1),
    ((3, 9, 8, 6), (3, 3), 4, (1, 1), "same", (1, 1), 2),
    ((3, 9, 8, 6), (2, 2), 9, (2, 2), "valid", (1, 1), 3),
    ((3, 9, 8, 4), (3, 3), 8, (1, 1), "same", (1, 1), 4),
    ((3, 9, 8, 4), (3, 5), 4, (2, 3), "same", (1, 1), 4),
    ((3, 9, 8, 2), (2, 3), 4, (3, 1), ((1, 0), (2, 1)), (1, 1), 2),
    ((3, 9, 8, 2), (3, 3), 2, (1, 1), "same", (2, 3), 2),
    ((1, 9, 8, 16), (3, 3), 17, (1, 1), "same", (1, 1), 1),
    ((1, 17, 8, 17), (3, 2), 16, (1, 1), ((0, 1), (2, 0)), (1, 2), 1),
    ((4, 9, 8, 6), (3, 2), 5, (1, 2), ((-1, 3), (2, 0)), (2, 1), 1),
    ((2, 12, 3), (4,), 5, (3,), ((3, 0),), (1,), 1),
    ((2, 4, 5, 4, 2), (2, 3, 2), 3, (1, 2, 1), "same", (1, 1, 1), 1),
]


def forms(case):
    """The form that is chosen, the plain one, and arrays for both."""
    shape, window, filters, strides, padding, dilation, groups = case
    options = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*window, shape[-1] // groups, filters)), jnp.float32)
    return functools.partial(conv, **options), functools.partial(conv_lax, **options), x, kernel


def gradients_of(form):
    return jax.jit(jax.value_and_grad(lambda x, kernel: jnp.sum(form(x, kernel)), (0, 1)))


def close(received, expected, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=tolerance, atol=tolerance * 50
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_gradients_forward_mode_and_second_derivatives(case):
    fast, plain, x, kernel = forms(case)

    def all_of(form, x, kernel):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(form(x, kernel)))

        gradient = jax.grad(loss, (0, 1))
        moved = (jnp.cos(x), jnp.cos(kernel))
        return (
            form(x, kernel),
            gradient(x, kernel),
            jax.jvp(form, (x, kernel), moved)[1],
            jax.jvp(gradient, (x, kernel), moved)[1],
        )

    close(*(jax.jit(functools.partial(all_of, form))(x, kernel) for form in (fast, plain)))


HALF = [CASES[0], CASES[2], CASES[6], CASES[8], pytest.param(CASES[11], marks=pytest.mark.slow)]


@pytest.mark.parametrize("case", HALF, ids=str)
def test_under_vmap_checkpoint_and_in_half_precision(case):
    fast, plain, x, kernel = forms(case)

    def gradients(form, x, kernel):
        mapped = jax.vmap(jax.grad(lambda x, k: jnp.sum(form(x, k) ** 2), (0, 1)), (0, None))
        kept = jax.checkpoint(lambda x, k: jnp.sum(jnp.tanh(form(x, k))))
        return mapped(jnp.stack([x, x + 1]), kernel), jax.grad(kept, (0, 1))(x, kernel)

    close(*(jax.jit(functools.partial(gradients, form))(x, kernel) for form in (fast, plain)))
    half = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    half_gradients = [
        jax.jit(jax.grad(lambda x, k, f=f: jnp.sum(f(x, k)), (0, 1)))(*half) for f in (fast, plain)
    ]
    close(*half_gradients, tolerance=2e-2)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[5], CASES[8], CASES[11]], ids=str)
def test_no_examples_and_values_that_are_not_finite(case):
    fast, plain, x, kernel = forms(case)
    close(*(gradients_of(form)(x[:0], kernel) for form in (fast, plain)))
    x = x.at[0, 4, 3, 0].set(jnp.nan).at[1, 2, 2, 0].set(jnp.inf)
    values, expected = jax.jit(fast)(x, kernel), jax.jit(plain)(x, kernel)
    np.testing.assert_array_equal(jnp.isfinite(values), jnp.isfinite(expected))


@pytest.mark.parametrize(
    ("window", "strides", "pads", "dilation"),
    [
        ((3, 3), (2, 2), ((2, 1), (2, 1)), (1, 1)),
        ((2, 2), (2, 3), ((1, 1), (1, 2)), (1, 1)),
        ((3, 2), (1, 1), ((4, 4), (0, 1)), (2, 1)),
    ],
)
def test_transposed_convolution(window, strides, pads, dilation):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 5, 4, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*window, 2, 3)), jnp.float32)

    def all_of(form, x, kernel):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(form(x, kernel, strides, pads, dilation)))

        gradient, moved = jax.grad(loss, (0, 1)), (jnp.cos(x), jnp.cos(kernel))
        mapped = jax.vmap(gradient, (0, None))(jnp.stack([x, -x]), kernel)
        return jax.jvp(loss, (x, kernel), moved), jax.jvp(gradient, (x, kernel), moved), mapped

    close(*(jax.jit(functools.partial(all_of, f))(x, kernel) for f in (conv_transpose, conv_transpose_lax)))


@pytest.mark.parametrize("groups", [1, 8])
def test_the_gradient_for_the_kernel_in_parts_of_the_batch(groups):
    shape = (32, 32, 32, 8)
    x = jnp.cos(jnp.arange(math.prod(shape), dtype=jnp.float32)).reshape(shape)
    kernel = jnp.ones((3, 3, 8 // groups, 8))
    options = {"strides": (1, 1), "padding": "same", "dilation": (1, 1), "groups": groups}

    def gradient(form):
        def loss(kernel, x):
            return jnp.mean(jnp.sin(form(jnp.tanh(x), kernel, **options)))

        return jax.jit(jax.grad(loss)).lower(kernel, x).compile()

    fast = gradient(conv)
    close(fast(kernel, x), gradient(conv_lax)(kernel, x))
    assert fast.memory_analysis().temp_size_in_bytes < 8 * x.nbytes  # what the cells see is 9 times `x`


def test_an_input_of_two_convolutions_is_kept_once():
    x = jnp.cos(jnp.arange(64 * 16 * 16 * 8, dtype=jnp.float32)).reshape(64, 16, 16, 8)
    kernels = jnp.ones((3, 3, 8, 4)), jnp.ones((1, 1, 8, 4))

    def loss(kernels, x):
        y = jnp.tanh(x)
        return sum(jnp.sum(jnp.sin(conv(y, kernel, (2, 2), "same", (1, 1)))) for kernel in kernels)

    compiled = jax.jit(jax.grad(loss)).lower(kernels, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2.5 * x.nbytes  # 3.8 with the parts cut beforehand
