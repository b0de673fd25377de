"""Padding in numbers, which Keras's layers do not take.

For convolutions and pools cells around the data; for transposed convolutions what is cut off their result.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.core.layer import layers

LAYERS = {
    "Conv1D": {"filters": 2, "kernel_size": 3, "dilation_rate": 2},
    "Conv2D": {"filters": 4, "kernel_size": (2, 3), "strides": 2, "groups": 2},
    "Conv3D": {"filters": 2, "kernel_size": 2},
    "DepthwiseConv1D": {"kernel_size": 3, "depth_multiplier": 2},
    "DepthwiseConv2D": {"kernel_size": 3, "strides": 2},
    "SeparableConv1D": {"filters": 2, "kernel_size": 3},
    "SeparableConv2D": {"filters": 2, "kernel_size": 3},
}
PADS = {1: [2, ((0, 3),)], 2: [(1, 2), ((0, 3), 1)], 3: [((0, 1), (2, 0), 1)]}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", LAYERS)
def test_padding_in_numbers_is_zeros_around(name, data_format):
    rank = int(name[-2])
    sizes, channels = (4, 3, 2)[:rank], 2
    shape = (2, *sizes, channels) if data_format == "channels_last" else (2, channels, *sizes)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    for padding in PADS[rank] if data_format == "channels_last" else PADS[rank][-1:]:
        layer = getattr(jl, name)(**LAYERS[name], padding=padding, data_format=data_format)
        entries = [padding] * rank if isinstance(padding, int) else padding
        pairs = [(p, p) if isinstance(p, int) else p for p in entries]
        around = [(0, 0), *pairs, (0, 0)] if data_format == "channels_last" else [(0, 0), (0, 0), *pairs]
        params, state = jax.eval_shape(layer.init, jax.random.key(0), x)
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda p, rng=rng: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
        plain = layer.replace(padding="valid")
        expected = plain.apply(params, state, jnp.pad(x, around))[0]
        y = layer.apply(params, state, x)[0]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        assert layers.get(json.loads(json.dumps(layer.to_data()))).spec == layer.spec


# D5: transposed convolutions take numbers, too.
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_in_numbers_is_cut_off_a_transposed_convolution(rank, data_format):
    sizes = (4, 3, 2)[:rank]
    shape = (2, *sizes, 2) if data_format == "channels_last" else (2, 2, *sizes)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    for padding, strides in ((1, 1), (((1, 0),) * rank, 2), ((0, 1, 2)[:rank], 4)):
        layer = getattr(jl, f"Conv{rank}DTranspose")(
            3, 3, strides=strides, padding=padding, data_format=data_format
        )
        entries = [padding] * rank if isinstance(padding, int) else padding
        pairs = [(p, p) if isinstance(p, int) else p for p in entries]
        cut = [slice(low, -high or None) for low, high in pairs]
        params, state = layer.init(jax.random.key(0), x)
        whole = layer.replace(padding="valid").apply(params, state, x)[0]
        at = (slice(None), *cut) if data_format == "channels_last" else (slice(None), slice(None), *cut)
        np.testing.assert_allclose(layer.apply(params, state, x)[0], whole[at], rtol=1e-5, atol=1e-5)
        assert layers.get(json.loads(json.dumps(layer.to_data()))).spec == layer.spec


def test_padding_that_leaves_nothing_is_refused(key):
    with pytest.raises(ValueError, match=r"padding that leaves some of the output.*padding=\(\(2, 2\)"):
        jl.Conv1DTranspose(1, 2, padding=2).init(key, (1, 3, 1))
    with pytest.raises(ValueError, match=r"less padding than the window has cells.*pool_size=2"):
        jl.MaxPooling2D(2, padding=(0, 2))


def test_padding_counts_for_the_room_of_the_window(key):
    params, _ = jl.Conv1D(1, 5, padding=1).init(key, (1, 3, 1))
    assert params["kernel"].shape == (5, 1, 1)
    with pytest.raises(ValueError, match=r"window \(5,\) is larger than the input .* padding=\(\(1, 0\),\)"):
        jl.Conv1D(1, 5, padding=((1, 0),)).init(key, (1, 3, 1))


@pytest.mark.parametrize("padding", [-1, True, 1.5, (1, 2), ((1, 2, 3),), ((1, -2),), None])
def test_other_paddings_are_refused(padding):
    with pytest.raises(ValueError, match=r"'valid', 'same', 'causal', or a whole number .*\(\(1, 2\),\)"):
        jl.Conv1D(1, 2, padding=padding)
