"""EinsumDense: against Keras, its initializers' fans, axes of unknown length, errors."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data, parity

import jlayers as jl

CASES = [
    ((3, 4), {"equation": "ab,bc->ac", "output_shape": 5, "bias_axes": "c", "activation": "tanh"}),
    ((2, 3, 4), {"equation": "abc,cd->abd", "output_shape": (None, 5), "bias_axes": "d"}),
    ((2, 3, 4), {"equation": "...x,xy->...y", "output_shape": 5, "bias_axes": "y"}),
    ((2, 3, 4), {"equation": "abc,cde->abde", "output_shape": (3, 2, 5), "bias_axes": "de"}),
    ((2, 3, 4), {"equation": "abc,cde->abde", "output_shape": (None, 2, 5), "bias_axes": "d"}),
    ((2, 3, 2, 4), {"equation": "abcd,cde->abe", "output_shape": (None, 5)}),
    ((2, 3, 4), {"equation": "abc,bd->adc", "output_shape": (5, 4), "bias_axes": "d"}),
    ((2, 3, 4), {"equation": "ab...,bc->ac...", "output_shape": 5, "bias_axes": "c"}),
    ((2, 3, 4), {"equation": "abc,bcd->abd", "output_shape": (3, 5), "bias_axes": "bd"}),
]

EACH_CASE = pytest.mark.parametrize(("shape", "arguments"), CASES, ids=[a["equation"] for _, a in CASES])


@EACH_CASE
def test_equals_keras(shape, arguments):
    parity("EinsumDense", data(shape), **arguments)


class TheirAxes(keras.initializers.VarianceScaling):
    """Notes the axes that Keras counts along, and draws nothing."""

    seen: ClassVar[dict[str, Any]] = {}

    def __call__(self, shape, dtype=None):
        self.seen["axes"] = (tuple(self.input_axes), tuple(self.output_axes))
        return jnp.zeros(shape)


our_axes: dict[str, Any] = {}


@jl.initializers.register
def noting_axes(input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None):
    def init(key, shape, dtype):
        our_axes["axes"] = (input_axes, output_axes)
        return jnp.zeros(shape, dtype)

    return init


@EACH_CASE
def test_the_axes_that_initializers_count_along_are_those_of_keras(shape, arguments, key):
    jl.EinsumDense(**arguments, kernel_initializer="noting_axes").init(key, shape)
    keras.layers.EinsumDense(**arguments, kernel_initializer=TheirAxes()).build(shape)
    assert our_axes["axes"] == TheirAxes.seen["axes"]


def test_a_kernel_of_heads_is_drawn_as_a_matrix(key):
    params, _ = jl.EinsumDense("ab,bcd->acd", (4, 8)).init(key, (1, 32))
    limit = (6 / (32 + 4 * 8)) ** 0.5
    assert 0.9 * limit < float(jnp.abs(params["kernel"]).max()) <= limit


def test_fans_that_were_given_stand(key):
    own = jl.initializers.glorot_uniform(input_axes=(0, 1), output_axes=(2,))
    params, _ = jl.EinsumDense("ab,bcd->acd", (4, 8), kernel_initializer=own).init(key, (1, 32))
    expected = own(jax.random.split(key)[0], (32, 4, 8), jnp.float32)
    np.testing.assert_array_equal(params["kernel"], expected)


def test_batch_and_other_axes_may_be_symbolic():
    x = jl.Input((None, 6))
    assert jl.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de")(x).shape == (None, None, 2, 4)
    assert jl.EinsumDense("...c,cd->...d", 3, bias_axes="d")(x).shape == (None, None, 3)
    with pytest.raises(ValueError, match=r"a fixed size along 'b', .*, received equation='abc,bd->adc'"):
        jl.EinsumDense("abc,bd->adc", (4, None))(x)


def test_penalty_and_half_precision(key):
    layer = jl.EinsumDense("ab,bc->ac", 2, bias_axes="c", kernel_regularizer=jl.l2(0.5))
    assert float(layer.penalty({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})) == 3.0
    params, state = layer.init(key, jax.ShapeDtypeStruct((1, 3), jnp.bfloat16))
    y, _ = layer.apply(params, state, jnp.ones((1, 3), jnp.bfloat16))
    assert {p.dtype for p in params.values()} == {y.dtype} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"equation": "ab->b"}, r"expected an equation such as .* received equation='ab->b'"),
        ({"equation": "...ab,bc->ac..."}, r"expected '\.\.\.' once, on one side"),
        ({"equation": "aab,bc->ac"}, r"expected each letter once in 'aab'"),
        ({"equation": "ab,bc->ad"}, r"expected the output's axis 'd' in the input or in the kernel"),
        ({"equation": "ab,bcd->ac"}, r"expected the kernel's axis 'd' in the input or in the output"),
        ({"equation": "ab,bc->ca"}, r"expected the batch as first axis of input and output"),
        ({"bias_axes": "x"}, r"expected bias_axes out of the output's axes 'ac'.*bias_axes='x'"),
        ({"output_shape": (2, 3)}, r"each of the axes 'c' of 'ab,bc->ac', received output_shape=\(2, 3\)"),
        ({"output_shape": 0}, r"expected output_shape to hold a positive whole number"),
        ({"kernel_regularizer": "l22"}, r"unknown regularizer 'l22'"),
    ],
)
def test_a_wrong_call_teaches(arguments, message):
    with pytest.raises((ValueError, KeyError), match=message):
        jl.EinsumDense(**{"equation": "ab,bc->ac", "output_shape": 2, **arguments})


def test_a_wrong_input_teaches(key):
    layer = jl.EinsumDense("abc,cd->abd", (3, 2))
    with pytest.raises(
        ValueError, match=r"expected an input of 3 dimensions, received equation=.*, float32\(2, 4\)"
    ):
        layer.init(key, (2, 4))
    with pytest.raises(
        ValueError, match=r"expected size 3 along 'b'.*received output_shape=.*, float32\(2, 5, 4\); None"
    ):
        layer.init(key, (2, 5, 4))
    with pytest.raises(ValueError, match=r"for 'd' of 'ab,bd->ad', an axis that the input does not have"):
        jl.EinsumDense("ab,bd->ad", (None,)).init(key, (2, 4))
    params, state = layer.init(key, (2, 3, 4))
    with pytest.raises(ValueError, match=r"expected size 4 along 'c'.*, float32\(2, 3, 5\)"):
        layer.apply(params, state, jnp.ones((2, 3, 5)))
    with pytest.raises(TypeError, match=r"EinsumDense: expected a floating input, received complex64"):
        layer.init(key, jax.ShapeDtypeStruct((2, 3, 4), jnp.complex64))
