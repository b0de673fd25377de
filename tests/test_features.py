"""Normalization, Discretization and CategoryEncoding: against Keras, NumPy and values worked out by hand."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import pickle

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jlayers as jl
from jlayers.core.layer import layers

RNG = np.random.default_rng(0)


def run(layer, *inputs):
    params, state = layer.init(jax.random.key(0), *inputs)
    assert params == state == {}
    return np.asarray(layer.apply({}, {}, *inputs)[0])


# ---------------------------------------------------------------------------------------- Normalization


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    ("axis", "shape"),
    [(-1, (6, 3)), (1, (4, 3, 2)), ((1, 2), (4, 3, 2)), ((-1, 1), (4, 3, 2)), (None, (5, 2))],
)
def test_normalization_adapts_and_applies_as_keras(axis, shape, invert):
    x = RNG.normal(3, 2, shape).astype(np.float32)
    x.reshape(-1)[:: shape[-1]] = 4.0  # a constant feature, where the last axis is one
    theirs = keras.layers.Normalization(axis=axis, invert=invert)
    theirs.adapt(x)
    ours = jl.adapt(jl.Normalization(axis, invert=invert), x)
    assert np.allclose(run(ours, x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "statistics", [(2.0, 3.0), ([1.0, 2.0], [4.0, 0.0]), ([[1.0], [2.0], [3.0]], [[1.0]] * 3)]
)
def test_normalization_broadcasts_given_statistics_as_keras(statistics):
    axis = (1, 2) if np.ndim(statistics[0]) == 2 else -1
    x = RNG.normal(size=(2, 3, 2)).astype(np.float32)
    theirs = keras.layers.Normalization(axis, *map(np.array, statistics))(x)
    assert np.allclose(run(jl.Normalization(axis, *statistics), x), theirs, rtol=1e-5)


def test_normalization_of_whole_numbers_and_half_precision():
    layer = jl.Normalization(mean=10.0, variance=0.0)
    assert run(layer, np.array([[10, 11]], np.uint8)).tolist() == [[0.0, pytest.approx(1e7)]]
    half = run(layer.replace(variance=4.0), jnp.array([[14.0]], jnp.float16))
    assert half.dtype == np.float16
    assert half.item() == 2.0


def test_normalization_streams_as_stably_as_the_whole():
    x = 1e6 + RNG.normal(size=(900, 2))
    whole = jl.adapt(jl.Normalization(), x).spec.arguments
    streamed = jl.adapt(jl.Normalization(), (x[i : i + 7] for i in range(0, 900, 7))).spec.arguments
    pairs = jl.adapt(jl.Normalization(), [(x[:500], 0), (x[500:], 0)]).spec.arguments
    for found in (streamed, pairs):
        assert np.allclose(found["mean"], x.mean(0), rtol=1e-12)
        assert np.allclose(found["variance"], x.var(0), rtol=1e-8)
    assert np.allclose(whole["variance"], x.var(0), rtol=1e-12)


def test_what_was_learned_is_in_the_spec():
    layer = jl.Normalization(name="scale")
    learned = jl.adapt(layer, np.array([[0.1, 5.0], [0.3, 5.0]]))
    assert layer.spec.arguments["mean"] is None  # nothing is changed in place
    assert learned.name == "scale"
    for again in (pickle.loads(pickle.dumps(learned)), layers.get(learned.to_data())):
        assert again.spec == learned.spec
        assert np.array_equal(run(again, jnp.ones((1, 2))), run(learned, jnp.ones((1, 2))))
    assert jl.Normalization(mean=np.ones(2), variance=jnp.ones(2)).to_data() == {
        "Normalization": {"mean": [1.0, 1.0], "variance": [1.0, 1.0]}
    }
    assert len(repr(jl.Normalization(mean=[0.0] * 1000, variance=[1.0] * 1000))) < 250


# --------------------------------------------------------------------------------------- Discretization

VALUES = np.array([[-1.5, 1.0, 3.4, 0.5], [0.0, 3.0, 1.3, 0.0]], np.float32)


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_discretization_as_keras(mode):
    theirs = keras.layers.Discretization([0.0, 1.0, 2.0], output_mode=mode)(VALUES)
    ours = run(jl.Discretization([0.0, 1.0, 2.0], output_mode=mode), VALUES)
    assert ours.dtype == (np.int32 if mode == "int" else np.float32)
    assert np.array_equal(ours, theirs)


def test_discretization_of_the_ends():
    x = jnp.array([[-jnp.inf, jnp.inf, jnp.nan, 0.0, -0.0]])
    assert run(jl.Discretization([0.0, 1.0]), x).tolist() == [[0, 2, 2, 1, 1]]
    assert run(jl.Discretization([0.0], output_mode="one_hot"), x[:, :1]).tolist() == [[1.0, 0.0]]


def test_discretization_learns_equal_shares():
    learned = jl.adapt(jl.Discretization(num_bins=4), VALUES)
    assert learned.spec.arguments["bin_boundaries"] == [0.0, 0.5, pytest.approx(1.3)]
    assert run(learned, VALUES).tolist() == [[0, 2, 3, 2], [1, 3, 3, 1]]  # as Keras documents
    x = RNG.normal(size=5000)
    shares = np.arange(1, 8) / 8
    exact = jl.adapt(jl.Discretization(num_bins=8), x).spec.arguments["bin_boundaries"]
    assert np.allclose(exact, np.quantile(x, shares, method="interpolated_inverted_cdf"))
    rough = jl.adapt(jl.Discretization(num_bins=8), np.split(x, 50)).spec.arguments["bin_boundaries"]
    reached = np.searchsorted(np.sort(x), rough) / x.size
    assert np.abs(reached - shares).max() < 0.01  # epsilon


# -------------------------------------------------------------------------------------- CategoryEncoding

IDS = np.array([[3, 2, 0], [1, 1, 2]], np.int32)


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_category_encoding_as_keras(mode):
    theirs = keras.layers.CategoryEncoding(4, output_mode=mode)
    assert np.array_equal(run(jl.CategoryEncoding(4, mode), IDS), theirs(IDS))
    assert np.array_equal(run(jl.CategoryEncoding(4, mode), IDS[:, :1]), theirs(IDS[:, :1]))


def test_category_encoding_weighs_counts_as_keras():
    weights = RNG.random((2, 3), np.float32)
    theirs = keras.layers.CategoryEncoding(4, output_mode="count")(IDS, count_weights=weights)
    assert np.allclose(run(jl.CategoryEncoding(4, "count"), IDS, weights), theirs)


def test_category_encoding_shows_ids_out_of_range_where_keras_leaves_them_out():
    ids = np.array([[0, 4], [1, -1], [0, 0]], np.int32)
    for mode, bad in [("one_hot", [[0, 1], [1, 1]]), ("multi_hot", [[0], [1]]), ("count", [[0], [1]])]:
        found = np.asarray(
            jax.jit(lambda x, mode=mode: jl.CategoryEncoding(4, mode).apply({}, {}, x)[0])(ids)
        )
        expected = np.zeros(found.shape[:-1], bool)
        for place in bad:
            expected[tuple(place)] = True
        assert np.array_equal(np.isnan(found).all(-1), expected)
        assert np.array_equal(np.isnan(found).any(-1), expected)


def test_more_axes_are_taken_from_the_last():
    ids = np.arange(12, dtype=np.int32).reshape(2, 3, 2) % 4
    assert run(jl.CategoryEncoding(4, "count"), ids)[1, 2].tolist() == [0.0, 0.0, 1.0, 1.0]


# ------------------------------------------------------------------------------------------------ errors

ONES = np.ones((2, 3), np.float32)
WRONG = [
    (lambda: run(jl.Normalization(), ONES), ValueError, r"received mean=None; .* with jl\.adapt"),
    (lambda: jl.Normalization(mean=1.0), ValueError, r"mean and variance together"),
    (lambda: jl.Normalization(mean=[1.0], variance=[1.0, 2.0]), ValueError, r"of one shape"),
    (
        lambda: jl.Normalization(None, [1.0], [1.0]),
        ValueError,
        r"with at most 0 axes, .*received mean=\[1\.0\], variance",
    ),
    (lambda: jl.Normalization(mean=0.0, variance=-1.0), ValueError, r"variance of at least 0"),
    (lambda: jl.Normalization(axis="last"), ValueError, r"received axis='last'"),
    (lambda: run(jl.Normalization(2, 0.0, 1.0), ONES), ValueError, r"axes that the input has"),
    (
        lambda: run(jl.Normalization(mean=[0.0] * 2, variance=[1.0] * 2), ONES),
        ValueError,
        r"expected 2 features",
    ),
    (lambda: jl.adapt(jl.Normalization(), np.ones(4)), ValueError, r"not of the batch, .* axis=None"),
    (
        lambda: jl.adapt(jl.Normalization(), [np.ones((2, 3)), np.ones((2, 2))]),
        ValueError,
        r"batches of one shape",
    ),
    (lambda: jl.adapt(jl.Normalization(), iter([])), ValueError, r"received none"),
    (lambda: jl.adapt(jl.Normalization(), np.ones((0, 3))), ValueError, r"expected samples to adapt to"),
    (
        lambda: jl.adapt(jl.Normalization(), np.array([[np.nan, 1.0]])),
        ValueError,
        r"received 1 NaN or infinite of 2",
    ),
    (lambda: jl.adapt(jl.Normalization(), ["a"]), TypeError, r"expected real numbers"),
    (lambda: jl.adapt(jl.Normalization(), 3), TypeError, r"received 3"),
    (lambda: jl.adapt(jl.Dense(3), ONES), TypeError, r"Dense\(3\) learns nothing"),
    (lambda: jl.adapt(np.ones(3), ONES), TypeError, r"valid: .*Discretization"),
    (lambda: jl.Discretization(), ValueError, r"bin_boundaries, or num_bins"),
    (lambda: jl.Discretization([1.0, 0.0]), ValueError, r"in rising order"),
    (lambda: jl.Discretization([0.0], num_bins=3), ValueError, r"expected 2 boundaries"),
    (lambda: jl.Discretization(num_bins=0), ValueError, r"num_bins"),
    (lambda: jl.Discretization(num_bins=3, epsilon=0.0), ValueError, r"epsilon=0\.0"),
    (lambda: jl.Discretization([0.0], output_mode="multihot"), ValueError, r"did you mean 'multi_hot'"),
    (lambda: run(jl.Discretization(num_bins=3), ONES), ValueError, r"received bin_boundaries=None"),
    (lambda: jl.adapt(jl.Discretization([0.0]), ONES), ValueError, r"received num_bins=None"),
    (lambda: jl.adapt(jl.Discretization(num_bins=3), iter([])), ValueError, r"received none"),
    (lambda: jl.CategoryEncoding(0), ValueError, r"num_tokens=0"),
    (lambda: run(jl.CategoryEncoding(3), ONES), TypeError, r"expected whole numbers"),
    (lambda: jl.CategoryEncoding(3)(jl.Input((), dtype="int32")), ValueError, r"x\[:, None\]"),
    (
        lambda: jax.jit(lambda x: run(jl.Discretization([0.0], output_mode="count"), x))(ONES[0]),
        ValueError,
        r"x\[:, None\]",
    ),
    (
        lambda: run(jl.CategoryEncoding(3, "multi_hot"), IDS, ONES),
        ValueError,
        r"only with output_mode='count'",
    ),
]


@pytest.mark.parametrize(("make", "error", "words"), WRONG)
def test_what_is_wrong_is_told(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
@pytest.mark.parametrize("values", [np.array([1, 2, 2]), np.array(2)], ids=["sample", "scalar"])
def test_one_sample_is_encoded_as_by_keras(mode, values):
    values = values.astype(np.int32)
    theirs = keras.layers.CategoryEncoding(4, output_mode=mode)(values)
    np.testing.assert_array_equal(run(jl.CategoryEncoding(4, mode), values), theirs)
    floats = values.astype(np.float32)
    theirs = keras.layers.Discretization([1.0, 2.0], output_mode=mode)(floats)
    np.testing.assert_array_equal(run(jl.Discretization([1.0, 2.0], output_mode=mode), floats), theirs)


# ------------------------------------------------------------------------- whole numbers beyond float32


@st.composite
def whole_numbers(draw):
    """Whole numbers of any dtype that lie close together, anywhere in its range."""
    dtype = np.dtype(draw(st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32"])))
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    base = draw(st.integers(low, high - 20) | st.sampled_from([low, high - 20]))
    steps = draw(st.lists(st.integers(0, 20), min_size=6, max_size=6))
    return (base + np.array(steps, np.int64)[:, None]).astype(dtype)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(x=whole_numbers(), shift=st.sampled_from([0.0, 0.1, 0.5, 3.25]))
def test_whole_numbers_keep_what_tells_them_apart(x, shift):
    """float32 holds no neighbors beyond 2**24: A1, inside of a layer."""
    exact = x.astype(np.float64)
    mean = float(exact.mean()) + shift
    y, _ = jl.Normalization(mean=mean, variance=4.0).apply({}, {}, x)
    np.testing.assert_allclose(y, (exact - mean) / 2, rtol=1e-5, atol=1e-5)
    y, _ = jl.Rescaling(0.5, -mean / 2).apply({}, {}, x)
    np.testing.assert_allclose(y, (exact - mean) / 2, rtol=1e-5, atol=1e-4)
    edges = [mean - 1, mean, np.floor(mean), mean + 2.5]
    bins, _ = jl.Discretization(sorted(edges)).apply({}, {}, x)
    np.testing.assert_array_equal(bins, np.searchsorted(sorted(edges), exact, side="right"))


def test_a_mean_that_float32_does_not_hold():
    x = np.float32(2**30) + np.array([[0], [128], [256], [384]], np.float32)
    layer = jl.adapt(jl.Normalization(), x)
    y, _ = jax.jit(layer.apply)({}, {}, x)
    np.testing.assert_allclose(y[:, 0], [-1.3416408, -0.4472136, 0.4472136, 1.3416408], rtol=1e-6)
