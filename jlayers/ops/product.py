"""The product of a kernel with the last axes of an input that has several axes before them.

XLA's CPU compiler takes the kernel's gradient, a sum over several axes that it turns around at the end, to a
routine that needs two to three times as long as that for two matrices. So CPUs see two matrices.
"""

from __future__ import annotations

import functools
import math

import jax
from jax import lax

from jlayers.ops.platform import by_platform

__all__ = ["product", "product_flat", "product_plain"]


def product(x: jax.Array, kernel: jax.Array, axes: int = 1) -> jax.Array:
    """The sum of products over the last `axes` of `x` and the first of `kernel`."""
    flat, plain = (functools.partial(form, axes=axes) for form in (product_flat, product_plain))
    return plain(x, kernel) if x.ndim < axes + 2 else by_platform(flat, plain, x, kernel)


def product_plain(x: jax.Array, kernel: jax.Array, axes: int = 1) -> jax.Array:
    """`product` as one contraction."""
    summed = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    return lax.dot_general(x, kernel, (summed, ((), ())))


def product_flat(x: jax.Array, kernel: jax.Array, axes: int = 1) -> jax.Array:
    """`product` of two matrices."""
    rows, units = x.shape[: x.ndim - axes], kernel.shape[axes:]
    summed = math.prod(kernel.shape[:axes])
    y = x.reshape(math.prod(rows), summed) @ kernel.reshape(summed, math.prod(units))
    return y.reshape(*rows, *units)
