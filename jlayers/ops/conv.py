"""Convolution over the channels last. On CPUs four cases have forms of their own.

- A window of one cell is a matrix product, and so are its gradients: XLA's convolution takes twice as long.
- XLA runs the gradients of grouped convolutions as dense ones with a mask: 6 times as long for 2 groups, 80
  times for 32. Split into one convolution per group they cost what their arithmetic costs.
- With strides the gradient for the input is a convolution over a grid that is mostly zeros. Added up from one
  product for each cell of the window it takes a fifth to a half of the time.
- XLA takes the kernel's gradient as a convolution that has the examples where the channels stood, which turns
  both operands around and has a window as large as the image. Taken as a product of the patches that the
  windows see with the gradient of the result, a few images at a time so that the patches stay in the cache,
  it takes a fifth to a half of the time. All patches at once are written to memory: no faster than XLA.
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

from jlayers.ops.depthwise import depthwise_conv
from jlayers.ops.windows import Padding, Pads, cells, padded, pads_of, sum_over_batch
from jlayers.shapes import wide_dtype

__all__ = ["conv", "conv_cells", "conv_fast", "conv_lax", "conv_product", "conv_split"]

# Each group is a convolution of its own in the program: beyond so many, compiling takes too long.
_MOST_GROUPS = 64

# How many numbers the patches of one product may hold: 4 MB. From half to twice as many cost the same.
_PATCHES = 2**20

# With more in a single image XLA's gradient is taken, which writes no patches to memory.
_MOST_PATCHES = 2**21


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
    if not known or groups > _MOST_GROUPS:
        return conv_lax(x, kernel, **options, groups=groups)
    pads = options["padding"] = pads_of(x.shape[1:-1], window, **options)
    if groups > 1:
        fast: Callable[..., Any] = functools.partial(conv_split, groups=groups, **options)
    elif all(size == 1 for size in window) and not any(map(any, pads)):
        fast = functools.partial(conv_product, strides=strides)
    else:
        fast = functools.partial(conv_fast, **options)
    plain = functools.partial(conv_lax, groups=groups, **options)
    return lax.platform_dependent(x, kernel, cpu=fast, default=plain)


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
        dimension_numbers=_layouts(x.ndim - 2),
        feature_group_count=groups,
    )


def conv_product(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
    """`conv` of a window of one cell without padding: a product with the cells that the strides hit."""
    hit = x[(slice(None), *(slice(None, None, step) for step in strides))]
    return hit @ kernel.reshape(kernel.shape[-2:])


def conv_split(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int,
) -> jax.Array:
    """`conv` with groups, each by itself."""
    parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([conv_fast(*part, strides, padding, dilation) for part in parts], axis=-1)


def conv_cells(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pads, dilation: Sequence[int]
) -> jax.Array:
    """`conv` as a sum over the cells of the window, each a product of a slice of `x` with a matrix."""
    window = kernel.shape[:-2]
    seen = zip(np.ndindex(*window), cells(padded(x, padding), window, strides, dilation), strict=True)
    return functools.reduce(jnp.add, (part @ kernel[cell] for cell, part in seen))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def conv_fast(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    """`conv` whose gradients are written for CPUs: as transposes of the tangents below."""
    return conv_lax(x, kernel, strides, padding, dilation)


@conv_fast.defjvp
def _conv_fast_jvp(
    strides: tuple[int, ...], padding: Pads, dilation: tuple[int, ...], primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = conv_fast(x, kernel, strides, padding, dilation)
    tangent = conv_cells if max(strides) > 1 else conv_lax
    of_x = tangent(dx, kernel, strides, padding, dilation)
    if math.prod(y.shape[1:-1]) * math.prod(kernel.shape[:-1]) > _MOST_PATCHES:
        return y, of_x + conv_lax(x, dkernel, strides, padding, dilation)
    # The tangent is written as a transpose, so that its own transpose is the gradient as it stands below.
    gradient = functools.partial(_kernel_gradient, x, kernel.shape, strides, padding, dilation)
    (of_kernel,) = jax.linear_transpose(gradient, jax.ShapeDtypeStruct(y.shape, y.dtype))(dkernel)
    return y, of_x + of_kernel


def _kernel_gradient(
    x: jax.Array,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    dy: jax.Array,
) -> jax.Array:
    """The gradient for a kernel of that shape: `dy` times the patches, summed over parts of the batch."""
    *window, inputs, filters = shape
    patch = math.prod(window) * inputs

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        patches = jnp.concatenate(list(cells(padded(x, padding), window, strides, dilation)), axis=-1)
        rows = dy.reshape(-1, filters).T, patches.reshape(-1, patch)
        return jnp.matmul(*rows, preferred_element_type=wide_dtype(x.dtype))

    most = _PATCHES // max(1, math.prod(dy.shape[1:-1]) * patch)
    return sum_over_batch(product, [x, dy], most).T.reshape(shape).astype(x.dtype)


def _layouts(rank: int) -> tuple[str, str, str]:
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"
