"""TernaryDense against NumPy: signs, the mean as a factor, and the gradient that passes straight through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5)).astype("float32")
KERNEL = RNG.normal(size=(5, 4)).astype("float32")
BIAS = RNG.normal(size=4).astype("float32")


@pytest.mark.parametrize("threshold", [None, 0.0, 0.6, 1e9])
def test_outputs_and_gradients(threshold):
    layer = jl.TernaryDense(4, threshold)

    def output(kernel):
        return layer.apply({"kernel": kernel, "bias": BIAS}, {}, X)[0]

    mean = np.abs(KERNEL).mean()
    signs = np.sign(KERNEL) * (np.abs(KERNEL) > (0.5 * mean if threshold is None else threshold))
    factor = mean if threshold is None else 1.0
    np.testing.assert_allclose(output(KERNEL), factor * (X @ signs) + BIAS, rtol=1e-5, atol=1e-6)
    weights = RNG.normal(size=(3, 4)).astype("float32")
    gradient = jax.grad(lambda kernel: jnp.sum(weights * output(kernel)))(KERNEL)
    straight = factor * X.T @ weights
    if threshold is None:  # the mean depends on the kernel, too
        straight = straight + np.sum(weights * (X @ signs)) * np.sign(KERNEL) / KERNEL.size
    np.testing.assert_allclose(gradient, straight, rtol=1e-4, atol=1e-5)


def test_it_trains_and_keeps_its_form():
    y = (X @ np.sign(KERNEL[:, :1])).astype("float32")
    trainer = jl.compile(jl.TernaryDense(1), {"adam": {"learning_rate": 0.05}}, "mse")
    _, history = jl.fit(trainer, X, y, epochs=30, batch_size=3)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_refused():
    with pytest.raises(ValueError, match="threshold=-1"):
        jl.TernaryDense(2, -1)
    with pytest.raises(ValueError, match="units=0"):
        jl.TernaryDense(0)
