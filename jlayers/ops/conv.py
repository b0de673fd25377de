"""Convolution over the channels last. On CPUs three cases have forms of their own.

- A window of one cell is a matrix product, and its gradients are; XLA's convolution takes twice as long.
- Of a single channel each cell of the window is one multiple of the image, as in depthwise convolution.
- The kernel's gradient is a convolution that has the examples where channels stood. XLA turns its operands
  around inside the loop that computes them again, all the layers up to the last stored array; in a residual
  network this took a quarter of the training step. Turned around in a call of their own, they are computed once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jlayers.ops.depthwise import depthwise_conv_shifted

__all__ = ["conv", "conv_lax", "conv_product", "conv_turned"]

Padding = Literal["valid", "same"] | tuple[tuple[int, int], ...]


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
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    options: dict[str, Any] = {"strides": tuple(strides), "dilation": tuple(dilation)}
    if groups > 1 or not known:
        return conv_lax(x, kernel, padding=padding, groups=groups, **options)
    pads = _pads(x, kernel, padding, **options)
    if all(size == 1 for size in kernel.shape[:-2]) and not any(map(any, pads)):
        fast: Callable[..., Any] = functools.partial(conv_product, strides=options["strides"])
    elif kernel.shape[-2] == 1:
        fast = functools.partial(depthwise_conv_shifted, padding=pads, **options)
    else:
        fast = functools.partial(conv_turned, padding=pads, **options)
    plain = functools.partial(conv_lax, padding=pads, **options)
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
    axes = "DHW"[-(x.ndim - 2) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )


def conv_product(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
    """`conv` of a window of one cell without padding: a product with the cells that the strides hit."""
    seen = x[(slice(None), *(slice(None, None, step) for step in strides))]
    return seen @ kernel.reshape(kernel.shape[-2:])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def conv_turned(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> jax.Array:
    """`conv` whose gradient for the kernel turns `x` and the output's gradient around only once."""
    return conv_lax(x, kernel, strides, padding, dilation)


@conv_turned.defjvp
def _conv_turned_jvp(
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    primals: Any,
    tangents: Any,
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = conv_turned(x, kernel, strides, padding, dilation)
    axes = "DHW"[-(x.ndim - 2) :]
    window = kernel.shape[:-2]
    # The last cells that a window reaches, so that the gradient has the kernel's size.
    reach = [(n - 1) * s + (w - 1) * d + 1 for n, s, w, d in zip(y.shape[1:-1], strides, window, dilation, strict=True)]
    pads = [(low, r - n - low) for (low, _), r, n in zip(padding, reach, x.shape[1:-1], strict=True)]

    def kernel_gradient(turned: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            _turned(x, (-1, *range(1, x.ndim - 1), 0)),
            turned,
            dilation,
            pads,
            rhs_dilation=strides,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )

    # Written as a transpose, whose own transpose is the gradient just as it stands above.
    like = jax.ShapeDtypeStruct((*y.shape[1:-1], y.shape[0], y.shape[-1]), y.dtype)
    (turned,) = jax.linear_transpose(kernel_gradient, like)(jnp.moveaxis(dkernel, -2, 0))
    of_kernel = _turned(turned, (-2, *range(y.ndim - 2), -1))
    return y, conv_lax(dx, kernel, strides, padding, dilation) + of_kernel


def _turned(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """`x` with its axes in another order, stored: XLA would fuse what computes `x` into the turning."""
    with set_xla_metadata(inlineable="false"):
        return jax.jit(jnp.transpose, static_argnums=1)(x, tuple(axes))


def _pads(
    x: jax.Array, kernel: jax.Array, padding: Padding, strides: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    if not isinstance(padding, str):
        return tuple(padding)
    extent = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:-2], dilation, strict=True)]
    return tuple(lax.padtype_to_pads(x.shape[1:-1], extent, strides, padding.upper()))
