"""Depthwise convolutions: each channel is filtered by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from jlayers import activations, constraints, initializers, regularizers
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    need_features,
    need_floating,
    need_rank,
    positive,
    spatial_shape,
)
from jlayers.layers.convolution.convolution import Pads, finished, geometry, need_room, pads_of, reach
from jlayers.ops.depthwise import depthwise_conv

__all__ = ["DepthwiseConv1D", "DepthwiseConv2D"]


def depthwise_parts(
    rank: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: Any,
    data_format: str | None,
    dilation_rate: int | Sequence[int],
) -> tuple[tuple[int, ...], Callable[[Any], None], Callable[[Any, jax.Array], jax.Array]]:
    """The window, the check of an input, and the convolution of channels-last data without bias."""
    padding = pads_of(rank, padding)
    window, steps, dilation = geometry(rank, kernel_size, strides, dilation_rate, data_format)

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        need_floating(x)
        need_room(x, data_format, reach(window, dilation), padding)

    def convolve(kernel: jax.Array, x: jax.Array) -> jax.Array:
        need_features(x, -1, kernel.shape[-2], "channels")
        return depthwise_conv(x, kernel.astype(x.dtype), steps, padding, dilation)

    return window, check, convolve


def found(regularized: Sequence[Any], constrained: Sequence[Any], *makers: Any) -> list[Any]:
    """The initialisers by name, after a look at the names of the rest."""
    for regularizer in regularized:
        regularizers.get(regularizer)
    constraints.check(*constrained)
    return [initializers.get(maker) for maker in makers]


def _depthwise_layer(
    rank: int,
    depth_multiplier: int,
    data_format: str | None,
    activation: Any,
    use_bias: bool,
    makers: Sequence[Any],
    *convolution: Any,
) -> Any:
    positive("depth_multiplier", depth_multiplier)
    kernel_size, strides, padding, dilation_rate = convolution
    window, check, convolve = depthwise_parts(rank, kernel_size, strides, padding, data_format, dilation_rate)
    last, first = channels_at_edge(data_format)
    activate = activations.get(activation)
    make_kernel, make_bias = makers

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        channels = last(x).shape[-1]
        kernel_key, bias_key = jax.random.split(key)
        shape = (*window, channels, depth_multiplier)
        params = {"kernel": make_kernel(kernel_key, shape, param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (channels * depth_multiplier,), param_dtype(x))
        return params

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        return first(finished(convolve(params["kernel"], last(x)), params, -1, activate))

    return init, apply


@layer
def DepthwiseConv1D(
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same"] | Pads = "valid",
    depth_multiplier: int = 1,
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int] = 1,
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    depthwise_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    depthwise_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """A convolution of each channel of a sequence with filters of its own. As in Keras.

    Shapes: `(batch, steps, channels)` to
    `(batch, new_steps, channels * depth_multiplier)`. Parameters: `kernel`
    `(*kernel_size, channels, depth_multiplier)`, `bias` `(channels * depth_multiplier,)`. Filter `m` of
    channel `c` gives channel `c * depth_multiplier + m`.

    Args:
        kernel_size: length of the window.
        strides: steps between windows.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs, any odd cell at the end;
            or cells of zeros, one number, one per axis, or (before, after) per axis: Keras takes no such.
        depth_multiplier: filters per channel.
        data_format: "channels_last", which is the default, or "channels_first".
        dilation_rate: distance between the cells of the window.
        activation: applied to the result; None for none.
        use_bias: whether to add a bias.
        depthwise_initializer: first values of the kernel.
        bias_initializer: first values of the bias.
        depthwise_regularizer: penalty on the kernel; see `Layer.penalty`.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        depthwise_constraint: what the kernel is held to after each update; see `Layer.constrain`.
        bias_constraint: what the bias is held to.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a window larger than the input, or
            an input of another rank.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.DepthwiseConv1D(3, padding="same", depth_multiplier=2)
    >>> params, state = conv.init(jax.random.key(0), (1, 5, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 5, 4)))[0].shape
    (1, 5, 8)
    """
    makers = found(
        (depthwise_regularizer, bias_regularizer), (depthwise_constraint, bias_constraint),
        depthwise_initializer, bias_initializer,
    )  # fmt: skip
    return _depthwise_layer(
        1, depth_multiplier, data_format, activation, use_bias, makers,
        kernel_size, strides, padding, dilation_rate,
    )  # fmt: skip


@layer
def DepthwiseConv2D(
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] | Pads = "valid",
    depth_multiplier: int = 1,
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int] = (1, 1),
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    depthwise_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    depthwise_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    depthwise_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """A convolution of each channel of images with filters of its own. As in Keras.

    Shapes: `(batch, height, width, channels)` to
    `(batch, new_height, new_width, channels * depth_multiplier)`. Parameters: `kernel`
    `(*kernel_size, channels, depth_multiplier)`, `bias` `(channels * depth_multiplier,)`. Filter `m` of
    channel `c` gives channel `c * depth_multiplier + m`.

    Args:
        kernel_size: height and width of the window, or one number for both.
        strides: steps between windows.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs, any odd cell at the end;
            or cells of zeros, one number, one per axis, or (before, after) per axis: Keras takes no such.
        depth_multiplier: filters per channel.
        data_format: "channels_last", which is the default, or "channels_first".
        dilation_rate: distance between the cells of the window.
        activation: applied to the result; None for none.
        use_bias: whether to add a bias.
        depthwise_initializer: first values of the kernel.
        bias_initializer: first values of the bias.
        depthwise_regularizer: penalty on the kernel; see `Layer.penalty`.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        depthwise_constraint: what the kernel is held to after each update; see `Layer.constrain`.
        bias_constraint: what the bias is held to.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a window larger than the input, or
            an input of another rank.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.DepthwiseConv2D(3, padding="same", depth_multiplier=2)
    >>> params, state = conv.init(jax.random.key(0), (1, 6, 6, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 6, 6, 4)))[0].shape
    (1, 6, 6, 8)
    """
    makers = found(
        (depthwise_regularizer, bias_regularizer), (depthwise_constraint, bias_constraint),
        depthwise_initializer, bias_initializer,
    )  # fmt: skip
    return _depthwise_layer(
        2, depth_multiplier, data_format, activation, use_bias, makers,
        kernel_size, strides, padding, dilation_rate,
    )  # fmt: skip
