"""Initializers: distributions against SciPy, fans against Keras, determinism, dtypes, errors."""

from __future__ import annotations

import inspect
import math
import re

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from scipy import stats

from jlayers import initializers

SCALED = {
    "glorot_normal": (1.0, "fan_avg", "normal"),
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "he_normal": (2.0, "fan_in", "normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "lecun_normal": (1.0, "fan_in", "normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
}
RANDOM = [*SCALED, "random_normal", "random_uniform", "truncated_normal", "variance_scaling", "orthogonal"]
SHAPE = (3, 3, 10, 50)


def draw(name, shape=SHAPE, dtype="float32", seed=0, **options):
    return np.asarray(initializers.get({name: options})(jax.random.key(seed), shape, dtype))


def matches(sample, distribution):
    """Kolmogorov and Smirnov's test; the seeds are fixed, so that it cannot fail by chance."""
    return stats.kstest(sample.ravel(), distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", SCALED)
def test_scaled_distributions(name):
    scale, mode, kind = SCALED[name]
    fan_in, fan_out = 3 * 3 * 10, 3 * 3 * 50
    std = math.sqrt(scale / {"fan_in": fan_in, "fan_avg": (fan_in + fan_out) / 2}[mode])
    if kind == "uniform":
        limit = math.sqrt(3) * std
        expected = stats.uniform(-limit, 2 * limit)
    else:
        expected = stats.truncnorm(-2, 2, scale=std / stats.truncnorm(-2, 2).std())
    assert matches(draw(name), expected)
    assert math.isclose(expected.std(), std, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("random_normal", {}, stats.norm(0, 0.05)),
        ("random_normal", {"mean": 1.0, "stddev": 2.0}, stats.norm(1, 2)),
        ("random_uniform", {}, stats.uniform(-0.05, 0.1)),
        ("random_uniform", {"minval": 1.0, "maxval": 3.0}, stats.uniform(1, 2)),
        ("truncated_normal", {}, stats.truncnorm(-2, 2, scale=0.05)),
        ("truncated_normal", {"mean": 1.0, "stddev": 2.0}, stats.truncnorm(-2, 2, loc=1, scale=2)),
        (
            "variance_scaling",
            {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"},
            stats.norm(0, math.sqrt(3 / 450)),
        ),
    ],
)
def test_plain_distributions(name, options, expected):
    assert matches(draw(name, **options), expected)


@pytest.mark.parametrize("shape", [(), (5,), (4, 6), (3, 4, 6), (3, 3, 2, 8), (2, 3, 3, 4, 6)], ids=str)
def test_fans_are_those_of_keras(shape):
    fans = keras.src.initializers.random_initializers.compute_fans
    assert initializers.scaling._fans(shape, None, None) == fans(shape)
    if len(shape) == 3:
        assert initializers.scaling._fans(shape, (0,), (1, 2)) == fans(shape, [0], [1, 2])


def test_axes_of_other_layouts():
    limit = math.sqrt(6 / 64)
    w = draw("glorot_uniform", (32, 4, 8), input_axes=(0,), output_axes=(1, 2))
    assert 0.9 * limit < np.abs(w).max() <= limit


def test_names_arguments_and_defaults_are_those_of_keras():
    own = {
        n
        for n in initializers.registry
        if initializers.registry[n].__module__.startswith("jlayers.initializers.")
    }
    for name in own:
        theirs = inspect.signature(getattr(keras.initializers, name).__init__).parameters
        expected = {k: p.default for k, p in theirs.items() if k not in ("self", "seed", "args", "kwargs")}
        ours = {k: p.default for k, p in initializers.registry.parameters(name).items()}
        if not (name in ("zeros", "ones") and not ours):
            assert ours == expected, name
    for spelling in ("HeNormal", "uniform", "normal", "zero", "one", "Orthogonal", "IdentityInitializer"):
        assert spelling in initializers.registry
    classes = {name for name in initializers.__all__ if not name.islower()}
    assert set(initializers.__all__) == own | classes | {"get", "register"}
    assert {initializers.registry.find(name) for name in classes} == own
    for name in classes:
        assert getattr(initializers, name) is initializers.registry[name]


@pytest.mark.parametrize("name", RANDOM)
def test_the_key_decides(name):
    shape = (4, 5)
    np.testing.assert_array_equal(draw(name, shape), draw(name, shape))
    assert not np.array_equal(draw(name, shape), draw(name, shape, seed=1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [*RANDOM, "zeros", "ones", "constant", "identity"])
def test_half_precision_is_the_rounded_draw(name, dtype):
    half = draw(name, (4, 5), dtype)
    assert half.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(half, draw(name, (4, 5)).astype(half.dtype))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 3, 2, 4), (2, 2, 30)], ids=str)
