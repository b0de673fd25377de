"""What is recorded of Keras comes back as it was, and a row that is missing says what to run."""

import jax
import jax.numpy as jnp
import keras_values
import numpy as np
import pytest


@pytest.fixture
def recording(monkeypatch, tmp_path):
    """A folder of its own, and nothing known."""
    monkeypatch.setattr(keras_values, "FOLDER", tmp_path)
    for name in ("made", "read", "asked"):
        monkeypatch.setattr(keras_values, name, {})
    return lambda mode: monkeypatch.setattr(keras_values, "mode", mode)


def given():
    half = jnp.asarray([1.5, -2.0], jnp.bfloat16)
    return {
        "y": (half, [np.float32(3.0), np.zeros((2, 0), np.int32)]),
        "names": ["a", None, True],
        "none": {},
    }


def test_it_comes_back_in_structure_dtypes_and_values(recording):
    recording("recording")
    first, second = keras_values.keras_values(given), keras_values.keras_values(lambda: 2.5)
    keras_values.write(whole=True)
    (path,) = keras_values.FOLDER.iterdir()
    written = path.read_bytes()
    keras_values.write(whole=False)
    assert path.read_bytes() == written
    recording("recorded")
    keras_values.asked.clear()
    again = keras_values.keras_values(lambda: pytest.fail("Keras ran"))
    assert jax.tree.structure(again) == jax.tree.structure(first) == jax.tree.structure(given())
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(first), strict=True):
        assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b))
        np.testing.assert_array_equal(a, b)
    assert keras_values.keras_values(given) == second == 2.5


@pytest.mark.parametrize("mode", ["recorded", "live"])
def test_a_row_without_a_recording_says_what_to_run(recording, mode):
    recording(mode)
    with pytest.raises(
        LookupError, match=r"says_what_to_run\[.*pytest -n 0 --record-keras tests/test_keras_values"
    ):
        keras_values.keras_values(given)


def test_promotion_is_as_keras_needs_it(recording):
    recording("recording")
    keras_values.keras_values(lambda: jnp.ones(2, "int32") + jnp.ones((2, 2), "float32"), name="mixed")
    keras_values.write(whole=True)
    recording("recorded")
    np.testing.assert_array_equal(keras_values.keras_values(None, name="mixed"), np.full((2, 2), 2.0))
