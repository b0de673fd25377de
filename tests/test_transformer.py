"""The Transformer block: against its parts put together by hand, with masks, dropout, in a stack."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data

import jlayers as jl
from jlayers.core.layer import MissingKeyError

X = data((2, 5, 4))
MASK = np.array([5, 3])[:, None, None] > np.arange(5)[None, None, :]


def normalized(p, x, epsilon=1e-5):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon) * np.asarray(p["gamma"]) + np.asarray(p["beta"])


@pytest.mark.parametrize("normalize_first", [False, True])
def test_is_its_parts(normalize_first):
    block = jl.TransformerEncoder(4, 6, 2, normalize_first=normalize_first, use_causal_mask=True)
    made, state = jax.eval_shape(lambda: block.init(jax.random.key(0), X, MASK))
    params = jax.tree.map(lambda p: jnp.asarray(data(p.shape, seed=p.size)), made)
    attention = jl.MultiHeadAttention(2, 2, use_causal_mask=True)

    def attend(x):
        x = np.asarray(x, np.float32)
        return np.asarray(attention.apply(params["attention"], {}, x, None, None, MASK)[0])

    def network(x):
        hidden = np.maximum(
            x @ params["intermediate"]["kernel"] + np.asarray(params["intermediate"]["bias"]), 0
        )
        return hidden @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"])

    expected = X
    with jax.numpy_rank_promotion("allow"):
        for norm, inside in (("attention_norm", attend), ("output_norm", network)):
            if normalize_first:
                expected = expected + inside(normalized(params[norm], expected))
            else:
                expected = normalized(params[norm], expected + inside(expected))
    received, _ = block.apply(params, state, X, MASK)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_dropout_and_a_stack():
    block = jl.TransformerEncoder(4, 6, 2, dropout=0.5, position_embedding=jl.RotaryEmbedding())
    stack = jl.Repeat(block, 2)
    params, state = stack.init(jax.random.key(0), X)
    assert params["layer"]["intermediate"]["kernel"].shape == (2, 4, 6)
    with pytest.raises(MissingKeyError):
        stack.apply(params, state, X, train=True)
    assert stack.apply(params, state, X, key=jax.random.key(1), train=True)[0].shape == X.shape


def test_errors_teach(key):
    with pytest.raises(ValueError, match=r"multiple of num_heads, received hidden_dim=4, num_heads=3"):
        jl.TransformerEncoder(4, 6, 3)
    with pytest.raises(ValueError, match=r"intermediate_dim=0"):
        jl.TransformerEncoder(4, 0, 2)
    with pytest.raises(ValueError, match=r"received hidden_dim=4, float32\(2, 5, 3\)"):
        jl.TransformerEncoder(4, 6, 2).init(key, (2, 5, 3))
    with pytest.raises(TypeError, match=r"expected 1 or 2 inputs, x and mask, not 3"):
        jl.TransformerEncoder(4, 6, 2).init(key, X, X, X)
