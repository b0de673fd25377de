"""Activations against Keras, against plain NumPy where Keras is only JAX again, and at the edges."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax.test_util import check_grads
from keras_values import keras_values
from scipy import special

from jlayers import activations
from jlayers.core.spec import to_data

X = np.concatenate([np.linspace(-8, 8, 61), [-3.0, -0.5, 0.0, 0.5, 3.0, 6.0, 1e3, -1e3]]).astype("float32")
X = X[:-1].reshape(4, 17)
OPTIONS = {
    "celu": [{"alpha": 0.5}],
    "elu": [{"alpha": 0.5}],
    "gelu": [{"approximate": True}],
    "hard_shrink": [{"threshold": 0.7}],
    "leaky_relu": [{"negative_slope": 0.1}],
    "relu": [
        {"negative_slope": 0.1},
        {"max_value": 2.0},
        {"threshold": 1.0},
        {"negative_slope": 0.1, "max_value": 2.0, "threshold": 1.0},
    ],
    "log_softmax": [{"axis": 0}],
    "soft_shrink": [{"threshold": 0.7}],
    "softmax": [{"axis": 0}],
    "squareplus": [{"b": 2.0}],
    "threshold": [{"threshold": 1.0, "default_value": -3.0}],
}
CASES = [
    (name, options)
    for name in activations.registry
    for options in ([] if name == "threshold" else [{}]) + OPTIONS.get(name, [])
    if name != "sparsemax"  # whose rows do not sum to 1 in Keras 3.15
]


def test_all_of_keras_are_here():
    ours = set(activations.registry)
    theirs = {n for n in dir(keras.activations) if n[0] != "_"} - {"get", "serialize", "deserialize"}
    assert {n for n in theirs if n not in activations.registry} == set()
    assert len(ours) == 30
    assert {"swish", "hard_swish"} <= theirs
    assert set(activations.__all__) == ours | {"get", "register"}


@functools.cache
def all_cases(library):
    """Values and gradients of every case, compiled together, which is what takes the time."""

    def loss(f, x):
        y = f(x)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype="float32").reshape(y.shape))), y

    def compute(x):
        found = []
        for name, options in CASES:
            f = functools.partial(getattr(library, name), **options)
            data = x[:, :16] if name == "glu" else x
            (_, y), gradient = jax.value_and_grad(functools.partial(loss, f), has_aux=True)(data)
            found.append((y, gradient))
        return found

    return [tuple(map(np.asarray, pair)) for pair in jax.jit(compute)(jnp.asarray(X))]


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{name}-{options}" for name, options in CASES])
def test_keras_parity(case):
    value, gradient = all_cases(activations)[case]
    expected, expected_gradient = keras_values(lambda: all_cases(keras.activations)[case])
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=2e-6)
    name = CASES[case][0]
    x = X[:, :16] if name == "glu" else X
    kinks = {"hard_shrink", "soft_shrink", "relu6", "hard_tanh", "threshold", "relu"}
    smooth = np.min(np.abs(x[..., None] - np.array([-1, -0.7, -0.5, 0, 0.5, 0.7, 1, 2, 6])), -1) > 1e-3
    where = smooth if name in kinks else np.ones_like(x, bool)
    np.testing.assert_allclose(gradient[where], expected_gradient[where], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("gelu", lambda x: x * special.ndtr(x)),
        ("sigmoid", special.expit),
        ("softplus", lambda x: np.logaddexp(0, x)),
        ("mish", lambda x: x * np.tanh(np.logaddexp(0, x))),
        ("log_softmax", lambda x: special.log_softmax(x, axis=-1)),
        ("softmax", lambda x: special.softmax(x, axis=-1)),
        ("log_sigmoid", special.log_expit),
        ("squareplus", lambda x: (x + np.sqrt(x * x + 4)) / 2),
    ],
)
def test_numpy_reference(name, reference):
    actual = getattr(activations, name)(jnp.asarray(X))
    np.testing.assert_allclose(actual, reference(X.astype("float64")), rtol=1e-5, atol=1e-5)


def test_sparsemax_is_the_projection_onto_the_simplex():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 7)).astype("float32")
    y = np.asarray(activations.sparsemax(jnp.asarray(x)))
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-6)
    assert (y >= 0).all()
    assert (y == 0).any()
    # No point of the simplex is nearer.
    for other in rng.dirichlet(np.ones(7), size=200):
        assert (((x - y) ** 2).sum(-1) <= ((x - other) ** 2).sum(-1) + 1e-6).all()
    assert np.isnan(activations.sparsemax(jnp.array([jnp.nan, 1.0]))).any()


@pytest.mark.parametrize("name", ["gelu", "mish", "selu", "softmax", "squareplus", "glu", "tanh_shrink"])
def test_gradients_by_finite_differences(name):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), "float32")
    check_grads(getattr(activations, name), (x,), order=2, modes=["rev"], atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_and_is_finite(dtype):
    x = jnp.linspace(-4, 4, 16, dtype=dtype)
    found = jax.jit(lambda x: {name: getattr(activations, name)(x) for name in activations.registry})(x)
    for name, y in found.items():
        assert y.dtype == dtype, name
        assert jnp.isfinite(y).all(), name


def test_names_and_options():
    assert activations.get("relu") is activations.relu
    assert activations.get("swish") is activations.silu
    assert activations.get(None) is None
    assert activations.get({"leaky_relu": {"negative_slope": 0.5}})(jnp.array(-2.0)) == -1.0
    assert to_data(activations.get({"gelu": {"approximate": True}})) == {"gelu": {"approximate": True}}
    with pytest.raises(KeyError, match="unknown activation 'rleu': did you mean 'relu'"):
        activations.get("rleu")


def test_glu_needs_an_even_axis():
    with pytest.raises(
        ValueError, match=r"expected an even size along axis, to halve it, received axis=-1, float32\(3,\)"
    ):
        activations.glu(jnp.ones(3))


def test_a_function_of_ones_own():
    @activations.register
    def double_for_test(x, times: float = 2.0):
        return x * times

    try:
        assert activations.get({"double_for_test": {"times": 3.0}})(2.0) == 6.0
    finally:
        for table in ("_constructors", "_functions", "_by_key"):
            getattr(activations.registry, table).pop("double_for_test")
