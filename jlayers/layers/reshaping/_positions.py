"""A layer without parameters that changes the positions of its input."""

from __future__ import annotations

from typing import Any

import jax

from jlayers.core.masks import Masked, refusal
from jlayers.layers._arguments import (
    channels_at_edge,
    need_rank,
    per_axis,
    refused_argument,
    spatial_shape,
)

__all__ = ["change_positions", "checked_sides"]


def change_positions(
    rank: int, data_format: str | None, compute: Any, check: Any = None, mixes: bool = False
) -> Any:
    """The pair of a layer without parameters that changes the positions of channels-last data.

    A mask of all positions goes the way of the data, unless `mixes` says that these are not just moved.
    """
    last, first = channels_at_edge(data_format)

    def checked(x: Any) -> Any:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))
        if check:
            check(x)
        return x

    def init(key: Any, x: Any) -> dict[str, Any]:
        checked(x)
        return {}

    def apply(params: Any, x: jax.Array, *, mask: Any) -> Any:
        y = first(compute(last(checked(x))))
        if mask is None:
            return y
        if mixes or mask.ndim != rank + 1 or data_format == "channels_first":
            raise refusal(Masked(x, mask))
        return Masked(y, compute(mask[..., None])[..., 0])

    return init, apply


def checked_sides(name: str, value: Any, rank: int) -> list[tuple[int, int]]:
    """Whole numbers before and after each axis, from one for all, one per axis, or pairs."""
    each = value if isinstance(value, (tuple, list)) else (value,) * rank
    if rank == 1 and len(each) == 2:
        each = (each,)  # (before, after) of the only axis
    if len(each) != rank:
        raise refused_argument(name, value, f"as one whole number or {rank} entries")
    pairs = [per_axis(name, entry, 2, least=0) for entry in each]
    return [(before, after) for before, after in pairs]
