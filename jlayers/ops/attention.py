"""Scaled dot-product attention over `(batch, length, heads, size)`; a boolean mask is True where to attend.

The softmax runs in float32 or wider, whatever the inputs are. A row of the mask without a True gives zeros:
there is nothing to attend to. (Keras gives the mean of all values, or zeros, by the path that it takes.)

On CPUs a form with the heads in front is faster than `jax.nn.dot_product_attention`, which others take. Where
the weights of all pairs would fill the memory, a few rows are done at a time.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jlayers.core.shapes import wide_dtype
from jlayers.ops.stored import stored

__all__ = [
    "attention_weights",
    "dot_product_attention",
    "dot_product_attention_by_heads",
    "dot_product_attention_by_rows",
    "dot_product_attention_library",
    "dot_product_attention_plain",
    "joint_mask",
    "masked_softmax",
    "positions_mask",
    "weighted_values",
]

# Beyond 256 MiB of float32 weights, 32 MiB of them at a time: on two cores no slower than all at once.
_MOST_WEIGHTS, _WEIGHTS_AT_ONCE = 2**26, 2**23

Queries = Float[Array, "batch target heads size"]
Keys = Float[Array, "batch source kv_heads size"]
Values = Float[Array, "batch source kv_heads value_size"]
Outputs = Float[Array, "batch target heads value_size"]
Weights = Float[Array, "batch heads target source"]
Mask = Bool[Array, "#batch #heads #target #source"]


def dot_product_attention(
    query: Queries,
    key: Keys,
    value: Values,
    mask: Mask | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Outputs:
    """`softmax(query @ key * scale) @ value` for each head (Vaswani et al., 2017).

    Args:
        query: what asks.
        key: what is compared with; its heads divide those of `query`, each serves a group of them.
        value: what is averaged, with as many heads as `key`.
        mask: True where to attend.
        scale: factor of the products; None for `1 / sqrt(size)`.
        causal: attend to no later position than one's own, both counted from the start.
        window: attend to positions less than this far away.
    """
    options: dict[str, Any] = {"scale": scale, "causal": causal, "window": window}
    arrays = (query, key, value) if mask is None else (query, key, value, mask)
    (batch, target, heads, _), source = query.shape, key.shape[1]
    row = [batch, heads, source]
    if all(isinstance(n, int) for n in (target, *row)) and math.prod(row) * target > _MOST_WEIGHTS:
        rows = max(1, _WEIGHTS_AT_ONCE // math.prod(row))
        return dot_product_attention_by_rows(*arrays, rows=rows, **options)
    # The library's softmax is in float32 at all times, and its values are as long as its keys.
    fits = value.shape[-1] == key.shape[-1] and query.dtype in (jnp.float32, jnp.bfloat16)
    if not fits or source == 0:
        return dot_product_attention_plain(*arrays, **options)
    by_heads = functools.partial(dot_product_attention_by_heads, **options)
    library = functools.partial(dot_product_attention_library, **options)
    return lax.platform_dependent(*arrays, cpu=by_heads, default=library)


def dot_product_attention_by_heads(
    query: Queries,
    key: Keys,
    value: Values,
    mask: Mask | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Outputs:
    """`dot_product_attention` with as few loops over all pairs as XLA's CPU compiler can make of it.

    The heads come to the front once, for all products and, on the way back, for all that read a gradient.
    The scale meets the queries and the sum of the softmax the averages: both are smaller than the weights.
    """
    mask = joint_mask(mask, positions_mask(query.shape[1], key.shape[1], causal, window))
    wide = wide_dtype(query.dtype)
    key, value = (_for_each_head(x, query.shape[2]) for x in (key, value))
    query, key, value = map(_swapped, (query, key, value))
    query = query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = jnp.einsum("bnth,bnsh->bnts", query, key, preferred_element_type=wide)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(wide).min)
    weights = jnp.exp(scores - lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    if mask is not None:
        weights = jnp.where(mask, weights, 0)
    sums = jnp.sum(weights, axis=-1, keepdims=True)
    if mask is not None:
        sums = jnp.where(sums == 0, 1, sums)  # of a row without a True
    sums_of_values = jnp.einsum(
        "bnts,bnsh->bnth", weights.astype(value.dtype), value, preferred_element_type=wide
    )
    return _swapped((sums_of_values / sums).astype(value.dtype))


def _swapped(x: Array) -> Array:
    """Length and heads changed about, and written to memory so."""
    return stored(functools.partial(lax.transpose, permutation=(0, 2, 1, 3)), x)


def dot_product_attention_library(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Array:
    """`dot_product_attention` by `jax.nn`, with rows without a True set to 0."""
    restricted = mask is not None or window is not None  # else each row attends to something
    if restricted:
        mask = joint_mask(mask, positions_mask(query.shape[1], key.shape[1], causal, window))
    with jax.numpy_dtype_promotion("standard"):  # it widens half precision without saying so
        output = jax.nn.dot_product_attention(
            query, key, value, mask=mask, scale=scale, is_causal=causal and not restricted
        )
    if mask is None:
        return output
    attends = jnp.swapaxes(jnp.any(mask, axis=3), 1, 2)[..., None]
    return jnp.where(attends, output, jnp.zeros_like(output))


def dot_product_attention_by_rows(
    query: Queries,
    key: Keys,
    value: Values,
    mask: Mask | None = None,
    *,
    rows: int,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Outputs:
    """`dot_product_attention`, so many rows at a time, forward and backward (Rabe and Staats, 2021).

    Its memory grows with the length and not with its square: the weights of the rows are computed again for
    the gradient.
    """
    target, source = query.shape[1], key.shape[1]
    chunks = -(-target // rows)

    def cut(x: Array, axis: int) -> Array:
        """`axis` in chunks, which come first; filled up with zeros."""
        widths = [(0, chunks * rows - target if a == axis else 0) for a in range(x.ndim)]
        parts = jnp.pad(x, widths).reshape(*x.shape[:axis], chunks, rows, *x.shape[axis + 1 :])
        return jnp.moveaxis(parts, axis, 0)

    masks = cut(mask, 2) if mask is not None and mask.shape[2] > 1 else None

    @jax.checkpoint
    def attend(part: Any) -> Array:
        number, queries, allowed = part
        near = positions_mask(rows, source, causal, window, number * rows)
        allowed = joint_mask(mask if allowed is None else allowed, near)
        return weighted_values(attention_weights(queries, key, allowed, scale=scale), value)

    parts = jnp.arange(chunks, dtype=jnp.int32), cut(query, 1), masks
    output = jnp.moveaxis(lax.map(attend, parts), 0, 1)
    return output.reshape(query.shape[0], chunks * rows, *output.shape[3:])[:, :target]


def dot_product_attention_plain(
    query: Queries,
    key: Keys,
    value: Values,
    mask: Mask | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Outputs:
    """`dot_product_attention`, written out."""
    mask = joint_mask(mask, positions_mask(query.shape[1], key.shape[1], causal, window))
    return weighted_values(attention_weights(query, key, mask, scale=scale), value)


def attention_weights(
    query: Queries, key: Keys, mask: Mask | None = None, *, scale: float | None = None
) -> Weights:
    """The weight of each source for each target, in float32 or wider; rows sum to 1, or to 0 if masked."""
    wide = wide_dtype(query.dtype)
    key = _for_each_head(key, query.shape[2])
    scores = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=wide)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return masked_softmax(scores * scale, mask)


def weighted_values(weights: Weights, value: Values) -> Outputs:
    """The values averaged by the weights, in the dtype of the values."""
    value = _for_each_head(value, weights.shape[1])
    return jnp.einsum("bnts,bsnh->btnh", weights.astype(value.dtype), value)


def masked_softmax(
    scores: Float[Array, "*rest source"], mask: Bool[Array, "*#rest #source"] | None = None
) -> Float[Array, "*rest source"]:
    """Softmax over the last axis where the mask is True, 0 elsewhere; a row without a True is all 0."""
    if scores.shape[-1] == 0:  # has no maximum
        return scores
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    lowest = jnp.finfo(scores.dtype).min  # finite, so that a row of them has no NaN in its gradient
    return jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, lowest), axis=-1), 0)


def positions_mask(
    target: int, source: int, causal: bool = False, window: int | None = None, offset: Any = 0
) -> Bool[Array, "1 1 target source"] | None:
    """True where a target may attend to a source: not to later ones if causal, less than `window` apart.

    None if all may.

    The targets begin at position `offset` of the sources.
    """
    if not causal and window is None:
        return None
    row, column = (lax.broadcasted_iota(jnp.int32, (1, 1, target, source), axis) for axis in (2, 3))
    row = row + offset
    near = jnp.abs(row - column) < window if window is not None else None
    return joint_mask(row >= column if causal else None, near)


def joint_mask(a: Array | None, b: Array | None) -> Array | None:
    """True where both masks are; None is True everywhere."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _for_each_head(x: Array, heads: int) -> Array:
    """Keys or values that each serve a group of query heads, once for each of these."""
    return x if x.shape[2] == heads else jnp.repeat(x, heads // x.shape[2], axis=2)
