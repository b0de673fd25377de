"""The gate for data: a value arrives unchanged, or is refused with its place."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers import config
from jlayers.data import gate
from jlayers.data.class_weights import class_weights

WHOLE = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
few = hypothesis.settings(max_examples=60, deadline=None)


@few
@hypothesis.given(st.data())
def test_whole_numbers_arrive_as_they_are_or_not_at_all(data):
    given, wanted = data.draw(st.sampled_from(WHOLE)), data.draw(st.sampled_from(WHOLE))
    limits, held = np.iinfo(given), np.iinfo(wanted)
    edges = [v + d for v in (held.min, held.max) for d in (-1, 0, 1) if limits.min <= v + d <= limits.max]
    numbers = st.integers(limits.min, limits.max) | st.sampled_from([0, limits.max, *edges])
    values = data.draw(st.lists(numbers, min_size=1, max_size=6))
    array = np.array(values, given)
    beyond = [i for i, v in enumerate(values) if not held.min <= v <= held.max]
    if not beyond:
        made = gate.as_dtype("x", array, wanted)
        assert made.dtype == wanted
        assert made.tolist() == values
    else:
        with pytest.raises(ValueError, match=rf"received x\[{beyond[0]}\]={values[beyond[0]]};"):
            gate.as_dtype("x", array, wanted)


@few
@hypothesis.given(st.lists(st.floats(allow_nan=False), min_size=1), st.sampled_from([np.float16, np.float32]))
def test_fractions_never_become_infinite(values, dtype):
    array = np.array(values)
    with np.errstate(over="ignore"):
        plain = array.astype(dtype)
    if (np.isinf(plain) == np.isinf(array)).all():
        np.testing.assert_array_equal(gate.as_dtype("x", array, dtype), plain)
    else:
        with pytest.raises(ValueError, match=r"received x\[\d+\]=.*scale the data"):
            gate.as_dtype("x", array, dtype)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[2**32 + 3]]), r"x\[0, 0\]=4294967299; subtract an offset"),
        (np.array([2**63 + 5], np.uint64), r"uint32\), received x\[0\]=9223372036854775813"),
        (np.array(-(2**31) - 1), "x=-2147483649;"),
        (np.array([1.0, 1e39]), r"at most 3.4e\+38 in size \(float32\), received x\[1\]=1e\+39"),
        (np.array([1e200 + 0j]), "complex64"),
        (np.array(["a"]), "expected numbers as x, received an array of dtype <U1"),
        (np.array([1, "a"], object), "object that holds 'a'"),
        (np.array([[1], [1, 2]], object), "unequal length"),
        (np.zeros(2, [("a", int)]), "expected numbers"),
    ],
)
def test_what_the_gate_refuses(value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gate.convert("x", value)


@pytest.mark.parametrize(
    ("trained", "given", "arrives"),
    [
        (np.uint8, np.array([3.0, 255.0], np.float32), [3, 255]),
        (np.uint8, np.array([3, 255]), [3, 255]),
        (np.int32, np.array([7], np.int64), [7]),
        (np.float32, np.array([0.5]), [0.5]),
        (np.bool_, np.array([True]), [True]),
        *[
            (np.uint8, np.array([value]), None)
            for value in (True, 1j, 256, -1, 300.0, 0.5, np.inf, np.nan, -1.0)
        ],
        (np.float32, np.array([3]), None),
        (np.float32, np.array([True]), None),
        (np.float32, np.array([1j]), None),
        (np.float32, np.array([1e39]), None),
        (np.int32, np.array([2**31]), None),
        (np.bool_, np.array([1]), None),
    ],
)
def test_new_data_are_of_the_kind_of_the_training_data(trained, given, arrives):
    if arrives is None:
        with pytest.raises(ValueError, match=r"received (input\[0\]=|bool|int|complex)"):
            gate.like_training("input", given, trained)
    else:
        made = gate.like_training("input", given, trained)
        assert (made.dtype, made.tolist()) == (trained, arrives)


X = np.arange(8, dtype=np.float32).reshape(4, 2)


def fits(x, y, **options):
    trainer = jl.compile(jl.Dense(2, activation="softmax"), "sgd", "sparse_categorical_crossentropy")
    return jl.fit(trainer, x, y, epochs=0, **options)


@pytest.mark.parametrize("form", ["arrays", "stream", "validation"])
def test_training_passes_the_gate_in_every_form(form):
    def give(x, y):
        if form == "arrays":
            return fits(x, y)
        if form == "stream":
            return fits([(x, y)], None)
        return fits(X, np.array([0, 1, 0, 1]), validation_data=(x, y))

    give(X, np.array([0, 1, 1, 0]))
    for x, y in [
        (X, np.array([0, 2**32 + 1, 0, 0])),
        (X.astype(np.float64) * 1e39, np.array([0, 1, 0, 1])),
        (np.zeros((4, 0), np.float32), np.array([0, 1, 0, 1])),
    ]:
        with pytest.raises(ValueError, match=r"received (x|y)(\[|=)"):
            give(x, y)


def test_faults_of_validation_data_say_so():
    bad = (np.full((4, 2), np.nan, np.float32), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"x\[0, 0\]=nan") as error:
        fits(X, np.array([0, 1, 0, 1]), validation_data=bad)
    assert error.value.__notes__ == ["in the validation data"]


def test_a_seed_that_a_key_does_not_hold_is_refused():
    with pytest.raises(ValueError, match="seed=4294967296"):
        fits(X, np.array([0, 1, 0, 1]), seed=2**32)
    fits(X, np.array([0, 1, 0, 1]), seed=2**32 - 1)


def test_prediction_passes_the_gate():
    table = jl.Embedding(5, 2)
    params, state = table.init(jax.random.key(0), np.zeros((1, 1), np.int32))
    with pytest.raises(ValueError, match=r"x\[0, 0\]=4294967299"):
        jl.predict(table, (params, state), np.array([[2**32 + 3]]))


# ---------------------------------------------------------------------------------------- class weights

Y = np.array([0, 1, 1, 2, 1])


def test_balanced_weights_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    np.testing.assert_allclose(class_weights("balanced", Y), sklearn.compute_sample_weight("balanced", Y))


@pytest.mark.parametrize(
    ("weights", "y", "expected"),
    [
        ({1: 3.0}, Y, [1, 3, 3, 1, 3]),
        ({np.int64(1): 3}, Y[:, None].astype(np.float32), [1, 3, 3, 1, 3]),
        ([2, 1, 0], np.eye(3)[Y], [2, 1, 1, 0, 1]),
        ((5.0, 1.0, 1.0, 9.0), Y, [5, 1, 1, 1, 1]),
        ({1: 3.0}, Y == 1, [1, 3, 3, 1, 3]),
    ],
)
def test_class_weights_in_every_form(weights, y, expected):
    made = class_weights(weights, y)
    assert (made.dtype, made.tolist()) == (np.float32, expected)
    twice = class_weights(weights, y, np.full((5, 1), 2.0))
    assert (twice.shape, twice.ravel().tolist()) == ((5, 1), [2 * v for v in expected])


@pytest.mark.parametrize(
    ("weights", "y", "message"),
    [
        ({"0": 2.0}, Y, r"class_weight\['0'\]=2.0, a class that no sample has: write 0 without quotes"),
        ({3: 2.0}, Y, r"here 0, 1, 2, received class_weight\[3\]=2.0, a class that no sample has"),
        ({True: 2.0}, Y, r"class_weight\[True\]"),
        ({0: -1.0}, Y, r"at least 0, received class_weight\[0\]=-1.0"),
        ({0: "2"}, Y, r"class_weight\[0\]='2'"),
        ([1.0, 2.0], Y, "one class weight for each of the classes 0, 1, 2"),
        ([1.0, 2.0], -Y, "for each of the classes -2, -1, 0"),
        ("balance", Y, "'balanced', received class_weight='balance'"),
        (2.0, Y, "received class_weight=2.0"),
        ({0: 2.0}, np.array([[1, 1, 0]]), r"y\[0\]=\[1, 1, 0\], which is not a one-hot row"),
        ({0: 2.0}, np.array([0.0, 0.5]), r"y\[1\]=0.5"),
        ({0: 2.0}, {"a": Y}, "single output"),
        ({0: 2.0}, np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
    ],
)
def test_class_weights_that_are_refused(weights, y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        class_weights(weights, y)


def test_class_weights_do_not_enter_the_validation_loss():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)).astype(np.float32), rng.integers(0, 2, 100)
    trainer = jl.compile(
        jl.Dense(2, activation="softmax"), {"sgd": {"learning_rate": 0.0}}, "sparse_categorical_crossentropy"
    )
    options = {"class_weight": {0: 1, 1: 20}}
    _, split = jl.fit(trainer, x, y, validation_split=0.3, **options)
    _, given = jl.fit(trainer, x[:70], y[:70], validation_data=(x[70:], y[70:]), **options)
    np.testing.assert_allclose(split["val_loss"], given["val_loss"], rtol=1e-6)
    assert split["loss"] != split["val_loss"]


FILE = """
data: {npz: {path: d.npz}}
model: {Dense: {units: 3, activation: softmax}}
loss: sparse_categorical_crossentropy
training: {validation: 0.25, class_weight: WEIGHTS}
"""


@pytest.mark.parametrize(
    ("written", "expected"),
    [("balanced", "balanced"), ("[1, 2, 3]", [1.0, 2.0, 3.0]), ("{0: 2}", {0: 2.0}), ("{'2': 2}", {2: 2.0})],
)
def test_class_weights_in_a_file(tmp_path, written, expected):
    np.savez(tmp_path / "d.npz", x=np.zeros((12, 2)), y=np.arange(12) % 3)
    assert config.loads(FILE.replace("WEIGHTS", written), base=tmp_path).class_weight == expected


@pytest.mark.parametrize("written", ["{7: 2}", "{cat: 2}", "[1]", "balance"])
def test_class_weights_in_a_file_that_are_refused_at_their_line(tmp_path, written):
    np.savez(tmp_path / "d.npz", x=np.zeros((12, 2)), y=np.arange(12) % 3)
    with pytest.raises(config.ConfigError, match=r"<text>:5: training.class_weight"):
        config.loads(FILE.replace("WEIGHTS", written), base=tmp_path).class_weight  # noqa: B018


def test_a_share_for_validation_that_is_too_small_is_blamed_on_its_own_line(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((12, 2)), y=np.arange(12) % 3)
    text = FILE.replace("WEIGHTS", "balanced").replace("0.25", "0.001")
    with pytest.raises(config.ConfigError, match=r"<text>:5: training.validation"):
        config.loads(text, base=tmp_path).data  # noqa: B018


def test_sequences_in_buckets_pass_the_gate():
    def give(x, y=(0, 1), **options):
        return jl.data.BucketBatches([np.array(row) for row in x], np.array(y), lengths=(2,), **options)

    for wrong in [
        lambda: give([[1], [2, 2**40]]),
        lambda: give([[1.0], [1e39]]),
        lambda: give([[1], [2]], (0, 2**32 + 1)),
        lambda: give([[1], [2]], fill=0.5),
        lambda: give([[1], [2]], fill=2**40),
    ]:
        with pytest.raises(ValueError, match=r"received (sequences\[1\]|y|fill)"):
            wrong()


def test_a_long_argument_is_not_shown_whole():
    with pytest.raises(ValueError, match=r"rising order, received bin_boundaries=\[") as error:
        jl.Discretization(list(range(20_000, 0, -1)))
    assert len(str(error.value)) < 1000
