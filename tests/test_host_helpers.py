"""Host helpers with Keras's names give Keras's numbers, and refuse what Keras makes into something else."""

import numpy as np
import pytest
from keras_values import keras_values

from jlayers.data import pad_sequences, to_categorical, windows


def kerass():
    import keras

    return keras.utils


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 2, 5])
def test_pad_sequences_is_kerass(padding, truncating, maxlen):
    options = {"padding": padding, "truncating": truncating, "maxlen": maxlen, "value": -1}
    for given in ([[1, 2, 3], [], [4]], [np.ones((3, 2)), np.zeros((1, 2))]):
        found = pad_sequences(given, **options)
        expected = keras_values(lambda g=given: kerass().pad_sequences(g, **options))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_pad_sequences_of_texts_and_of_nothing():
    assert pad_sequences([]).shape == (0, 0)
    assert pad_sequences([["a"], ["b", "c"]], dtype=object, value="").tolist() == [["", "a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([[1.5]], {}, r"sequences\[0\]\[0\]=1.5"),
        ([[1], [2**40]], {}, r"sequences\[1\]\[0\]=1099511627776"),
        ([[1]], {"value": 0.5}, "value=0.5"),
        ([[300]], {"dtype": "uint8"}, "0 to 255"),
        ([["a"]], {}, "dtype=object for texts"),
        ([1, 2], {}, r"expected a sequence, received sequences\[0\]=1"),
        (
            [np.ones((2, 2)), np.ones((2, 3))],
            {},
            r"differ in time only, received sequences\[1\]=int32\(2, 3\)",
        ),
        ([[1]], {"padding": "left"}, "padding='left'"),
        ([[1]], {"maxlen": 0}, "maxlen=0"),
    ],
)
def test_pad_sequences_refuses_what_would_be_lost(given, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pad_sequences(given, **options)


@pytest.mark.parametrize("given", [[0, 2, 1], [[1], [0]], [[1, 0], [2, 2]], 3, [1.0, 0.0], [True, False]])
@pytest.mark.parametrize("classes", [None, 5])
def test_to_categorical_is_kerass(given, classes):
    found = to_categorical(given, classes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, keras_values(lambda: kerass().to_categorical(given, classes)))


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        ([0, -1], None, r"x\[1\]=-1"),
        ([[0], [3]], 3, r"from 0 to 2, received x\[1\]=3"),
        ([0.5], None, r"x\[0\]=0.5"),
        (["a"], None, "whole numbers"),
        ([], None, "whole numbers"),
        ([0], 0, "num_classes=0"),
    ],
)
def test_to_categorical_refuses(given, classes, message):
    with pytest.raises(ValueError, match=message):
        to_categorical(given, classes)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (3, 1), (3, 2), (10, 4)])
@pytest.mark.parametrize("shape", [(10,), (10, 2)])
@pytest.mark.parametrize("targets", [10, 7, 1])
def test_windows_are_those_of_a_loop(length, stride, shape, targets):
    x, y = np.arange(np.prod(shape)).reshape(shape), np.arange(targets)
    starts = [i for i in range(0, 10 - length + 1, stride) if i < targets]
    found, labels = windows(x, y, length, stride)
    np.testing.assert_array_equal(found, np.stack([x[i : i + length] for i in starts]))
    np.testing.assert_array_equal(labels, y[starts])
    assert np.shares_memory(found, x)


@pytest.mark.parametrize(
    ("x", "y", "length", "stride", "message"),
    [
        (np.arange(3), None, 4, 1, r"at least length=4 steps, received x=int64\(3,\)"),
        (np.arange(3), None, 0, 1, "length=0"),
        (np.arange(3), None, 2, 0, "stride=0"),
        (np.arange(3), [], 2, 1, "expected targets"),
    ],
)
def test_windows_refuses(x, y, length, stride, message):
    with pytest.raises(ValueError, match=message):
        windows(x, y, length, stride)
