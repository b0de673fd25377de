"""Separable convolutions: a depthwise convolution, then one of window 1 that mixes the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers import activations, initializers
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import DataFormat, channels_at_edge, positive
from jlayers.layers.convolution.convolution import Zeros, add_bias_and_activate
from jlayers.layers.convolution.depthwise import depthwise_parts

__all__ = [
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
]


def _separable(
    rank: int,
    *,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: Any,
    data_format: str | None,
    dilation_rate: int | Sequence[int],
    depth_multiplier: int,
    activation: Any,
    use_bias: bool,
    depthwise_initializer: Any,
    pointwise_initializer: Any,
    bias_initializer: Any,
    **_: Any,
) -> Any:
    positive("filters", filters)
    positive("depth_multiplier", depth_multiplier)
    window, check, convolve = depthwise_parts(rank, kernel_size, strides, padding, data_format, dilation_rate)
    last, first = channels_at_edge(data_format)
    activate = activations.get(activation)
    initial_values = (depthwise_initializer, pointwise_initializer, bias_initializer)
    make_depthwise, make_pointwise, make_bias = map(initializers.get, initial_values)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        channels, dtype = last(x).shape[-1], param_dtype(x)
        depthwise_key, pointwise_key, bias_key = jax.random.split(key, 3)
        shape = (*(1,) * rank, channels * depth_multiplier, filters)
        params = {
            "depthwise_kernel": make_depthwise(depthwise_key, (*window, channels, depth_multiplier), dtype),
            "pointwise_kernel": make_pointwise(pointwise_key, shape, dtype),
        }
        if use_bias:
            params["bias"] = make_bias(bias_key, (filters,), dtype)
        return params

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        y = convolve(params["depthwise_kernel"], last(x))
        # A window of one cell is a matrix product over the channels.
        pointwise = params["pointwise_kernel"].reshape(-1, filters).astype(y.dtype)
        return first(add_bias_and_activate(jnp.matmul(y, pointwise), params, -1, activate))

    return init, apply


@layer(aliases=("SeparableConvolution2D",))
def SeparableConv2D(
    filters: int,
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int] = (1, 1),
    depth_multiplier: int = 1,
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = "glorot_uniform",
    pointwise_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    depthwise_regularizer: RegularizerLike | None = None,
    pointwise_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    depthwise_constraint: ConstraintLike | None = None,
    pointwise_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """2D depthwise convolution, then a 1x1 convolution that mixes the channels. As in Keras.

    There is no activation between the two, and the bias is added at the end (Chollet, 2017).

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, filters)`. Parameters:
    `depthwise_kernel` `(*kernel_size, channels, depth_multiplier)`, `pointwise_kernel`
    `(1, 1, channels * depth_multiplier, filters)`, `bias` `(filters,)`.

    Args:
        strides: distance between windows.
        padding: "valid", "same" or numbers of zeros; see `Conv2D`.
        depth_multiplier: filters per channel in the depthwise convolution.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a window larger than the input, or
            an input of another rank.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.SeparableConv2D(3, 3, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 6, 6, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 6, 6, 4)))[0].shape
    (1, 6, 6, 3)
    """
    return _separable(2, **locals())


@layer(aliases=("SeparableConvolution1D",))
def SeparableConv1D(
    filters: int,
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int] = 1,
    depth_multiplier: int = 1,
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = "glorot_uniform",
    pointwise_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    depthwise_regularizer: RegularizerLike | None = None,
    pointwise_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    depthwise_constraint: ConstraintLike | None = None,
    pointwise_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """1D depthwise convolution, then a mix of the channels. As `SeparableConv2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, filters)`.

    >>> import jax, jlayers as jl
    >>> conv = jl.SeparableConv1D(3, 3, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 5, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 5, 4)))[0].shape
    (1, 5, 3)
    """
    return _separable(1, **locals())


# Keras's second names.
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
