"""Windows over arrays with the channels last: what their cells see, and gradients for what they saw.

The transpose of strided slices is a sum over grids that are mostly holes, which XLA's CPU compiler turns into
a division and a branch for every element and cell. `sum_over_windows` cuts the array into blocks as large as
the strides instead: a block lies in as many windows as strides fit into one, each of its cells at a fixed
place of each, and the array comes out of one loop over whole slices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Padding", "Pads", "by_block", "cells", "pads_of", "sum_over_batch", "sum_over_windows"]

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


def cells(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
    dilation: Sequence[int] | None = None,
    fill: Any = 0,
) -> Iterator[jax.Array]:
    """For each cell of the window, in order, what it sees at all places of the window."""
    steps = dilation or (1,) * len(window)
    edges = [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)]
    padded = lax.pad(x, jnp.asarray(fill, x.dtype), edges)
    sides = list(zip(padded.shape[1:-1], window, strides, steps, strict=True))
    ends = [size - (w - 1) * d for size, w, _, d in sides]  # beyond the last place of the first cell
    for cell in np.ndindex(*window):
        starts = [c * d for c, d in zip(cell, steps, strict=True)]
        places = [slice(i, i + end, step) for i, end, step in zip(starts, ends, strides, strict=True)]
        yield padded[(slice(None), *places)]


def by_block(of_cells: Any, strides: Sequence[int], outside: Any = 0) -> Any:
    """`(*window, channels)` as `(reach, stride, reach, stride, ..., channels)`, for `sum_over_windows`.

    `reach` is how many blocks a window touches along an axis; cells beyond the window are `outside`.
    """
    window = of_cells.shape[:-1]
    reach = [-(-w // s) for w, s in zip(window, strides, strict=True)]
    more = [(0, q * s - w) for q, s, w in zip(reach, strides, window, strict=True)]
    xp: Any = np if isinstance(of_cells, np.ndarray) else jnp
    whole = xp.pad(of_cells, [*more, (0, 0)], constant_values=outside)
    return whole.reshape(*(n for side in zip(reach, strides, strict=True) for n in side), of_cells.shape[-1])


def sum_over_windows(
    term: Callable[..., jax.Array],
    of_cells: Any,
    of_windows: Sequence[jax.Array],
    sizes: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
) -> jax.Array:
    """For each place of an array of `sizes`, the sum over the windows that see it, through whichever cell.

    Args:
        term: `term(of_cell, *of_window)`, what is summed; 0 where all of the window is.
        of_cells: as `by_block` gives it.
        of_windows: arrays `(batch, *places, channels)`.
        sizes: of the spatial axes of the result.
        strides: of the windows.
        pads: of the array under the windows.
    """
    rank = len(sizes)
    reach = of_cells.shape[: 2 * rank : 2]
    inside, around = tuple(range(2, 2 * rank + 1, 2)), (0, *range(1, 2 * rank, 2))
    terms = []
    for block in np.ndindex(*reach):
        edges = [(0, 0, 0), *((k, q - 1 - k, 0) for k, q in zip(block, reach, strict=True)), (0, 0, 0)]
        moved = [jnp.expand_dims(lax.pad(a, jnp.zeros((), a.dtype), edges), inside) for a in of_windows]
        at = of_cells[tuple(i for k in block for i in (k, slice(None)))]
        terms.append(term(jnp.expand_dims(at, around), *moved))
    blocks = functools.reduce(jnp.add, terms)
    places = of_windows[0].shape[1:-1]
    whole = [(n + q - 1) * s for n, q, s in zip(places, reach, strides, strict=True)]
    cut = [(-low, low + size - n, 0) for (low, _), size, n in zip(pads, sizes, whole, strict=True)]
    result = blocks.reshape(blocks.shape[0], *whole, blocks.shape[-1])
    return lax.pad(result, jnp.zeros((), result.dtype), [(0, 0, 0), *cut, (0, 0, 0)])


def sum_over_batch(term: Callable[..., jax.Array], arrays: Sequence[jax.Array], most: int) -> jax.Array:
    """`term` of parts of the batch, added up: as many examples at a time as divide the batch, at most `most`.

    What `term` makes on the way then stays in the cache. There are two parts at least: in a loop XLA computes
    again what it would otherwise share with the forward pass and keep until then.
    """
    batch = arrays[0].shape[0]
    if not isinstance(batch, int) or batch == 1:
        return term(*arrays)
    together = next(n for n in range(max(1, min(batch // 2, most)), 0, -1) if batch % n == 0)
    parts = [a.reshape(batch // together, together, *a.shape[1:]) for a in arrays]

    @functools.partial(jax.checkpoint, prevent_cse=False)  # else differentiation keeps what `term` makes
    def add(total: jax.Array, part: Sequence[jax.Array]) -> tuple[jax.Array, None]:
        return total + term(*part), None

    start = jax.eval_shape(term, *(a[:together] for a in arrays))
    return lax.scan(add, jnp.zeros(start.shape, start.dtype), parts)[0]
