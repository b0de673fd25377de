"""Adaptive pooling against Keras, and against the definition of its windows."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data, parity

import jlayers as jl

SHAPES = {1: (2, 7, 3), 2: (2, 7, 5, 3), 3: (1, 4, 5, 3, 2)}
LAYERS = {
    "Average": (jl.AdaptiveAveragePooling1D, jl.AdaptiveAveragePooling2D),
    "Max": (jl.AdaptiveMaxPooling1D, jl.AdaptiveMaxPooling2D),
}


@pytest.mark.parametrize("kind", ["Average", "Max"])
@pytest.mark.parametrize(("rank", "output_size"), [(1, 3), (1, 5), (2, (3, 2)), (2, 1), (3, (2, 3, 2))])
def test_adaptive_pooling(kind, rank, output_size):
    parity(f"Adaptive{kind}Pooling{rank}D", data(SHAPES[rank]), output_size=output_size)


@pytest.mark.parametrize("kind", ["Average", "Max"])
def test_channels_first(kind):
    parity(f"Adaptive{kind}Pooling2D", data((2, 3, 7, 6)), output_size=(3, 2), data_format="channels_first")


@pytest.mark.parametrize("kind", ["Average", "Max"])
@pytest.mark.parametrize(
    ("sizes", "counts"), list(itertools.product([(1, 4), (6, 7), (10, 3)], [(1, 2), (4, 7)]))
)
def test_windows_are_those_of_the_definition(kind, sizes, counts):
    # Keras rounds the ends of windows in float32 and reads beyond the input, for one from 7 to 7: NaN.
    x = data((2, *sizes, 2))
    reduce = {"Average": np.mean, "Max": np.max}[kind]
    expected = np.zeros((2, *counts, 2))
    for cell in itertools.product(*map(range, counts)):
        sides = [
            slice(math.floor(i * n / o), math.ceil((i + 1) * n / o))
            for i, n, o in zip(cell, sizes, counts, strict=True)
        ]
        expected[(slice(None), *cell)] = reduce(x[(slice(None), *sides)], axis=(1, 2))
    actual, _ = LAYERS[kind][1](counts).apply({}, {}, jnp.asarray(x))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_of_equal_cells_the_first_gets_the_gradient(count):
    pool = jl.AdaptiveMaxPooling1D(count)
    gradient = jax.grad(lambda x: pool.apply({}, {}, x)[0].sum())(jnp.ones((1, 4, 1)))
    expected = {2: [1, 0, 1, 0], 3: [1, 1, 1, 0]}[count]
    assert gradient.ravel().tolist() == expected


def test_whole_numbers_keep_their_dtype_in_a_maximum_and_have_a_mean_in_float32():
    x = jnp.arange(5, dtype=jnp.int32).reshape(1, 5, 1)
    greatest, mean = (
        layer(2).apply({}, {}, x)[0] for layer in (jl.AdaptiveMaxPooling1D, jl.AdaptiveAveragePooling1D)
    )
    assert greatest.ravel().tolist() == [2, 4]
    assert mean.ravel().tolist() == [1.0, 3.0]
    assert (greatest.dtype, mean.dtype) == (jnp.int32, jnp.float32)


def test_nan_reaches_its_windows_only():
    x = jnp.asarray([1.0, 2.0, jnp.nan, 4.0]).reshape(1, 4, 1)
    y = jl.AdaptiveMaxPooling1D(2).apply({}, {}, x)[0].ravel()
    assert float(y[0]) == 2
    assert bool(jnp.isnan(y[1]))


def test_bfloat16_is_averaged_in_float32():
    x = jnp.ones((1, 1001, 1), jnp.bfloat16)
    y = jl.AdaptiveAveragePooling1D(1).apply({}, {}, x)[0]
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 0, 0]) == 1


def test_sizes_may_be_unknown_and_not_zero():
    assert jl.AdaptiveMaxPooling1D(2)(jl.Input((None, 3))).shape == (None, 2, 3)
    with pytest.raises(ValueError, match=r"sizes of at least 1.*received float32\(2, 0, 3\)"):
        jl.AdaptiveMaxPooling1D(2).init(jax.random.key(0), (2, 0, 3))
