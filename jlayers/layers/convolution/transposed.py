"""Transposed convolutions: the gradient of a convolution with respect to its input, as a layer.

The output is larger than the input by the factor of the strides. The kernel is that of a convolution from
output to input, so its last two axes are (out, in).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import (
    DataFormat,
    need_features,
    need_floating,
    need_rank,
    per_axis,
    positive,
    spatial_shape,
)
from jlayers.layers.convolution.convolution import (
    Zeros,
    add_bias_and_activate,
    checked_padding,
    checked_window,
    spatial_sizes,
    window_extent,
)
from jlayers.ops.conv_transpose import conv_transpose

__all__ = [
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "Convolution1DTranspose",
    "Convolution2DTranspose",
    "Convolution3DTranspose",
]


def _pads(extent: int, stride: int, padding: str | tuple[int, int], extra: int | None) -> tuple[int, int]:
    """Zeros before and after the input, once the stride has spread it, for Keras's output length.

    That length is, for `n` positions: "valid" `(n - 1) * stride + max(extent, stride)`, "same" `n * stride`;
    with `output_padding` "valid" `(n - 1) * stride + extent + extra`, "same" with the parity of `extent` in
    its place. Numbers are cut off the ends of "valid", as in PyTorch: so many zeros fewer.
    """
    if padding != "same":
        low, high = (0, 0) if isinstance(padding, str) else padding
        after = max(stride - extent, 0) if extra is None else extra
        return extent - 1 - low, extent - 1 + after - high
    total = extent + stride - 2 if extra is None else extent + extent % 2 - 2 + extra
    before = min((total + 1) // 2, extent - 1)
    return before, total - before


def _transposed(
    rank: int,
    *,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: Any,
    output_padding: int | Sequence[int] | None,
    data_format: str | None,
    dilation_rate: int | Sequence[int],
    activation: Any,
    use_bias: bool,
    kernel_initializer: Any,
    bias_initializer: Any,
    **_: Any,
) -> Any:
    positive("filters", filters)
    padding = checked_padding(rank, padding)
    window, steps, dilation = checked_window(rank, kernel_size, strides, dilation_rate, data_format)
    extra: Sequence[int | None] = (None,) * rank
    if output_padding is not None:
        extra = sizes = per_axis("output_padding", output_padding, rank, least=0)
        if any(size >= step for size, step in zip(sizes, steps, strict=True)):
            raise refused(
                ValueError,
                "expected output_padding below strides",
                output_padding=output_padding,
                strides=strides,
            )
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)
    channel_axis = 1 if data_format == "channels_first" else -1
    extents = window_extent(window, dilation)
    crops = (padding,) * rank if isinstance(padding, str) else padding
    pads = [_pads(*side) for side in zip(extents, steps, crops, extra, strict=True)]

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        need_floating(x)
        sides = zip(spatial_sizes(x, data_format), steps, extents, pads, strict=True)
        known = [(n - 1) * s + sum(pad) + 2 - e for n, s, e, pad in sides if isinstance(n, int) and n]
        if padding not in ("valid", "same") and min(known, default=1) < 1:
            raise refused(
                ValueError, "expected padding that leaves some of the output, from whose ends it is cut", x,
                padding=padding,
            )  # fmt: skip

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        kernel_key, bias_key = jax.random.split(key)
        shape = (*window, filters, x.shape[channel_axis])
        params = {"kernel": make_kernel(kernel_key, shape, param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (filters,), param_dtype(x))
        return params

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        kernel = params["kernel"].astype(x.dtype)
        need_features(x, channel_axis, kernel.shape[-1], "channels")
        last = jnp.moveaxis(x, channel_axis, -1)
        y = jnp.moveaxis(conv_transpose(last, kernel, steps, pads, dilation), -1, channel_axis)
        return add_bias_and_activate(y, params, channel_axis, activate)

    return init, apply


@layer(aliases=("Convolution2DTranspose",))
def Conv2DTranspose(
    filters: int,
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] | Zeros = "valid",
    output_padding: int | tuple[int, int] | None = None,
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int] = (1, 1),
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """2D transposed convolution, which enlarges images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, filters)`. Parameters:
    `kernel` `(*kernel_size, filters, channels)`, `bias` `(filters,)`. An initializer that reads the last two
    axes of a kernel as (in, out) therefore counts inputs as outputs, as in Keras.

    Args:
        strides: factors by which the sizes grow.
        padding: "valid" for the whole result; "same" for `size * strides` outputs. A number, or one or a
            pair (before, after) for each axis, is cut off the ends of the whole result, as in PyTorch.
        output_padding: positions added at the end, fewer than the strides; None for Keras's lengths:
            `(size - 1) * strides + max(window, strides)` if "valid". If given, even as 0, the length is
            `(size - 1) * strides + window + output_padding`; with "same", `window % 2` takes the place of
            `window`. Where the strides are larger than the window, 0 gives PyTorch's lengths.

    Raises:
        ValueError: sizes below 1, unknown padding or so much of it that no output is left, strides with
            dilation, output padding of the strides or more, or an input of another rank.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.Conv2DTranspose(8, 3, strides=2, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 7, 7, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 7, 7, 4)))[0].shape
    (1, 14, 14, 8)
    """
    return _transposed(2, **locals())


@layer(aliases=("Convolution1DTranspose",))
def Conv1DTranspose(
    filters: int,
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same"] | Zeros = "valid",
    output_padding: int | tuple[int] | None = None,
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int] = 1,
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """1D transposed convolution, which lengthens a sequence. As `Conv2DTranspose`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, filters)`.

    >>> import jax, jlayers as jl
    >>> conv = jl.Conv1DTranspose(2, 3, strides=2, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 5, 4))
    >>> conv.apply(params, state, jax.numpy.ones((1, 5, 4)))[0].shape
    (1, 10, 2)
    """
    return _transposed(1, **locals())


@layer(aliases=("Convolution3DTranspose",))
def Conv3DTranspose(
    filters: int,
    kernel_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] = (1, 1, 1),
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
    output_padding: int | tuple[int, int, int] | None = None,
    dilation_rate: int | tuple[int, int, int] = (1, 1, 1),
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """3D transposed convolution, which enlarges volumes. As `Conv2DTranspose`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to
    `(batch, new_depth, new_height, new_width, filters)`. As in Keras, `output_padding` comes after
    `data_format` here.

    >>> import jax, jlayers as jl
    >>> conv = jl.Conv3DTranspose(2, 2, strides=2)
    >>> params, state = conv.init(jax.random.key(0), (1, 2, 2, 2, 1))
    >>> conv.apply(params, state, jax.numpy.ones((1, 2, 2, 2, 1)))[0].shape
    (1, 4, 4, 4, 2)
    """
    return _transposed(3, **locals())


# Keras's second names.
Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
