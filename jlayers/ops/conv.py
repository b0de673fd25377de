"""Convolution over the channels last. On CPUs four cases have forms of their own.

- A window of one cell is a matrix product, and so are its gradients: XLA's convolution takes twice as long.
- XLA runs the gradients of grouped convolutions as dense ones with a mask: 6 times as long for 2 groups, 80
  times for 32. Split into one convolution per group they cost what their arithmetic costs.
- With strides the gradient for the input is a convolution over a grid that is mostly zeros. Added up from one
  product for each cell of the window it takes a fifth to a half of the time.
- The kernel's gradient is a convolution that has the examples where the channels stood. XLA turns its
  operands around in the loop that computes them once more, with all the layers back to the last stored array:
  a quarter of the training step of a residual network. Turned around in a call of their own they are stored.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jlayers.ops.depthwise import depthwise_conv

__all__ = ["conv", "conv_cells", "conv_lax", "conv_product", "conv_split", "conv_turned"]

Pads = tuple[tuple[int, int], ...]
Padding = Literal["valid", "same"] | Pads

# Each group is a convolution of its own in the program: beyond so many, compiling takes too long.
_MOST_GROUPS = 64


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
        cells = kernel.reshape(*window, groups, filters // groups)
        return depthwise_conv(x, cells, strides, padding, dilation)
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    if not known or groups > _MOST_GROUPS:
        return conv_lax(x, kernel, **options, groups=groups)
    pads = options["padding"] = _pads(x.shape[1:-1], window, **options)
    if groups > 1:
        fast: Callable[..., Any] = functools.partial(conv_split, groups=groups, **options)
    elif all(size == 1 for size in window) and not any(map(any, pads)):
        fast = functools.partial(conv_product, strides=strides)
    else:
        fast = functools.partial(conv_turned, **options)
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
    return jnp.concatenate([conv_turned(*part, strides, padding, dilation) for part in parts], axis=-1)


def conv_cells(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pads, dilation: Sequence[int]
) -> jax.Array:
    """`conv` as a sum over the cells of the window, each a product of a slice of `x` with a matrix."""
    zero = jnp.zeros((), x.dtype)
    padded = lax.pad(x, zero, [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)])
    window = kernel.shape[:-2]
    sides = list(zip(padded.shape[1:-1], window, strides, dilation, strict=True))
    ends = [size - (w - 1) * d for size, w, _, d in sides]  # beyond the last place of the first cell
    total: Any = None
    for cell in itertools.product(*map(range, window)):
        starts = [c * d for c, d in zip(cell, dilation, strict=True)]
        seen = [slice(i, i + end, step) for i, end, step in zip(starts, ends, strides, strict=True)]
        term = padded[(slice(None), *seen)] @ kernel[cell]
        total = term if total is None else total + term
    return total


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def conv_turned(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    """`conv` whose gradients are written for CPUs: as transposes of the tangents below."""
    return conv_lax(x, kernel, strides, padding, dilation)


@conv_turned.defjvp
def _conv_turned_jvp(
    strides: tuple[int, ...], padding: Pads, dilation: tuple[int, ...], primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = conv_turned(x, kernel, strides, padding, dilation)
    sizes = zip(x.shape[1:-1], y.shape[1:-1], kernel.shape[:-2], strides, padding, dilation, strict=True)
    # What the windows reach of each axis, counted from the first cell of the padding.
    pads = [(low, (n - 1) * s + (w - 1) * d + 1 - size - low) for size, n, w, s, (low, _), d in sizes]

    def kernel_gradient(dy: jax.Array) -> jax.Array:
        turned = _turned(x, (-1, *range(1, x.ndim - 1), 0))
        layouts = _layouts(x.ndim - 2)
        return lax.conv_general_dilated(
            turned, dy, dilation, pads, rhs_dilation=strides, dimension_numbers=layouts
        )

    # The tangent is written as a transpose, so that its own transpose is the gradient as it stands above.
    like = jax.ShapeDtypeStruct((*y.shape[1:-1], y.shape[0], y.shape[-1]), y.dtype)
    (dy,) = jax.linear_transpose(kernel_gradient, like)(jnp.moveaxis(dkernel, -2, 0))
    of_kernel = _turned(dy, (-2, *range(y.ndim - 2), -1))
    tangent = conv_cells if max(strides) > 1 else conv_lax
    return y, tangent(dx, kernel, strides, padding, dilation) + of_kernel


def _turned(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """`x` with its axes in another order, in a call that XLA does not fuse with what comes before."""
    with set_xla_metadata(inlineable="false"):
        return jax.jit(jnp.transpose, static_argnums=1)(x, tuple(axes))


def _layouts(rank: int) -> tuple[str, str, str]:
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _pads(
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
) -> Pads:
    if not isinstance(padding, str):
        return padding
    extent = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
    return tuple(lax.padtype_to_pads(sizes, extent, strides, padding.upper()))
