"""The inputs that all attention layers take: `query[, value[, key[, mask]]]`, and what they must hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.masks import intersection, is_masked, mask_of, refusal, values_of
from jlayers.core.shapes import describe

__all__ = ["attention_inputs", "checked_mask", "padding"]

_NAMES = ("query", "value", "key", "mask")


def attention_inputs(inputs: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Query, value, key and mask: the value is the query and the key is the value where there is none."""
    if not 1 <= len(inputs) <= 4 or inputs[0] is None:
        received = f"{len(inputs)}: {describe(inputs) or 'none'}"
        raise refused(TypeError, f"expected 1 to 4 inputs, {', '.join(_NAMES)}, received {received}")
    query, value, key, mask = (*inputs, *(None,) * (4 - len(inputs)))
    value = query if value is None else value
    return query, value, value if key is None else key, mask


def padding(inputs: Sequence[Any]) -> tuple[list[Any], Any, Any]:
    """Plain inputs, the mask of the query, and who may attend to whom by the masks of all, or None.

    The last is `(batch, target, source)`, each axis as long or 1.
    """
    if len(inputs) == 4 and is_masked(inputs[3]):
        raise refusal(inputs[3], "as a mask that has a mask itself")
    query, value, key, _ = attention_inputs(inputs)
    for x in filter(is_masked, (query, value, key)):
        if x.mask.ndim != 2:
            raise refusal(x, "but takes only masks (batch, length)")
    target, source = mask_of(query), intersection(mask_of(value), mask_of(key))
    rows = None if target is None else target[:, :, None]
    columns = None if source is None else source[:, None, :]
    return [values_of(x) for x in inputs], target, intersection(rows, columns)


def checked_mask(mask: Any, query: Any, value: Any, heads: int | None = None) -> Any:
    """The mask as `(batch, target, source)`, with an axis of heads after the batch if there are `heads`."""
    if mask is None:
        return None
    if mask.dtype != jnp.bool_:
        raise refused(
            TypeError,
            "expected a boolean mask, True where to attend",
            mask,
            instead="write mask.astype(bool) if 1 means to attend, mask == 0 if it was made to be added",
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
        raise refused(
            ValueError,
            f"expected a mask {kinds} for {describe((query, value))}, each axis of it as long or 1",
            mask,
            instead="of padding (batch, source) take mask[:, None, :], of (target, source) take mask[None]",
        )
    return full
