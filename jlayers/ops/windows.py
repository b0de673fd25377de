"""Windows over arrays with the channels last: what their cells see, and the way back from windows to the array.

Written as a transpose of strided slices, the way back is a sum over grids that are mostly holes, which XLA's
CPU compiler turns into divisions at every element. Here the array is cut into blocks as large as the strides
instead. A block lies in as many windows as strides fit into one, its cells in each at a fixed place, so that all
of the array comes out of one loop over whole slices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Pads", "by_block", "cells", "pads_of", "sum_over_windows"]

Pads = tuple[tuple[int, int], ...]


def pads_of(
    sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: str | Pads, dilation: Any = None
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
    dilation = dilation or (1,) * len(window)
    edges = [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)]
    padded = lax.pad(x, jnp.asarray(fill, x.dtype), edges)
    sides = list(zip(padded.shape[1:-1], window, strides, dilation, strict=True))
    ends = [size - (w - 1) * d for size, w, _, d in sides]  # beyond the last place of the first cell
    for cell in np.ndindex(*window):
        starts = [c * d for c, d in zip(cell, dilation, strict=True)]
        steps = [slice(i, i + end, step) for i, end, step in zip(starts, ends, strides, strict=True)]
        yield padded[(slice(None), *steps)]


def by_block(of_cells: np.ndarray | jax.Array, strides: Sequence[int], outside: Any) -> Any:
    """`(*window, ...)` as `(reach, stride, reach, stride, ..., ...)`: see `sum_over_windows`."""
    window = of_cells.shape[: len(strides)]
    reach = [-(-w // s) for w, s in zip(window, strides, strict=True)]
    more = [(0, q * s - w) for q, s, w in zip(reach, strides, window, strict=True)]
    xp: Any = np if isinstance(of_cells, np.ndarray) else jnp
    rest = of_cells.shape[len(strides) :]
    whole = xp.pad(of_cells, [*more, *((0, 0) for _ in rest)], constant_values=outside)
    return whole.reshape(*(n for side in zip(reach, strides, strict=True) for n in side), *rest)


def sum_over_windows(
    term: Callable[..., jax.Array],
    of_windows: Sequence[jax.Array],
    of_cells: Any,
    sizes: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
) -> jax.Array:
    """For each place of an array of `sizes`, the sum of `term` over the cells and windows that see it.

    Args:
        term: `term(cell, *windows)`, of an element of `of_cells` and elements of each of `of_windows`. Must be
            linear in the windows, or 0 where they are 0: so they are padded.
        of_windows: arrays `(batch, *places, channels)`.
        of_cells: from `by_block`, `(reach, stride, reach, stride, ..., channels)`.
    """
    rank = len(sizes)
    reach = of_cells.shape[: 2 * rank : 2]
    places = of_windows[0].shape[1:-1]
    inner = tuple(range(2, 2 * rank + 1, 2))
    outer = tuple(range(1, 2 * rank, 2))
    terms = []
    for shift in np.ndindex(*reach):
        edges = [(0, 0, 0), *((k, q - 1 - k, 0) for k, q in zip(shift, reach, strict=True)), (0, 0, 0)]
        moved = [jnp.expand_dims(lax.pad(a, jnp.zeros((), a.dtype), edges), inner) for a in of_windows]
        cell = of_cells[tuple(i for k in shift for i in (k, slice(None)))]
        terms.append(term(jnp.expand_dims(cell, (0, *(a for a in outer))), *moved))
    total = functools.reduce(jnp.add, terms)
    whole = [(o + q - 1) * s for o, q, s in zip(places, reach, strides, strict=True)]
    total = total.reshape(total.shape[0], *whole, total.shape[-1])
    cut = [(-low, size + low - all_, 0) for (low, _), size, all_ in zip(pads, sizes, whole, strict=True)]
    return lax.pad(total, jnp.zeros((), total.dtype), [(0, 0, 0), *cut, (0, 0, 0)])
