"""Whole numbers, such as uint8 pixels, where Keras takes them: pooling and upsampling, by Keras's values."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest
from keras_parity import relaxed

import jlayers as jl

RNG = np.random.default_rng(0)
SHAPES = {1: (2, 7, 3), 2: (2, 7, 5, 3), 3: (1, 4, 5, 6, 2)}
CASES = [
    *((f"AveragePooling{rank}D", rank, {"pool_size": 2, "padding": "same"}) for rank in SHAPES),
    *((f"MaxPooling{rank}D", rank, {"pool_size": 2}) for rank in SHAPES),
    *((f"GlobalAveragePooling{rank}D", rank, {}) for rank in SHAPES),
    *((f"AdaptiveAveragePooling{rank}D", rank, {"output_size": 3}) for rank in SHAPES),
    ("UpSampling2D", 2, {"interpolation": "bilinear"}),
    ("UpSampling2D", 2, {"interpolation": "bicubic"}),
]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize(("name", "rank", "arguments"), CASES)
def test_whole_numbers_are_taken_as_by_keras(name, rank, arguments, dtype):
    x = RNG.integers(0, 256, SHAPES[rank]).astype(dtype)
    with relaxed()[0], relaxed()[1]:
        # Keras sums windows of uint8 in uint8, which overflows: its values for int32 are the means.
        given = x.astype("int32") if "Average" in name else x
        expected = np.asarray(getattr(keras.layers, name)(**arguments)(given))
    received, _ = getattr(jl, name)(**arguments).apply({}, {}, x)
    assert (received.shape, str(received.dtype)) == (expected.shape, str(expected.dtype))
    np.testing.assert_allclose(received, expected, rtol=1e-6)
