"""Masks of dropout from few random bits: probabilities, independence, and what a key says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlayers.ops.dropout import bits_for, keep_mask, keep_mask_plain

KEY = jax.random.key(0)


@pytest.mark.parametrize(("probability", "bits"), [(0.5, 1), (0.25, 2), (0.8125, 4), (0.9, 16), (1e-4, 32)])
def test_elements_are_kept_with_the_probability_and_each_for_itself(probability, bits):
    assert bits_for(probability) == bits
    shape = (500, 403)  # whole words do not fit
    spread = np.sqrt(probability * (1 - probability))
    for form in (keep_mask, keep_mask_plain):
        mask = np.asarray(form(KEY, probability, shape), np.float64)
        assert mask.shape == shape
        bound = 5 * spread / np.sqrt(mask.size)
        assert abs(mask.mean() - probability) < bound
        rest = (mask - probability) / spread
        for axis in (0, 1):
            for lag in (1, 2, 32 // bits, 100):
                a, b = (np.moveaxis(rest, axis, 0)[part] for part in (slice(lag, None), slice(None, -lag)))
                assert abs((a * b).mean()) < 5 / np.sqrt(a.size), (axis, lag)


def test_the_drawn_probability_is_the_asked_one_to_a_thousandth():
    for probability in np.linspace(0.001, 0.999, 999):
        if (bits := bits_for(probability)) < 32:
            error = abs(round(probability * 2**bits) / 2**bits - probability)
            assert error <= 1.001e-3 * min(probability, 1 - probability)


def test_a_key_says_what_is_drawn():
    mask = keep_mask(KEY, 0.5, (4, 7))
    np.testing.assert_array_equal(mask, keep_mask(KEY, 0.5, (4, 7)))
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda key: keep_mask(key, 0.9, (4, 7)))(keys)
    np.testing.assert_array_equal(mapped, jnp.stack([keep_mask(key, 0.9, (4, 7)) for key in keys]))
    assert not (mapped[0] == mapped[1]).all()
    assert keep_mask(KEY, 0.5, ()).shape == ()
    assert keep_mask(KEY, 0.5, (0, 3)).shape == (0, 3)
    assert keep_mask(KEY, 0.5, (3, 0)).shape == (3, 0)
