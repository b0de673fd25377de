"""Depthwise convolution: each channel with filters of its own. Data have the channels last.

On CPUs XLA runs grouped convolutions group by group. There the window's cells are taken one after the other
instead, each a slice of the whole image times one row of the kernel, all of which fuse into one loop.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jlayers.shapes import wide_dtype

__all__ = ["depthwise_conv", "depthwise_conv_lax", "depthwise_conv_shifted"]

Padding = Literal["valid", "same"] | tuple[tuple[int, int], ...]

# The shifted form writes one slice per cell into the program: beyond so many, compiling takes too long.
_MOST_CELLS = 64


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, dilation: Sequence[int]
) -> jax.Array:
    """`(batch, *spatial, channels)` to `(batch, *new, channels * multiplier)`, channel by channel.

    The kernel is `(*window, channels, multiplier)`. Filter `m` of channel `c` gives channel
    `c * multiplier + m` of the result, as in Keras.
    """
    strides, dilation = tuple(strides), tuple(dilation)
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    if not known or math.prod(kernel.shape[:-2]) > _MOST_CELLS:
        return depthwise_conv_lax(x, kernel, strides, padding, dilation)
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(depthwise_conv_shifted, **options),
        default=functools.partial(depthwise_conv_lax, **options),
    )


def depthwise_conv_lax(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, dilation: Sequence[int]
) -> jax.Array:
    """`depthwise_conv` by `lax.conv_general_dilated`."""
    *window, channels, multiplier = kernel.shape
    axes = "DHW"[-len(window) :]
    return lax.conv_general_dilated(
        x,
        kernel.reshape(*window, 1, channels * multiplier),
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=channels,
    )


def depthwise_conv_shifted(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, dilation: Sequence[int]
) -> jax.Array:
    """`depthwise_conv` as a sum over the cells of the window. It is added up in float32 or wider."""
    *window, channels, multiplier = kernel.shape
    wide = wide_dtype(x.dtype)
    extent = tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))
    named = isinstance(padding, str)
    pads = lax.padtype_to_pads(x.shape[1:-1], extent, strides, padding.upper()) if named else padding
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
    if multiplier > 1:
        shape = (*padded.shape, multiplier)
        padded = jnp.broadcast_to(padded[..., None], shape).reshape(*shape[:-2], channels * multiplier)
    filters = kernel.reshape(*window, channels * multiplier).astype(wide)
    new = [(n - e) // s + 1 for n, e, s in zip(padded.shape[1:-1], extent, strides, strict=True)]
    ones = (1,) * (x.ndim - 1)
    total: Any = None
    for cell in itertools.product(*map(range, window)):
        starts = [c * d for c, d in zip(cell, dilation, strict=True)]
        stops = [start + (n - 1) * s + 1 for start, n, s in zip(starts, new, strides, strict=True)]
        steps = map(slice, starts, stops, strides)
        term = padded[(slice(None), *steps)].astype(wide) * filters[cell].reshape(*ones, -1)
        total = term if total is None else total + term
    return total.astype(x.dtype)
