"""The inputs that all attention layers take: `query[, value[, key[, mask]]]`, and what they must hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jlayers.shapes import describe

__all__ = ["attention_inputs", "checked_mask"]

_NAMES = ("query", "value", "key", "mask")


def attention_inputs(layer: str, inputs: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Query, value, key and mask: the value is the query and the key is the value where there is none."""
    if not 1 <= len(inputs) <= 4 or inputs[0] is None:
        raise TypeError(
            f"{layer} takes 1 to 4 inputs, {', '.join(_NAMES)}, received {len(inputs)}: "
            f"{describe(inputs) or 'none'}"
        )
    query, value, key, mask = (*inputs, *(None,) * (4 - len(inputs)))
    value = query if value is None else value
    return query, value, value if key is None else key, mask


def checked_mask(layer: str, mask: Any, query: Any, value: Any, heads: int | None = None) -> Any:
    """The mask as `(batch, target, source)`, with an axis of heads after the batch if there are `heads`."""
    if mask is None:
        return None
    if mask.dtype != jnp.bool_:
        raise TypeError(
            f"{layer}: expected a boolean mask, True where to attend, received {describe(mask)}; "
            f"write mask.astype(bool) if 1 means to attend, mask == 0 if it was made to be added"
        )
    shape = (query.shape[0], query.shape[1], value.shape[1])
    full = mask
    if heads is not None:
        full = mask[:, None] if mask.ndim == 3 else mask
        shape = (shape[0], heads, *shape[1:])
    if full.ndim != len(shape) or any(m not in (1, s) for m, s in zip(full.shape, shape, strict=True)):
        kinds = "(batch, target, source)" + (
            " or (batch, heads, target, source)" if heads is not None else ""
        )
        raise ValueError(
            f"{layer}: expected a mask {kinds} for {describe((query, value))}, each axis of it as long or 1, "
            f"received {describe(mask)}; of padding (batch, source) take mask[:, None, :], "
            f"of (target, source) take mask[None]"
        )
    return full
