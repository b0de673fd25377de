"""Separable convolutions: a depthwise one, then a mix of the channels at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers import activations
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import DataFormat, channels_at_edge, positive
from jlayers.layers.convolution.convolution import Pads, finished
from jlayers.layers.convolution.depthwise import depthwise_parts, found

__all__ = ["SeparableConv1D", "SeparableConv2D"]


def _separable_layer(
    rank: int,
    filters: int,
    depth_multiplier: int,
    data_format: str | None,
    activation: Any,
    use_bias: bool,
    makers: Sequence[Any],
    *convolution: Any,
) -> Any:
    positive("filters", filters)
    positive("depth_multiplier", depth_multiplier)
    kernel_size, strides, padding, dilation_rate = convolution
    window, check, convolve = depthwise_parts(rank, kernel_size, strides, padding, data_format, dilation_rate)
    last, first = channels_at_edge(data_format)
    activate = activations.get(activation)
    make_depthwise, make_pointwise, make_bias = makers

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
        return first(finished(jnp.matmul(y, pointwise), params, -1, activate))

    return init, apply


@layer
def SeparableConv1D(
    filters: int,
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same"] | Pads = "valid",
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
    """A depthwise convolution over a sequence, then one of window 1 that mixes the channels. As in Keras.

    Nothing comes in between; the bias is added at the end (Chollet, 2017).

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, filters)`. Parameters:
    `depthwise_kernel` `(*kernel_size, channels, depth_multiplier)`, `pointwise_kernel`
    `(1, channels * depth_multiplier, filters)`, `bias` `(filters,)`.

    Args:
        filters: channels of the output.
        kernel_size: length of the window.
        strides: steps between windows.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs, any odd cell at the end;
            or cells of zeros, one number, one per axis, or (before, after) per axis: Keras takes no such.
        data_format: "channels_last", which is the default, or "channels_first".
        dilation_rate: distance between the cells of the window.
        depth_multiplier: filters per channel in the first step.
        activation: applied to the result; None for none.
        use_bias: whether to add a bias.
        depthwise_initializer: first values of the first kernel.
        pointwise_initializer: first values of the second kernel.
        bias_initializer: first values of the bias.
        depthwise_regularizer: penalty on the first kernel; see `Layer.penalty`.
        pointwise_regularizer: penalty on the second kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        depthwise_constraint: what the first kernel is held to after each update; see `Layer.constrain`.
        pointwise_constraint: what the second kernel is held to.
        bias_constraint: what the bias is held to.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a window larger than the input, or
            an input of another rank.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.SeparableConv1D(3, 3, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 5, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 5, 4)))[0].shape
    (1, 5, 3)
    """
    makers = found(
        (depthwise_regularizer, pointwise_regularizer, bias_regularizer),
        (depthwise_constraint, pointwise_constraint, bias_constraint),
        depthwise_initializer, pointwise_initializer, bias_initializer,
    )  # fmt: skip
    return _separable_layer(
        1, filters, depth_multiplier, data_format, activation, use_bias, makers,
        kernel_size, strides, padding, dilation_rate,
    )  # fmt: skip


@layer
def SeparableConv2D(
    filters: int,
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] | Pads = "valid",
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
    """A depthwise convolution over images, then one of window 1 that mixes the channels. As in Keras.

    Nothing comes in between; the bias is added at the end (Chollet, 2017).

    Shapes: `(batch, height, width, channels)` to
    `(batch, new_height, new_width, filters)`. Parameters:
    `depthwise_kernel` `(*kernel_size, channels, depth_multiplier)`, `pointwise_kernel`
    `(1, 1, channels * depth_multiplier, filters)`, `bias` `(filters,)`.

    Args:
        filters: channels of the output.
        kernel_size: height and width of the window, or one number for both.
        strides: steps between windows.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs, any odd cell at the end;
            or cells of zeros, one number, one per axis, or (before, after) per axis: Keras takes no such.
        data_format: "channels_last", which is the default, or "channels_first".
        dilation_rate: distance between the cells of the window.
        depth_multiplier: filters per channel in the first step.
        activation: applied to the result; None for none.
        use_bias: whether to add a bias.
        depthwise_initializer: first values of the first kernel.
        pointwise_initializer: first values of the second kernel.
        bias_initializer: first values of the bias.
        depthwise_regularizer: penalty on the first kernel; see `Layer.penalty`.
        pointwise_regularizer: penalty on the second kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        depthwise_constraint: what the first kernel is held to after each update; see `Layer.constrain`.
        pointwise_constraint: what the second kernel is held to.
        bias_constraint: what the bias is held to.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a window larger than the input, or
            an input of another rank.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.SeparableConv2D(3, 3, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 6, 6, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 6, 6, 4)))[0].shape
    (1, 6, 6, 3)
    """
    makers = found(
        (depthwise_regularizer, pointwise_regularizer, bias_regularizer),
        (depthwise_constraint, pointwise_constraint, bias_constraint),
        depthwise_initializer, pointwise_initializer, bias_initializer,
    )  # fmt: skip
    return _separable_layer(
        2, filters, depth_multiplier, data_format, activation, use_bias, makers,
        kernel_size, strides, padding, dilation_rate,
    )  # fmt: skip
