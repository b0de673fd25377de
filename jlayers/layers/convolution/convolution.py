"""Convolutions over one, two and three axes: three constructors around one function of the rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import describe, param_dtype
from jlayers.layers._arguments import (
    DataFormat,
    choice,
    need_features,
    need_floating,
    need_rank,
    per_axis,
    positive,
    reshaped_to,
    spatial_shape,
)
from jlayers.ops.conv import conv

__all__ = [
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Convolution1D",
    "Convolution2D",
    "Convolution3D",
]

# Numbers of zeros: one for all sides, or for each axis one for both sides or (before, after).
Zeros = int | tuple[int | tuple[int, int], ...]

_AXES = {1: "W", 2: "HW", 3: "DHW"}


def dimension_numbers(rank: int, data_format: str | None) -> tuple[str, str, str]:
    """The layouts of data, kernel and result for `lax`: `("NHWC", "HWIO", "NHWC")`."""
    axes = _AXES[rank]
    data = f"NC{axes}" if data_format == "channels_first" else f"N{axes}C"
    return data, f"{axes}IO", data


def spatial_sizes(x: Any, data_format: str | None) -> tuple[Any, ...]:
    """The sizes of the axes that are neither batch nor channels."""
    return x.shape[2:] if data_format == "channels_first" else x.shape[1:-1]


def need_room(x: Any, data_format: str | None, extent: Sequence[int], padding: Any) -> None:
    """Refuse a window that is larger than the data with its padding: no output would be left."""
    if padding in ("same", "causal"):
        return
    added = [0] * len(extent) if padding == "valid" else map(sum, padding)
    sizes = zip(spatial_sizes(x, data_format), added, extent, strict=True)
    if any(isinstance(size, int) and size + more < most for size, more, most in sizes):
        raise refused(
            ValueError,
            f"the window {tuple(extent)} is larger than the input {describe(x)}: expected a "
            "larger input, a smaller window, or padding='same'",
            padding=padding,
        )


def checked_window(
    rank: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    dilation_rate: int | Sequence[int],
    data_format: str | None,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Window, strides and dilation, one number per axis."""
    window = per_axis("kernel_size", kernel_size, rank)
    steps = per_axis("strides", strides, rank)
    dilation = per_axis("dilation_rate", dilation_rate, rank)
    choice("data_format", data_format or "channels_last", ("channels_last", "channels_first"))
    if max(steps) > 1 and max(dilation) > 1:
        raise refused(
            ValueError,
            "expected strides or dilation_rate to be 1",
            strides=strides,
            dilation_rate=dilation_rate,
        )
    return window, steps, dilation


def checked_padding(
    rank: int, padding: Any, paddings: Sequence[str] = ("valid", "same")
) -> str | tuple[tuple[int, int], ...]:
    """The padding by name, or as (before, after) per axis."""
    if isinstance(padding, str):
        return choice("padding", padding, paddings)
    entries = (padding,) * rank if _is_count(padding) else padding
    if isinstance(entries, (tuple, list)) and len(entries) == rank:
        pairs = [(e, e) if _is_count(e) else e for e in entries]
        if all(isinstance(p, (tuple, list)) and len(p) == 2 and all(map(_is_count, p)) for p in pairs):
            return tuple((before, after) for before, after in pairs)
    raise refused(
        ValueError,
        f"expected padding out of {', '.join(map(repr, paddings))}, or a whole number of "
        f"cells, or for each of {rank} axes one or a pair (before, after), such as "
        f"{((1, 2),) * rank}",
        padding=padding,
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def window_extent(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """The number of positions that the window spans, with the gaps of the dilation."""
    return tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))


def add_bias_and_activate(y: jax.Array, params: Any, channel_axis: int, activate: Any) -> jax.Array:
    """Add the bias, if there is one, and apply the activation."""
    if "bias" in params:
        y = y + reshaped_to(y, params["bias"], [channel_axis])
    return activate(y) if activate else y


