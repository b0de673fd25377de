"""Decoding step by step: a cache gives what the whole sequence gives, and says where its room ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jlayers as jl
from jlayers.core.tree import flatten

BATCH, LENGTH, SIZE, ROOM = 2, 6, 8, 8
X = np.random.default_rng(0).normal(size=(BATCH, LENGTH, SIZE)).astype("float32")
ENCODED = np.random.default_rng(1).normal(size=(BATCH, 3, 5)).astype("float32")
TOKENS = np.random.default_rng(2).integers(0, 7, (BATCH, LENGTH)).astype("int32")
ROTARY = {"use_causal_mask": True, "position_embedding": jl.RotaryEmbedding()}


def made(layer, *inputs):
    """Random params, and the state, which is zeros: drawing them by `init` would take longer."""
    params, state = jax.eval_shape(layer.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda p: jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype), params)
    return params, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)


def quick(function):
    """Compiled fast rather than well: that is what takes the time here."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def tokens_to_logits(cache_length, positions):
    """A language model of two blocks of one program."""
    block = jl.TransformerDecoder(SIZE, 12, 2, normalize_first=True, cache_length=cache_length)
    return jl.Sequential(
        jl.Embedding(7, SIZE),
        jl.Residual(positions),
        jl.Repeat(block, 2),
        jl.LayerNormalization(),
        jl.Dense(7),
    )


def learned(cache_length):
    return tokens_to_logits(cache_length, jl.PositionEmbedding(ROOM, cached=cache_length is not None))


def waves(cache_length):
    return tokens_to_logits(cache_length, jl.SinusoidalPositionEmbedding(cached=cache_length is not None))


def frozen(cache_length):
    return jl.freeze(jl.TransformerDecoder(SIZE, 12, 2, cache_length=cache_length))


def attention(kind, **arguments):
    return lambda cache_length: kind(**arguments, cache_length=cache_length)


CASES = {
    "attention": (attention(jl.MultiHeadAttention, num_heads=2, key_dim=4, **ROTARY), X),
    "weights": (attention(jl.MultiHeadAttention, num_heads=2, key_dim=4, dropout=0.5, **ROTARY), X),
    "values": (
        attention(jl.MultiHeadAttention, num_heads=1, key_dim=4, value_dim=3, use_causal_mask=True),
        X,
    ),
    "window": (
        attention(
            jl.GroupQueryAttention,
            head_dim=4,
            num_query_heads=4,
            num_key_value_heads=2,
            sliding_window=2,
            use_gate=True,
            **ROTARY,
        ),
        X,
    ),
    "cross": (
        attention(
            jl.TransformerDecoder, hidden_dim=SIZE, intermediate_dim=12, num_heads=2, cross_attention=True
        ),
        X,
        ENCODED,
    ),
    "frozen": (frozen, X),
    "learned positions": (learned, TOKENS),
    "waves": (waves, TOKENS),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_give_what_the_whole_sequence_gives(name):
    make, x, *rest = CASES[name]
    whole, decoder = make(None), make(ROOM)
    params, none = made(whole, x, *rest)
    assert not none, "without a cache there is no state"
    same, state = made(decoder, x, *rest)
    assert {path: p.shape for path, p in flatten(same).items()} == {
        path: p.shape for path, p in flatten(params).items()
    }
    expected = quick(whole.apply)(params, none, x, *rest)[0]
    lengths = []

    @quick
    def step(params, state, x, *rest):
        lengths.append(x.shape[1])
        return decoder.apply(params, state, x, *rest)

    first, moved = step(params, state, x[:, :3], *rest)
    parts = [first]
    for i in range(3, LENGTH):
        y, moved = step(params, moved, x[:, i : i + 1], *rest)
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), expected, rtol=2e-5, atol=2e-5)
    assert lengths == [3, 1], "one program for the prompt, one for all steps"
    jax.tree.map(np.testing.assert_array_equal, jl.reset_state(moved), state)


