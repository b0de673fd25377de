"""Convolution over the channels last. On CPUs five cases have forms of their own.

- A window of one cell is a product of two matrices, and so are its gradients: XLA's convolution takes twice
  as long, and five times as long what it makes of the kernel's gradient where the batch has several axes.
  With strides the cells that they hit are cut out once more for the kernel's gradient, and not kept.
- XLA runs the gradients of grouped convolutions as dense ones with a mask: 6 times as long for 2 groups, 80
  times for 32. Split into one convolution per group they cost what their arithmetic costs. The kernel's
  gradient takes all groups in one product: a loop for each made the compiler take a quarter of a minute.
- With strides the gradient for the input is a convolution over a grid that is mostly zeros. Added up from one
  product for each cell of the window it takes a fifth to a half of the time.
- XLA hands convolutions of more than 16 channels to YNNPACK, unless the result is larger than the input, and
  Eigen, which then takes them, needs half of the time with up to 64 channels and images up to 64x64. A row
  more than is asked for makes it larger. Not so with more channels or larger images: alone no form is faster,
  and VGG19's inference took 1.6 times as long.
- XLA takes the kernel's gradient as a convolution that has the examples where the channels stood, which turns
  both operands around and has a window as large as the image. Taken as a product of the patches that the
  windows see with the gradient of the result, a few images at a time so that the patches stay in the cache,
  it takes a fifth to a half of the time. All patches at once are written to memory: no faster than XLA.
  Without strides patches of one row of the window serve all rows, and a fifth is saved again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jlayers.core.shapes import wide_dtype
from jlayers.ops.depthwise import depthwise_conv
from jlayers.ops.platform import by_platform
from jlayers.ops.product import product_flat
from jlayers.ops.windows import Padding, Pads, cells, padded, pads_of, sum_over_batch

__all__ = [
    "MOST_PATCHES",
    "conv",
    "conv_cells",
    "conv_fast",
    "conv_lax",
    "conv_product",
    "conv_wider",
    "kernel_gradient",
    "layouts",
]

# Each group is a convolution of its own in the program: beyond so many, compiling takes too long.
_MOST_GROUPS = 64

# The window's cells are written into the program one by one: beyond so many, likewise.
_MOST_CELLS = 128

# How many numbers the patches of one product may hold: 4 MB. From half to twice as many cost the same.
_PATCHES = 2**20

# With more channels, or more cells of an image, a row more makes nothing faster.
_MOST_CHANNELS = 64
_MOST_PIXELS = 64 * 64

# With more in a single image XLA's gradient is taken, which writes no patches to memory.
MOST_PATCHES = 2**21


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
) -> jax.Array:
    """`(batch, *spatial, channels)` to `(batch, *new, filters)`.

    The kernel is `(*window, channels // groups, filters)`; `padding` is a word or a pair for each axis.
    """
    strides, dilation = tuple(strides), tuple(dilation)
    *window, inputs, filters = kernel.shape
    if groups > 1 and inputs == 1:
        rows = kernel.reshape(*window, groups, filters // groups)
        return depthwise_conv(x, rows, strides, padding, dilation)
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    if not known or groups > _MOST_GROUPS or math.prod(window) > _MOST_CELLS:
        return conv_lax(x, kernel, **options, groups=groups)
    pads = options["padding"] = pads_of(x.shape[1:-1], window, **options)
    if groups == max(*window, *strides) == 1 and not any(map(any, pads)):
        fast: Callable[..., Any] = conv_product
    else:
        fast = functools.partial(conv_fast, groups=groups, **options)
    plain = functools.partial(conv_lax, groups=groups, **options)
    return by_platform(fast, plain, x, kernel)


def conv_lax(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
) -> jax.Array:
    """`conv` by `lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=layouts(x.ndim - 2),
        feature_group_count=groups,
    )


def conv_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv` of a window of one cell without strides and padding."""
    return product_flat(x, kernel.reshape(kernel.shape[-2:]))


def conv_cells(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pads, dilation: Sequence[int]
) -> jax.Array:
    """`conv` as a sum over the cells of the window, each a product of a slice of `x` with a matrix."""
    window = kernel.shape[:-2]
    seen = zip(np.ndindex(*window), cells(padded(x, padding), window, strides, dilation), strict=True)
    return functools.reduce(jnp.add, (part @ kernel[cell] for cell, part in seen))


def conv_wider(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pads, dilation: Sequence[int]
) -> jax.Array:
    """`conv_lax`, with rows below that are cut off again where XLA then takes a faster library."""
    extra = _extra_rows(x, kernel, strides, padding, dilation)
    if not extra:
        return conv_lax(x, kernel, strides, padding, dilation)
    (low, high), *others = padding
    return conv_lax(x, kernel, strides, ((low, high + extra), *others), dilation)[:, :-extra]


def _extra_rows(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pads, dilation: Sequence[int]
) -> int:
    """The number of rows that make the result larger than `x`, if that helps and costs at most an eighth."""
    to_ynnpack = x.ndim == 4 and x.dtype == jnp.float32 and max(kernel.shape[-2:]) > 16
    if not to_ynnpack or max(strides) > 1 or min(kernel.shape[-2:]) < 16:
        return 0
    if max(kernel.shape[-2:]) > _MOST_CHANNELS or math.prod(x.shape[1:-1]) > _MOST_PIXELS:
        return 0
    rows = x.shape[1] + sum(padding[0]) - (kernel.shape[0] - 1) * dilation[0]
    extra = max(0, x.shape[1] + 1 - rows)
    return extra if extra * 8 <= rows else 0


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def conv_fast(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int,
) -> jax.Array:
    """`conv` with gradients written for CPUs: as transposes of the tangents below."""
    form = conv_wider if math.prod(kernel.shape[:-2]) > 1 else conv_cells
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    return _by_group(functools.partial(form, **options), x, kernel, groups)


@conv_fast.defjvp
def _conv_fast_jvp(
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int,
    primals: Any,
    tangents: Any,
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = conv_fast(x, kernel, strides, padding, dilation, groups)

    # The tangents are written as transposes: their own transposes are the gradients as they stand below.
    def of_x(dx: jax.Array, kernel: jax.Array) -> jax.Array:
        if max(strides) > 1:
            return conv_cells(dx, kernel, strides, padding, dilation)
        gradient = functools.partial(_gradient, kernel, padding, dilation)
        like = jax.ShapeDtypeStruct((*y.shape[:-1], kernel.shape[-1]), y.dtype)
        return jax.linear_transpose(gradient, like)(dx)[0]

    tangent = _by_group(of_x, dx, kernel, groups)
    if math.prod(y.shape[1:-1]) * math.prod(kernel.shape[:-1]) * groups > MOST_PATCHES:
        form = functools.partial(conv_lax, strides=strides, padding=padding, dilation=dilation)
        return y, tangent + _by_group(form, x, dkernel, groups)

    def for_kernel(dy: jax.Array) -> jax.Array:
        return kernel_gradient(x, kernel.shape, strides, padding, dilation, dy, groups)

    (of_kernel,) = jax.linear_transpose(for_kernel, jax.ShapeDtypeStruct(y.shape, y.dtype))(dkernel)
    return y, tangent + of_kernel


def _by_group(form: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """`form` of each group of channels with its part of the kernel."""
    if groups == 1:
        return form(x, kernel)
    parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([form(*part) for part in parts], axis=-1)


def _gradient(kernel: jax.Array, padding: Pads, dilation: tuple[int, ...], dy: jax.Array) -> jax.Array:
    """The gradient for `x`, without strides: `dy` under the kernel turned over."""
    rank = dy.ndim - 2
    reach = [(w - 1) * d for w, d in zip(kernel.shape, dilation, strict=False)]
    pads = tuple((r - low, r - high) for r, (low, high) in zip(reach, padding, strict=True))
    turned = jnp.swapaxes(jnp.flip(kernel, tuple(range(rank))), -2, -1)
    return conv_wider(dy, turned, (1,) * rank, pads, dilation)


def kernel_gradient(
    x: jax.Array,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    dy: jax.Array,
    groups: int = 1,
) -> jax.Array:
    """The gradient of a kernel of the given shape: `dy` times the patches, summed over parts of the batch."""
    *window, inputs, filters = shape
    seen = math.prod(window)
    wide = wide_dtype(x.dtype)
    row = seen // window[0]
    fewer = row * inputs + window[0] * filters < seen * inputs  # numbers written for each place
    if groups == 1 and strides[0] == 1 and row > 1 and fewer:
        return _by_rows(x, shape, strides, padding, dilation, dy)

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        patches = jnp.concatenate(list(cells(padded(x, padding), window, strides, dilation)), axis=-1)
        if groups == 1:
            rows = dy.reshape(-1, filters).T, patches.reshape(-1, seen * inputs)
            return jnp.matmul(*rows, preferred_element_type=wide)
        rows = dy.reshape(-1, groups, filters // groups), patches.reshape(-1, seen, groups, inputs)
        every = jnp.einsum("ngf,nkgi->gfki", *rows, preferred_element_type=wide)
        return every.reshape(filters, seen * inputs)

    most = _PATCHES // max(1, math.prod(dy.shape[1:-1]) * seen * inputs * groups)
    return sum_over_batch(product, [x, dy], most).T.reshape(shape).astype(x.dtype)


def _by_rows(
    x: jax.Array,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    dy: jax.Array,
) -> jax.Array:
    """`kernel_gradient` with patches of a single row of the window: for the other rows `dy` is moved down.

    For 3x3 windows a third of the patches is written. It needs a stride of 1 along the first axis.
    """
    rows, *others, inputs, filters = shape
    seen = math.prod(others)
    wide = wide_dtype(x.dtype)
    (low, _), *sides = padding
    down = [row * dilation[0] - low for row in range(rows)]

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        around = padded(x, ((0, 0), *sides))
        patches = jnp.concatenate(list(cells(around, (1, *others), strides, dilation)), axis=-1)
        patches = patches.reshape(-1, seen * inputs)
        still = ((0, 0),) * len(others)
        moved = (padded(dy, ((d, x.shape[1] - dy.shape[1] - d), *still)) for d in down)
        times = functools.partial(jnp.matmul, preferred_element_type=wide)
        return jnp.stack([times(m.reshape(-1, filters).T, patches) for m in moved])

    # Half as many numbers as there: `dy` and its moved copies need room in the cache, too.
    most = _PATCHES // 2 // max(1, math.prod(x.shape[1:-1]) * (seen * inputs + filters))
    total = sum_over_batch(product, [x, dy], most).reshape(rows, filters, *others, inputs)
    return jnp.moveaxis(total, 1, -1).astype(x.dtype)


def layouts(rank: int) -> tuple[str, str, str]:
    """The channels last, as `dimension_numbers`."""
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"
