"""Products of a kernel with the last axes of an input against one contraction: values and derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlayers.ops.product import product, product_flat, product_plain


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("shape", "kernel", "axes"),
    [((2, 5, 3), (3, 4), 1), ((2, 5, 3), (3, 2, 4), 1), ((2, 5, 2, 3), (2, 3, 4), 2), ((0, 5, 3), (3, 4), 1)],
)
def test_two_matrices_equal_one_contraction(shape, kernel, axes, dtype):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), dtype) for s in (shape, kernel))

    @functools.partial(jax.jit, static_argnums=0)
    def all_of(form, x, w):
        def loss(x, w):
            return jnp.sum(jnp.sin(form(x, w, axes)))

        gradient = jax.grad(loss, (0, 1))
        mapped = jax.vmap(gradient, (0, None))(jnp.stack([x, -x]), w)
        kept = jax.grad(jax.checkpoint(loss), (0, 1))(x, w)
        not_finite = form(jnp.where(x > 1, jnp.inf, jnp.where(x < -1, jnp.nan, x)), w, axes)
        return form(x, w, axes), gradient(x, w), jax.jvp(gradient, (x, w), (x, w)), mapped, kept, not_finite

    plain, *others = (jax.tree.leaves(all_of(form, x, w)) for form in (product_plain, product_flat, product))
    tolerance = 1e-5 if dtype == jnp.float32 else 0.1
    for leaves in others:
        for a, b in zip(leaves, plain, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            a, b = a.astype(jnp.float32), b.astype(jnp.float32)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
