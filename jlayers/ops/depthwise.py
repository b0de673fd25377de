"""Depthwise convolution: each channel with filters of its own. Data have the channels last.

On CPUs XLA runs grouped convolutions group by group. There the window's cells are taken one after the other
instead, each a slice of the whole image times one row of the kernel, all of which fuse into one loop. The
kernel's gradient multiplies the same slices with the gradient of the result, for some images at a time: XLA
writes each product to memory before it sums it, which takes up to five times as long beyond the cache. With
strides the gradient for the input is taken by blocks (`windows.py`), in a half to a seventeenth of the time
of transposed slices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jlayers.ops.windows import Padding, Pads, by_block, cells, pads_of, sum_over_batch, sum_over_windows
from jlayers.shapes import wide_dtype

__all__ = ["depthwise_conv", "depthwise_conv_lax", "depthwise_conv_shifted"]

# The shifted form writes one slice per cell into the program: beyond so many, compiling takes too long.
_MOST_CELLS = 64

# How many numbers a product may hold that goes into the kernel's gradient: 1.5 MB.
_PRODUCT = 3 * 2**17


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding, dilation: Sequence[int]
) -> jax.Array:
    """`(batch, *spatial, channels)` to `(batch, *new, channels * multiplier)`, channel by channel.

    The kernel is `(*window, channels, multiplier)`. Filter `m` of channel `c` gives channel
    `c * multiplier + m` of the result, as in Keras. `padding` is a word or a pair for each axis.
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
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: Padding,
    dilation: tuple[int, ...],
) -> jax.Array:
    """`depthwise_conv` as a sum over the cells of the window. It is added up in float32 or wider."""
    *window, channels, multiplier = kernel.shape
    pads = pads_of(x.shape[1:-1], window, strides, padding, dilation)
    if multiplier > 1:
        shape = (*x.shape, multiplier)
        x = jnp.broadcast_to(x[..., None], shape).reshape(*shape[:-2], channels * multiplier)
    return _shifted(x, kernel.reshape(*window, channels * multiplier), strides, pads, dilation)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _shifted(
    x: jax.Array, filters: jax.Array, strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    return _sum_of_cells(x, filters, strides, pads, dilation)


def _sum_of_cells(
    x: jax.Array, filters: jax.Array, strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    *window, channels = filters.shape
    wide = wide_dtype(x.dtype)
    rows = filters.reshape(-1, *(1,) * (x.ndim - 1), channels).astype(wide)
    seen = cells(x, window, strides, pads, dilation)
    terms = (cell.astype(wide) * row for cell, row in zip(seen, rows, strict=True))
    return functools.reduce(jnp.add, terms).astype(x.dtype)


@_shifted.defjvp
def _shifted_jvp(
    strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...], primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x, filters), (dx, dfilters) = primals, tangents
    y = _shifted(x, filters, strides, pads, dilation)
    wide = wide_dtype(x.dtype)
    *window, channels = filters.shape

    def for_x(dy: jax.Array) -> jax.Array:
        rows, windows = by_block(filters.astype(wide), strides), dy.astype(wide)
        total = sum_over_windows(jnp.multiply, rows, [windows], x.shape[1:-1], strides, pads)
        return total.astype(x.dtype)

    def for_filters(dy: jax.Array) -> jax.Array:
        def products(x: jax.Array, dy: jax.Array) -> jax.Array:
            seen = cells(x, window, strides, pads, dilation)
            every = tuple(range(x.ndim - 1))
            return jnp.stack([jnp.sum(cell.astype(wide) * dy.astype(wide), every) for cell in seen])

        most = _PRODUCT // max(1, math.prod(y.shape[1:]))
        return sum_over_batch(products, [x, dy], most).reshape(*window, channels).astype(filters.dtype)

    # The tangents are written as transposes: their own transposes are the gradients as they stand above.
    (of_filters,) = jax.linear_transpose(for_filters, y)(dfilters)
    if max(strides) == 1 or max(dilation) > 1:
        return y, _sum_of_cells(dx, filters, strides, pads, dilation) + of_filters
    return y, jax.linear_transpose(for_x, y)(dx)[0] + of_filters
