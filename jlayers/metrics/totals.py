"""Sums that do not stop: a float32 sum stays at 2**24 when ones are added to it.

A total has two parts in front, `(2, ...)`: a float32 sum, and what its rounding has left out (Knuth's
two-sum), together about 48 bits. A batch is summed in parts that are small enough to be exact for whole
numbers. Each part is split into a multiple of 1024 and the rest, so that the sums of both are exact, too.
Counts are exact to 2**31 and beyond, and sums of weights lose no digits to the number of samples.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

__all__ = ["Total", "add", "add_at", "add_sum", "value_of", "zero"]

Total = Float[Array, "2 ..."]

_PART = 1024  # entries that are summed as they are


def zero(shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Total:
    """A total of nothing."""
    return jnp.zeros((2, *shape), dtype)


def value_of(total: Total) -> Float[Array, ...]:
    """The total as one number each."""
    return total[0]


def add(total: Total, amount: Float[Array, ...]) -> Total:
    """The total plus an amount.

    >>> total = zero()
    >>> for amount in (2**24, 1, -(2**24)):  # a plain sum gives 0
    ...     total = add(total, jnp.float32(amount))
    >>> float(value_of(total))
    1.0
    """
    a, b = total[0], amount.astype(total.dtype)
    s = a + b
    part = s - a
    rest = (a - (s - part)) + (b - part) + total[1]
    rest = jnp.where(jnp.isfinite(s), rest, 0.0)
    both = s + rest
    return jnp.stack([both, rest - (both - s)])


def add_sum(total: Total, values: Float[Array, ...], axes: int | None = None) -> Total:
    """The total with the sum of `values` over their first `axes` axes more; over all if not given."""
    axes = values.ndim if axes is None else axes
    count, rest = math.prod(values.shape[:axes]), values.shape[axes:]
    parts = max(1, -(-count // _PART))
    flat = _padded(values.reshape(count, *rest), parts)
    return _add_parts(total, flat.reshape(flat.shape[0] // parts, parts, *rest).sum(0))


def add_at(total: Total, places: Integer[Array, " entries"], weights: Float[Array, " entries"]) -> Total:
    """The total, of shape `(2, cells)`, with each weight added to the cell of its place.

    The more entries there are for each cell, the more parts they are counted in, so that no part takes more
    memory than the entries do.
    """
    count, cells = places.shape[0], total.shape[1]
    parts = max(1, min(-(-count // _PART), count // max(cells, 1)))
    places, weights = _padded(places, parts).reshape(-1, parts), _padded(weights, parts).reshape(-1, parts)
    places = places + (cells * jnp.arange(parts, dtype=places.dtype))[None, :]
    counted = jnp.zeros(parts * cells, total.dtype).at[places].add(weights.astype(total.dtype))
    return _add_parts(total, counted.reshape(parts, cells))


def _padded(values: Any, parts: int) -> Any:
    """The values with zeros behind them, to a multiple of `parts`."""
    missing = -values.shape[0] % parts
    return jnp.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1)) if missing else values


def _add_parts(total: Total, parts: Float[Array, "parts ..."]) -> Total:
    """The total with the sum over the first axis more."""
    if parts.shape[0] == 1:
        return add(total, parts[0])
    high = jnp.round(parts / _PART) * _PART
    return add(add(total, high.sum(0)), (parts - high).sum(0))
