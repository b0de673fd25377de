"""States and histories of many seeds against those of single runs."""

import jax
import numpy as np


def same(received, expected):
    a, b = jax.tree.leaves_with_path(received), jax.tree.leaves_with_path(expected)
    assert [path for path, _ in a] == [path for path, _ in b]
    for (path, one), (_, other) in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6, err_msg=jax.tree_util.keystr(path))


def same_history(history, place, expected):
    assert list(history) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name][: len(values), place], values, rtol=1e-5, err_msg=name)
        assert np.isnan(history[name][len(values) :, place]).all(), name
