"""Windows over arrays with the channels last: what their cells see.

The transpose of a strided slice is a grid that is mostly holes, which XLA's CPU compiler fills with a
division and a branch for every element. So `cells` combs the array first, into one for each remainder of a
position by the stride, and takes slices without holes of these. Then the gradient has as many grids with
holes as a stride has cells, not as many as the window has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Padding", "Pads", "cells", "padded", "pads_of", "sum_over_batch"]

Pads = tuple[tuple[int, int], ...]
Padding = str | Pads


def pads_of(
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int] | None = None,
) -> Pads:
    """The padding before and after each axis, given by a word or as it is."""
    if not isinstance(padding, str):
        return padding
    steps = dilation or (1,) * len(window)
    extent = [(size - 1) * step + 1 for size, step in zip(window, steps, strict=True)]
    return tuple(lax.padtype_to_pads(sizes, extent, strides, padding.upper()))


def padded(x: jax.Array, pads: Pads, fill: Any = 0) -> jax.Array:
    """`x` with so many cells of `fill` around its spatial axes, or without some if negative."""
    edges = [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(fill, x.dtype), edges)


def cells(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int] | None = None
) -> list[jax.Array]:
    """For each cell of the window, in order, what it sees at all places of the window."""
    steps = dilation or (1,) * len(window)
    sides = list(zip(x.shape[1:-1], window, strides, steps, strict=True))
    places = [(size - (w - 1) * d - 1) // s + 1 for size, w, s, d in sides]
    combed: dict[tuple[int, ...], jax.Array] = {}
    seen = []
    for cell in np.ndindex(*window):
        starts = [divmod(c * d, s) for c, d, s in zip(cell, steps, strides, strict=True)]
        teeth = tuple(rest for _, rest in starts)
        if teeth not in combed:
            every = (slice(rest, None, step) for rest, step in zip(teeth, strides, strict=True))
            combed[teeth] = x[(slice(None), *every)]
        here = (slice(i, i + n) for (i, _), n in zip(starts, places, strict=True))
        seen.append(combed[teeth][(slice(None), *here)])
    return seen


def sum_over_batch(term: Callable[..., jax.Array], arrays: Sequence[jax.Array], most: int) -> jax.Array:
    """`term` of parts of the batch, added up: as many examples at a time as divide the batch, at most `most`.

    What `term` makes on the way then stays in the cache. It may be ten times what it is made of: of an eighth
    of a large batch, that is about as much as the whole batch. There are two parts at least: in a loop XLA
    computes again what it would otherwise share with the forward pass and keep until then.
    """
    batch = arrays[0].shape[0]
    if not isinstance(batch, int) or batch < 2:
        return term(*arrays)
    most = max(1, min(most, batch // 2, max(8, batch // 8)))
    together = next(n for n in range(most, 0, -1) if batch % n == 0)

    # Parts are cut out inside the loop: of an array that two loops take in parts of different sizes, XLA
    # would keep a copy in each shape.
    @functools.partial(jax.checkpoint, prevent_cse=False)  # else differentiation keeps what `term` makes
    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        return total + term(*(lax.dynamic_slice_in_dim(a, first, together) for a in arrays)), None

    start = jax.eval_shape(term, *(a[:together] for a in arrays))
    return lax.scan(add, jnp.zeros(start.shape, start.dtype), jnp.arange(0, batch, together))[0]
