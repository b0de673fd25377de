"""Paths and patterns."""

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlayers.core import tree

PATHS = ["", "base", "base/conv", "base/conv/inner", "head", "block1/conv", "block2/conv", "block2/bn"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("base", ["base"]),
        ("base/*", ["base/conv"]),
        ("base/**", ["base", "base/conv", "base/conv/inner"]),
        ("**", PATHS),
        ("**/conv", ["base/conv", "block1/conv", "block2/conv"]),
        ("**/inner", ["base/conv/inner"]),
        ("block*/**", ["block1/conv", "block2/conv", "block2/bn"]),
        ("block?/bn", ["block2/bn"]),
        ("base/**/inner", ["base/conv/inner"]),
        ("b.se", []),
        ("", [""]),
    ],
)
def test_patterns(pattern, expected):
    assert tree.match(pattern, PATHS) == expected


names = st.text("abc_1", min_size=1, max_size=4)
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3))


@given(st.dictionaries(names, trees, max_size=3))
def test_flatten_and_unflatten_are_inverse(nested):
    assert tree.unflatten(tree.flatten(nested)) == nested


def test_counts():
    params = {"a": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4, jnp.bfloat16)}}
    assert tree.count(params) == 16
    assert tree.nbytes(params) == 48 + 8
