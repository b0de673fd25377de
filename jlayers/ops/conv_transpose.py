"""Transposed convolution over the channels last: the gradient of a convolution for its input, as a function.

On CPUs XLA takes the kernel's gradient with a window as large as the image over a grid that is mostly zeros:
ten times as long as all the rest. It is the kernel's gradient of the convolution that is transposed, data and
result in each other's place, and is taken as there, from patches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from jlayers.ops.conv import MOST_PATCHES, kernel_gradient, layouts
from jlayers.ops.platform import by_platform
from jlayers.ops.windows import Pads

__all__ = ["conv_transpose", "conv_transpose_lax"]


def conv_transpose(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], pads: Sequence[Any], dilation: Sequence[int]
) -> jax.Array:
    """`(batch, *spatial, channels)` to `(batch, *new, filters)`.

    The kernel is `(*window, filters, channels)`; `pads` are zeros around `x` spread out by the strides.
    """
    options: dict[str, Any] = {
        "strides": tuple(strides),
        "pads": tuple(map(tuple, pads)),
        "dilation": tuple(dilation),
    }
    plain = functools.partial(conv_transpose_lax, **options)
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    if not known or math.prod(x.shape[1:-1]) * math.prod(kernel.shape[:-1]) > MOST_PATCHES:
        return plain(x, kernel)
    fast = functools.partial(_conv_transpose, **options)
    return by_platform(fast, plain, x, kernel)


def conv_transpose_lax(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], pads: Pads, dilation: Sequence[int]
) -> jax.Array:
    """`conv_transpose` by `lax.conv_transpose`."""
    return lax.conv_transpose(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=layouts(x.ndim - 2),
        transpose_kernel=True,
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _conv_transpose(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    return conv_transpose_lax(x, kernel, strides, pads, dilation)


@_conv_transpose.defjvp
def _conv_transpose_jvp(
    strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...], primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _conv_transpose(x, kernel, strides, pads, dilation)
    reach = [(w - 1) * d for w, d in zip(kernel.shape, dilation, strict=False)]
    before = tuple((r - low, r - high) for r, (low, high) in zip(reach, pads, strict=True))

    # The tangent is written as a transpose: its own transpose is the gradient as it stands here.
    def gradient(dy: jax.Array) -> jax.Array:
        return kernel_gradient(dy, kernel.shape, strides, before, dilation, x)

    (of_kernel,) = jax.linear_transpose(gradient, jax.ShapeDtypeStruct(y.shape, y.dtype))(dkernel)
    return y, conv_transpose_lax(dx, kernel, strides, pads, dilation) + of_kernel
