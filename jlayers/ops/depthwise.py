"""Depthwise convolution: each channel with filters of its own. Data have the channels last.

On CPUs XLA runs grouped convolutions group by group. There the window's cells are taken one after the other
instead, each a slice of the whole image times one row of the kernel, all of which fuse into one loop. With
strides the gradient for the input is put together from one such sum for each remainder of a position by the
stride: transposed strided slices would take five to ten times as long.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jlayers.core.shapes import wide_dtype
from jlayers.ops.platform import by_platform
from jlayers.ops.windows import Padding, Pads, cells, padded, pads_of

__all__ = ["depthwise_conv", "depthwise_conv_lax", "depthwise_conv_shifted"]

# The shifted form writes one slice per cell into the program: beyond so many, compiling takes too long.
_MOST_CELLS = 64


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
    forms = (functools.partial(form, **options) for form in (depthwise_conv_shifted, depthwise_conv_lax))
    return by_platform(*forms, x, kernel)


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
    seen = cells(padded(x, pads), window, strides, dilation)
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

    def for_filters(dy: jax.Array) -> jax.Array:
        seen = cells(padded(x, pads), window, strides, dilation)
        rows = [_sum_of_rows(cell.astype(wide), dy.astype(wide)) for cell in seen]
        return jnp.stack(rows).reshape(*window, channels).astype(filters.dtype)

    # The tangents are written as transposes: their own transposes are the gradients as they stand.
    (of_filters,) = jax.linear_transpose(for_filters, y)(dfilters)
    if max(strides) == 1:
        return y, _sum_of_cells(dx, filters, strides, pads, dilation) + of_filters
    for_x = functools.partial(_gradient_for_x, filters, x, strides, pads, dilation)
    return y, jax.linear_transpose(for_x, y)(dx)[0] + of_filters


def _gradient_for_x(
    filters: jax.Array,
    x: jax.Array,
    strides: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
    dy: jax.Array,
) -> jax.Array:
    """Each remainder of a position by the stride by itself, as a sum of slices of `dy` without holes."""
    *window, channels = filters.shape
    wide = wide_dtype(x.dtype)
    sizes = [size + low + high for size, (low, high) in zip(x.shape[1:-1], pads, strict=True)]
    places = [-(-size // s) for size, s in zip(sizes, strides, strict=True)]
    reach = [(w - 1) * d // s for w, d, s in zip(window, dilation, strides, strict=True)]
    beyond = [p - n for p, n in zip(places, dy.shape[1:-1], strict=True)]
    around = padded(dy.astype(wide), tuple(zip(reach, beyond, strict=True)))
    teeth: dict[tuple[int, ...], jax.Array] = {}
    rows = filters.reshape(-1, *(1,) * (x.ndim - 1), channels).astype(wide)
    for cell, row in zip(np.ndindex(*window), rows, strict=True):
        moved = [divmod(c * d, s) for c, d, s in zip(cell, dilation, strides, strict=True)]
        starts = (r - blocks for r, (blocks, _) in zip(reach, moved, strict=True))
        here = (slice(i, i + p) for i, p in zip(starts, places, strict=True))
        term = around[(slice(None), *here)] * row
        rests = tuple(rest for _, rest in moved)
        teeth[rests] = teeth[rests] + term if rests in teeth else term
    spread = []
    for rests, tooth in teeth.items():
        holes = ((rest, s - 1 - rest, s - 1) for rest, s in zip(rests, strides, strict=True))
        spread.append(lax.pad(tooth, jnp.zeros((), wide), [(0, 0, 0), *holes, (0, 0, 0)]))
    whole = functools.reduce(jnp.add, spread)
    inside = zip(pads, x.shape[1:-1], whole.shape[1:-1], strict=True)
    cut = tuple((-low, low + size - total) for (low, _), size, total in inside)
    return padded(whole, cut).astype(x.dtype)


def _sum_of_rows(a: jax.Array, b: jax.Array) -> jax.Array:
    """`sum(a * b)` over all axes but the last.

    XLA sums products one channel after the other. Here some parts of the batch are added up in one loop over
    whole rows, and what is left by a matrix product, which XLA does not fuse with that loop. Two equal rows:
    a single one is not a matrix to XLA, which then turns the other operand around.
    """
    batch = a.shape[0]
    parts = next(n for n in range(8, 0, -1) if batch % n == 0) if isinstance(batch, int) else 1
    size = batch // parts
    pieces = (slice(i * size, (i + 1) * size) for i in range(parts))
    few = functools.reduce(jnp.add, (a[piece] * b[piece] for piece in pieces))
    few = few.reshape(-1, few.shape[-1])
    return (jnp.ones((2, few.shape[0]), few.dtype) @ few)[0]
