"""The gated linear unit by its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data
from scipy import special

import jlayers as jl

GATES = {
    "silu": lambda x: x * special.expit(x),
    "sigmoid": special.expit,
    "gelu": lambda x: 0.5 * x * (1 + special.erf(x / np.sqrt(2))),
    None: lambda x: x,
}


@pytest.mark.parametrize("activation", GATES)
def test_gated_dense_is_its_formula(activation):
    x = data((2, 3, 4))
    layer = jl.GatedDense(5, activation, use_bias=True)
    params, state = layer.init(jax.random.key(0), x)
    params = {name: jnp.asarray(data(p.shape, seed=2)) for name, p in params.items()}
    kernel, bias = np.asarray(params["kernel"], np.float64), np.asarray(params["bias"], np.float64)
    expected = GATES[activation](x @ kernel[:, :5] + bias[:5]) * (x @ kernel[:, 5:] + bias[5:])
    y, _ = layer.apply(params, state, jnp.asarray(x))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
