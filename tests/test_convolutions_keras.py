"""Transposed, depthwise and separable convolutions against Keras, and the two forms of the depthwise one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_parity import data, parity

import jlayers as jl
from jlayers.ops.depthwise import depthwise_conv, depthwise_conv_lax, depthwise_conv_shifted

IMAGE, SEQUENCE, VOLUME = (2, 5, 4, 3), (2, 5, 3), (1, 3, 2, 2, 2)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 2, "strides": 3, "activation": "tanh"},
        {"kernel_size": 3, "strides": 2, "output_padding": 0},
        {"kernel_size": 4, "strides": 3, "output_padding": 2, "use_bias": False},
        {"kernel_size": 3, "dilation_rate": 2},
    ],
    ids=str,
)
def test_conv1d_transpose(arguments, padding):
    parity("Conv1DTranspose", data(SEQUENCE), filters=2, padding=padding, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": (3, 2), "strides": (2, 1), "activation": "tanh", "use_bias": False},
        {"kernel_size": 2, "dilation_rate": (2, 1)},
        {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
        {"kernel_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"},
    ],
    ids=str,
)
def test_conv2d_transpose(arguments):
    parity("Conv2DTranspose", data(IMAGE), filters=2, **arguments)


def test_conv3d_transpose():
    parity("Conv3DTranspose", data(VOLUME), filters=2, kernel_size=(2, 3, 2), padding="same", strides=2)
    options = {"strides": 2, "output_padding": (0, 1, 0), "use_bias": False}
    parity("Conv3DTranspose", data(VOLUME), filters=2, kernel_size=2, **options)


def test_a_transposed_convolution_is_the_gradient_of_a_convolution():
    conv = jl.Conv2D(3, (3, 2), strides=2, use_bias=False)
    back = jl.Conv2DTranspose(4, (3, 2), strides=2, use_bias=False)
    x, y = jnp.asarray(data((2, 7, 8, 4))), jnp.asarray(data((2, 3, 4, 3), seed=1))
    params, _ = conv.init(jax.random.key(0), x)
    _, pull = jax.vjp(lambda x: conv.apply(params, {}, x)[0], x)
    np.testing.assert_allclose(back.apply(params, {}, y)[0], pull(y)[0], rtol=1e-5, atol=1e-5)


def test_output_padding_is_refused_from_the_strides_on():
    with pytest.raises(ValueError, match=r"output_padding below strides, received output_padding=2, strides"):
        jl.Conv2DTranspose(4, 3, strides=2, output_padding=2)


def test_transposed_kernels_exchange_inputs_and_outputs_for_initializers():
    layer = jl.Conv1DTranspose(3, 2, kernel_initializer="he_uniform")
    kernel = layer.init(jax.random.key(0), (1, 4, 500))[0]["kernel"]
    limit = (6 / (2 * 3)) ** 0.5  # the fan "in" is 2 * filters
    assert 0.9 * limit < float(jnp.abs(kernel).max()) <= limit


DEPTHWISE = [
    {"kernel_size": 3},
    {"kernel_size": 2, "padding": "same", "strides": 2, "depth_multiplier": 2},
    {"kernel_size": 3, "padding": "same", "dilation_rate": 2, "use_bias": False, "activation": "tanh"},
]


@pytest.mark.parametrize("arguments", DEPTHWISE, ids=str)
@pytest.mark.parametrize("rank", [1, 2])
def test_depthwise(rank, arguments):
    parity(f"DepthwiseConv{rank}D", data(SEQUENCE if rank == 1 else IMAGE), **arguments)


@pytest.mark.parametrize("arguments", DEPTHWISE, ids=str)
@pytest.mark.parametrize("rank", [1, 2])
def test_separable(rank, arguments):
    parity(f"SeparableConv{rank}D", data(SEQUENCE if rank == 1 else IMAGE), filters=2, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"), [("DepthwiseConv2D", {}), ("SeparableConv2D", {"filters": 2})]
)
def test_depthwise_channels_first(name, arguments):
    x = data((2, 3, 5, 4))
    parity(
        name, x, kernel_size=3, depth_multiplier=2, padding="same", data_format="channels_first", **arguments
    )


def test_penalties_and_constraints_find_the_kernels():
    layer = jl.SeparableConv1D(2, 3, depthwise_regularizer=jl.l2(1.0), pointwise_constraint="non_neg")
    params = {"depthwise_kernel": 2 * jnp.ones((3, 2, 1)), "pointwise_kernel": -jnp.ones((1, 2, 2))}
    assert float(layer.penalty(params)) == 24
    assert layer.constrain(params)["pointwise_kernel"].max() == 0
    depthwise = jl.DepthwiseConv1D(3, depthwise_regularizer=jl.l2(1.0))
    assert float(depthwise.penalty({"kernel": jnp.ones((3, 2, 1))})) == 6


# ------------------------------------------------------------------------------ the two forms of the op

FORMS = [
    ((2, 7, 6, 3), (3, 2, 3, 1), (1, 1), "same", (1, 1)),
    ((2, 7, 6, 3), (3, 3, 3, 2), (2, 3), "same", (1, 1)),
    ((2, 8, 7, 3), (2, 3, 3, 1), (3, 2), "valid", (1, 1)),
    ((2, 9, 7, 3), (3, 2, 3, 2), (1, 1), "valid", (2, 3)),
    ((2, 9, 7, 3), (3, 2, 3, 1), (2, 1), "same", (2, 3)),
    ((2, 8, 3), (5, 3, 2), (2,), "same", (1,)),
    ((2, 2, 3), (5, 3, 1), (1,), "same", (1,)),
    ((0, 5, 3), (2, 3, 1), (1,), "valid", (1,)),
]


def values_and_gradients(form, x, kernel, options):
    def run(x, kernel):
        y, pull = jax.vjp(lambda x, k: form(x, k, **options), x, kernel)
        return y, pull(jnp.asarray(data(y.shape, seed=3), y.dtype))

    return jax.jit(run, compiler_options={"xla_backend_optimization_level": "0"})(x, kernel)


@pytest.mark.parametrize("form", [depthwise_conv_shifted, depthwise_conv], ids=["shifted", "chosen"])
@pytest.mark.parametrize(("shape", "window", "strides", "padding", "dilation"), FORMS)
def test_forms_agree(form, shape, window, strides, padding, dilation):
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    x, kernel = jnp.asarray(data(shape)), jnp.asarray(data(window, seed=1))
    actual, expected = (values_and_gradients(f, x, kernel, options) for f in (form, depthwise_conv_lax))
    for got, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_forms_agree_in_half_precision():
    options = {"strides": (1, 1), "padding": "same", "dilation": (1, 1)}
    x, kernel = jnp.asarray(data((2, 6, 5, 3))), jnp.asarray(data((5, 5, 3, 1), seed=1))
    half = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    wide = half[0].astype(jnp.float32), half[1].astype(jnp.float32)
    exact = values_and_gradients(depthwise_conv_lax, *wide, options)
    actual = values_and_gradients(depthwise_conv_shifted, *half, options)
    for got, want in zip(jax.tree.leaves(actual), jax.tree.leaves(exact), strict=True):
        assert got.dtype == jnp.bfloat16
        # one rounding of the result, and one of the weights of the sum
        np.testing.assert_allclose(
            got.astype(jnp.float32), want, rtol=2**-7, atol=2**-7 * float(jnp.abs(want).max())
        )


def test_large_windows_and_unknown_sizes_take_the_plain_form():
    options = {"strides": (1,), "padding": "same", "dilation": (1,)}
    run = functools.partial(depthwise_conv, **options)
    for window, shape in [((65, 3, 1), (1, 70, 3)), ((3, 3, 1), jax.export.symbolic_shape("n, t, 3"))]:
        program = jax.make_jaxpr(run)(
            jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(window, jnp.float32)
        )
        names = {eqn.primitive.name for eqn in program.eqns}
        assert "conv_general_dilated" in names
        assert "cond" not in names


def test_the_choice_is_made_by_platform():
    x, kernel = jnp.ones((1, 4, 3)), jnp.ones((2, 3, 1))
    run = jax.jit(functools.partial(depthwise_conv, strides=(1,), padding="valid", dilation=(1,)))
    text = {p: run.trace(x, kernel).lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda")}
    assert "stablehlo.convolution" not in text["cpu"]
    assert "stablehlo.convolution" in text["cuda"]
