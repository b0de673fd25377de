"""`ctc_decode` against Keras, and against all alignments counted one by one."""

import itertools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_values import keras_values

import jlayers as jl

RNG = np.random.default_rng(0)
LOGITS = (2 * RNG.normal(size=(3, 5, 4))).astype("float32")
LENGTHS = np.array([5, 3, 4], "int32")


def collapsed(alignment, blank):
    return tuple(label for label, _ in itertools.groupby(alignment) if label != blank)


def counted(logits, blank):
    """The probability of each sequence, as a sum over all alignments."""
    probs = np.exp(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    found = {}
    for alignment in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        p = np.prod([probs[t, c] for t, c in enumerate(alignment)])
        sequence = collapsed(alignment, blank)
        found[sequence] = found.get(sequence, 0) + p
    return sorted(found.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("blank", [0, 3])
def test_a_wide_beam_finds_the_most_probable_sequences(blank):
    decode = jax.jit(lambda x, n: jl.losses.ctc_decode(x, n, "beam_search", 40, 3, mask_index=blank))
    labels, scores = decode(LOGITS, LENGTHS)
    assert labels.shape == (3, 3, 5)
    for row, (logits, length) in enumerate(zip(LOGITS, LENGTHS, strict=True)):
        for place, (sequence, probability) in enumerate(counted(logits[:length], blank)[:3]):
            found = labels[place, row]
            assert tuple(found[found >= 0].tolist()) == sequence
            np.testing.assert_allclose(np.exp(scores[row, place]), probability, rtol=1e-4)


@pytest.mark.parametrize("merge_repeated", [True, False])
@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_labels_are_those_of_keras(merge_repeated, blank):
    x = np.repeat(LOGITS, 2, axis=1)
    given = {"merge_repeated": merge_repeated, "mask_index": blank}
    expected = keras_values(lambda: keras.ops.ctc_decode(x, 2 * LENGTHS, **given))
    labels, scores = jl.losses.ctc_decode(x, 2 * LENGTHS, **given)
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=1e-5)


def test_beams_are_those_of_keras():
    expected = keras_values(
        lambda: keras.ops.ctc_decode(LOGITS, LENGTHS, strategy="beam_search", beam_width=30, top_paths=2)
    )
    labels, scores = jl.losses.ctc_decode(LOGITS, LENGTHS, "beam_search", 30, 2)
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=1e-4)


def test_edges():
    labels, scores = jl.losses.ctc_decode(LOGITS, np.zeros(3, "int32"), "beam_search", 2)
    assert np.all(labels == -1)
    np.testing.assert_allclose(scores, 0, atol=1e-6)
    assert jl.losses.ctc_decode(LOGITS[:0])[0].shape == (1, 0, 5)
    half, _ = jl.losses.ctc_decode(jnp.asarray(LOGITS, jnp.bfloat16), None, "beam_search", 5)
    whole, _ = jl.losses.ctc_decode(LOGITS.astype(jnp.bfloat16).astype("float32"), None, "beam_search", 5)
    np.testing.assert_array_equal(half, whole)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"inputs": LOGITS[0]}, r"\(batch, frames, classes\)"),
        ({"sequence_lengths": LENGTHS[:2]}, "a length for each of 3 samples"),
        ({"strategy": "beam"}, "strategy='beam'"),
        ({"strategy": "beam_search", "beam_width": 2, "top_paths": 3}, "top_paths=3"),
        ({"mask_index": 4}, "mask_index=4"),
    ],
)
def test_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        jl.losses.ctc_decode(**{"inputs": LOGITS, **arguments})