def _conv(
    rank: int,
    *,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: Any,
    data_format: str | None,
    dilation_rate: int | Sequence[int],
    groups: int,
    activation: Any,
    use_bias: bool,
    kernel_initializer: Any,
    bias_initializer: Any,
    **_: Any,
) -> Any:
    positive("filters", filters)
    positive("groups", groups)
    padding = checked_padding(rank, padding, ("valid", "same", "causal") if rank == 1 else ("valid", "same"))
    window, steps, dilation = checked_window(rank, kernel_size, strides, dilation_rate, data_format)
    if filters % groups:
        raise refused(
            ValueError, "expected filters to be a multiple of groups", filters=filters, groups=groups
        )
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)
    channel_axis = 1 if data_format == "channels_first" else -1
    extent = window_extent(window, dilation)
    pads: Any = ((extent[0] - 1, 0),) if padding == "causal" else padding

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        need_floating(x)
        need_room(x, data_format, extent, padding)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        channels = x.shape[channel_axis]
        if channels % groups:
            raise refused(
                ValueError, "expected the channels of the input to be a multiple of groups", x, groups=groups
            )
        kernel_key, bias_key = jax.random.split(key)
        shape = (*window, channels // groups, filters)
        params = {"kernel": make_kernel(kernel_key, shape, param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (filters,), param_dtype(x))
        return params

    def apply(params: Any, x: jax.Array) -> jax.Array:
        check(x)
        kernel = params["kernel"].astype(x.dtype)
        need_features(x, channel_axis, kernel.shape[-2] * groups, "channels")
        last = jnp.moveaxis(x, channel_axis, -1)
        y = jnp.moveaxis(conv(last, kernel, steps, pads, dilation, groups), -1, channel_axis)
        return add_bias_and_activate(y, params, channel_axis, activate)

    return init, apply


@layer(aliases=("Convolution2D",))
def Conv2D(
    filters: int,
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = (1, 1),
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int] = (1, 1),
    groups: int = 1,
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
    """2D convolution over images. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, new_height, new_width, filters)`. Parameters:
    `kernel` `(*kernel_size, channels / groups, filters)`, `bias` `(filters,)`.

    Args:
        filters: number of output channels.
        strides: distance between windows.
        padding: "valid" for none; "same" for `ceil(size / strides)` outputs, with an odd cell at the end; or
            zeros, which Keras does not take: one number, one per axis, or (before, after) per axis.
        dilation_rate: distance between the cells of the window.
        groups: number of parts that the channels are split into, each with its own filters.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, groups that do not divide the
            channels, a window larger than the input, or an input of another rank.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> conv = jl.Conv2D(32, (3, 3), activation="relu")
    >>> params, state = conv.init(jax.random.key(0), (2, 28, 28, 1))
    >>> conv.apply(params, state, jax.numpy.ones((2, 28, 28, 1)))[0].shape
    (2, 26, 26, 32)
    """
    return _conv(2, **locals())


@layer(aliases=("Convolution1D",))
def Conv1D(
    filters: int,
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same", "causal"] | Zeros = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int] = 1,
    groups: int = 1,
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
    """1D convolution over a sequence. As `Conv2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, new_steps, filters)`. Parameters: `kernel`
    `(kernel_size, channels / groups, filters)`, `bias` `(filters,)`.

    Args:
        padding: as in `Conv2D`, or "causal": an output depends on its own and earlier steps only.

    >>> import jax, jlayers as jl
    >>> conv = jl.Conv1D(8, 3, padding="causal")
    >>> params, state = conv.init(jax.random.key(0), (2, 10, 4))
    >>> conv.apply(params, state, jax.numpy.ones((2, 10, 4)))[0].shape
    (2, 10, 8)
    """
    return _conv(1, **locals())


@layer(aliases=("Convolution3D",))
def Conv3D(
    filters: int,
    kernel_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] = (1, 1, 1),
    padding: Literal["valid", "same"] | Zeros = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int, int] = (1, 1, 1),
    groups: int = 1,
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
    """3D convolution over volumes. As `Conv2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to
    `(batch, new_depth, new_height, new_width, filters)`.

    >>> import jax, jlayers as jl
    >>> conv = jl.Conv3D(4, 3, padding="same")
    >>> params, state = conv.init(jax.random.key(0), (1, 4, 4, 4, 2))
    >>> conv.apply(params, state, jax.numpy.ones((1, 4, 4, 4, 2)))[0].shape
    (1, 4, 4, 4, 4)
    """
    return _conv(3, **locals())


# Keras's second names.
Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