def test_orthogonal(shape):
    w = draw("orthogonal", shape, gain=2.0).reshape(-1, shape[-1]).astype("float64")
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, 4 * np.eye(min(w.shape)), atol=1e-5)


def test_orthogonal_prefers_no_direction():
    first = np.array([draw("orthogonal", (2, 2), seed=seed)[0] for seed in range(150)])
    angles = (np.arctan2(first[:, 1], first[:, 0]) + np.pi) / (2 * np.pi)
    assert stats.kstest(angles, stats.uniform.cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(), (7, 3), (129, 128), (3, 0)], ids=str)
def test_draws_by_common_sizes_are_the_direct_ones(shape):
    key = jax.random.key(3)
    direct = jax.random.normal(key, shape)
    np.testing.assert_array_equal(
        initializers.base.draw_by_size(jax.random.normal, key, shape, "float32"), direct
    )


def test_against_the_initializers_of_jax():
    for name in SCALED:
        theirs = getattr(jax.nn.initializers, name)()
        np.testing.assert_allclose(
            draw(name), theirs(jax.random.key(0), SHAPE, "float32"), rtol=2e-5, atol=1e-7
        )


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("side", "scaling"), [("real", "density"), ("imag", "spectrum"), ("imag", None)])
def test_stft_is_that_of_keras(side, scaling, periodic):
    shape = (9, 1, 6)
    named = {"hann", "hamming", "blackman", "nuttall", "blackmanharris", "boxcar"}
    for window in (*sorted(named), None, tuple(np.linspace(0.1, 1, 9).tolist())):
        options = {"side": side, "window": window, "scaling": scaling, "periodic": periodic}
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            expected = keras.initializers.STFT(**options)(shape)
        np.testing.assert_allclose(draw("STFT", shape, **options), expected, rtol=1e-5, atol=3e-6)


def test_fixed_values():
    np.testing.assert_array_equal(draw("constant", (2,), value=3.0), [3, 3])
    np.testing.assert_array_equal(draw("identity", (2, 3), gain=2.0), 2 * np.eye(2, 3))
    np.testing.assert_array_equal(draw("zeros", (2,)), [0, 0])
    np.testing.assert_array_equal(draw("ones", (2,), "int32"), [1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw("identity", (2,)), "identity: expected 2 dimensions, received shape=(2,)"),
        (lambda: draw("orthogonal", (2,)), "orthogonal: expected at least 2 dimensions, received shape=(2,)"),
        (
            lambda: initializers.random_uniform(1.0, 0.0),
            "random_uniform: expected minval <= maxval, received minval=1.0, maxval=0.0",
        ),
        (
            lambda: initializers.random_normal(stddev=-1.0),
            "random_normal: expected stddev >= 0, received stddev=-1.0",
        ),
        (
            lambda: initializers.variance_scaling(0.0),
            "variance_scaling: expected scale > 0, received scale=0.0",
        ),
        (
            lambda: initializers.variance_scaling(mode="fan"),
            "variance_scaling: expected mode out of ('fan_in', 'fan_out', 'fan_avg'), received mode='fan'",
        ),
        (
            lambda: initializers.variance_scaling(distribution="gamma"),
            "variance_scaling: expected distribution out of ('truncated_normal', 'untruncated_normal', "
            "'uniform'), received distribution='gamma'",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_unknown_name_and_unknown_argument():
    with pytest.raises(KeyError, match="unknown initializer 'glorot_unifrom': did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")
    with pytest.raises(TypeError, match="he_normal has no argument 'seed'"):
        initializers.he_normal(seed=1)