def test_training_holds_whole_sequences_and_leaves_the_cache_alone():
    whole, decoder = (jl.TransformerDecoder(SIZE, 12, 2, cache_length=room) for room in (None, ROOM))
    long = jnp.concatenate([X, X], axis=1)  # longer than the cache
    params, state = made(decoder, X)
    y, moved = quick(lambda *args: decoder.apply(*args, train=True))(params, state, long)
    np.testing.assert_allclose(y, quick(whole.apply)(params, {}, long)[0], rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, moved, state)


def test_a_mask_hides_the_padding_before_a_prompt():
    """Prompts of two lengths, the shorter filled up in front: each row decodes as it does alone."""
    decoder = jl.MultiHeadAttention(2, 4, use_causal_mask=True, cache_length=ROOM)
    params, state = made(decoder, X)
    real = np.ones((BATCH, 1, ROOM), bool)
    real[0, :, :2] = False
    step = quick(lambda state, x: decoder.apply(params, state, x, None, None, real))
    y, state = step(state, X[:, :3])
    y, state = step(state, X[:, 3:])
    alone = quick(jl.MultiHeadAttention(2, 4, use_causal_mask=True).apply)
    expected = [alone(params, {}, X[i : i + 1, start:])[0][:, -3:] for i, start in enumerate((2, 0))]
    np.testing.assert_allclose(y, jnp.concatenate(expected), rtol=1e-5, atol=1e-5)


def test_beyond_the_cache():
    decoder = jl.MultiHeadAttention(2, 4, use_causal_mask=True, sliding_window=2, cache_length=LENGTH)
    params, state = made(decoder, X)
    with pytest.raises(
        ValueError, match=r"at most cache_length positions, .* received cache_length=6, float32"
    ):
        decoder.apply(params, state, jnp.concatenate([X, X], axis=1))
    y, full = decoder.apply(params, state, X)
    assert jnp.isfinite(y).all()
    with pytest.raises(
        ValueError, match=r"6 of them in the cache already, .* begin anew with jl\.reset_state"
    ):
        decoder.apply(params, full, X[:, :1])
    step = quick(decoder.apply)  # cannot raise on what it computes
    for _ in range(4):
        y, full = step(params, full, X[:, :1])
        assert jnp.isnan(y).all()
    y, _ = step(params, jl.reset_state(full), X[:, :1])
    assert jnp.isfinite(y).all()


def test_wrong_use_is_refused(key):
    decoder = jl.MultiHeadAttention(2, 4, use_causal_mask=True, cache_length=ROOM)
    params, state = made(decoder, X)
    with pytest.raises(ValueError, match="2 rows, for which the cache was made"):
        decoder.apply(params, state, X[:1])
    with pytest.raises(ValueError, match="one length with a cache"):
        decoder.apply(params, state, X, X[:, :1])
    with pytest.raises(ValueError, match="use_causal_mask=False, cache_length=8"):
        jl.MultiHeadAttention(2, 4, cache_length=8)
    with pytest.raises(ValueError, match="cache_length to be a positive whole number"):
        jl.GroupQueryAttention(4, 2, 1, use_causal_mask=True, cache_length=0)
    with pytest.raises(ValueError, match="fixed batch size"):
        decoder.init(key, jax.ShapeDtypeStruct(export.symbolic_shape("batch, 3, 8"), jnp.float32))
    with pytest.raises(TypeError, match="expected 2 to 4 inputs, x, encoded, mask, encoded_mask, not 1"):
        jl.TransformerDecoder(SIZE, 12, 2, cross_attention=True).init(key, X)
    with pytest.raises(ValueError, match="hidden_dim to be a multiple of num_heads"):
        jl.TransformerDecoder(SIZE, 12, 3)


def test_half_precision_decodes():
    decoder = jl.TransformerDecoder(SIZE, 12, 2, position_embedding="RotaryEmbedding", cache_length=ROOM)
    x = X.astype(jnp.bfloat16)
    params, state = made(decoder, x)
    y, state = jax.eval_shape(decoder.apply, params, state, x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for path, leaf in flatten(state).items() if "cache" in path} == {y.dtype}
