"""Depthwise convolutions: each channel has filters of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from jlayers import activations, initializers
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
from jlayers.layers.convolution.convolution import (
    Zeros,
    add_bias_and_activate,
    checked_padding,
    checked_window,
    need_room,
    window_extent,
)
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
    """The window, a check of an input, and the convolution of channels-last data without bias."""
    padding = checked_padding(rank, padding)
    window, steps, dilation = checked_window(rank, kernel_size, strides, dilation_rate, data_format)

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        need_floating(x)
        need_room(x, data_format, window_extent(window, dilation), padding)

    def convolve(kernel: jax.Array, x: jax.Array) -> jax.Array:
        need_features(x, -1, kernel.shape[-2], "channels")
        return depthwise_conv(x, kernel.astype(x.dtype), steps, padding, dilation)

    return window, check, convolve


def _depthwise(
    rank: int,
    *,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: Any,
    depth_multiplier: int,
    data_format: str | None,
    dilation_rate: int | Sequence[int],
    activation: Any,
    use_bias: bool,
    depthwise_initializer: Any,
    bias_initializer: Any,
    **_: Any,
) -> Any:
    positive("depth_multiplier", depth_multiplier)
    window, check, convolve = depthwise_parts(rank, kernel_size, strides, padding, data_format, dilation_rate)
    last, first = channels_at_edge(data_format)
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(depthwise_initializer), initializers.get(bias_initializer)

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
        return first(add_bias_and_activate(convolve(params["kernel"], last(x)), params, -1, activate))

    return init, apply


@layer
def DepthwiseConv2D(
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] | Zeros = "valid",
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
    """2D convolution of each channel with its own filters. As in Keras.

    Shapes: `(batch, height, width, channels)` to
    `(batch, new_height, new_width, channels * depth_multiplier)`. Parameters: `kernel`
    `(*kernel_size, channels, depth_multiplier)`, `bias` `(channels * depth_multiplier,)`. Filter `m` of
    channel `c` gives channel `c * depth_multiplier + m`.

    Args:
        strides: distance between windows.
        padding: "valid", "same" or numbers of zeros; see `Conv2D`.
        depth_multiplier: filters per channel.
        depthwise_initializer: initial values of the kernel.
        depthwise_regularizer: penalty on the kernel; see `Layer.penalty`.
        depthwise_constraint: imposed on the kernel after each update; see `Layer.constrain`.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a window larger than the input, or
            an input of another rank.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.DepthwiseConv2D(3, padding="same", depth_multiplier=2)
    >>> params, state = conv.init(jax.random.key(0), (1, 6, 6, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 6, 6, 4)))[0].shape
    (1, 6, 6, 8)
    """
    return _depthwise(2, **locals())


@layer
def DepthwiseConv1D(
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same"] | Zeros = "valid",
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
    """1D convolution of each channel with its own filters. As `DepthwiseConv2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, channels * depth_multiplier)`.

    >>> import jax, jlayers as jl
    >>> conv = jl.DepthwiseConv1D(3, padding="same", depth_multiplier=2)
    >>> params, state = conv.init(jax.random.key(0), (1, 5, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 5, 4)))[0].shape
    (1, 5, 8)
    """
    return _depthwise(1, **locals())
