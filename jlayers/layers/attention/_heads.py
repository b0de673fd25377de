"""The common part of attention layers with several heads: projections, and attention between them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, Wiring
from jlayers.core.masks import refusal, values_of, with_mask
from jlayers.core.pair import Pair
from jlayers.core.wiring import as_layer, routed
from jlayers.layers._arguments import fraction, need_floating, positive
from jlayers.layers.attention._attention import attention_inputs, checked_mask, padding
from jlayers.layers.attention.cache import KeyValueCache, Positions
from jlayers.layers.core.einsum import EinsumDense
from jlayers.layers.regularization.dropout import Dropout
from jlayers.ops.attention import (
    attention_weights,
    dot_product_attention,
    joint_mask,
    positions_mask,
    weighted_values,
)

__all__ = ["multi_head", "position_layer"]

_ROLES = ("_initializer", "_regularizer", "_constraint")  # of the kernels and biases of each projection


def position_layer(value: LayerLike | None, where: str) -> Layer | None:
    return None if value is None else as_layer(value, f"{where}, position_embedding")


def multi_head(
    heads: tuple[int, int],
    sizes: tuple[int, int],
    position: Layer | None,
    *,
    dropout: float,
    use_bias: bool,
    output_shape: int | tuple[int, ...] | None = None,
    attention_axes: int | tuple[int, ...] | None = None,
    sliding_window: int | None,
    use_gate: bool,
    use_causal_mask: bool,
    return_attention_scores: bool,
    cache_length: int | None,
    **arguments: Any,
) -> Wiring:
    """The projections as layers inside, and the attention between them.

    Args:
        heads: number of heads of the queries, and of keys and values.
        sizes: size of queries and keys, and of values, for each head.
        position: the layer that is applied to queries and keys, or None.
        dropout: this and all further arguments are those of `MultiHeadAttention`.
        **arguments: those of the projections, and others that are not needed here.
    """
    output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
    axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
    causal, window = use_causal_mask, sliding_window
    projection = {name: value for name, value in arguments.items() if name.endswith(_ROLES)}
    fraction("dropout", dropout)
    if window is not None:
        positive("sliding_window", window)
    for size in output_shape or ():
        positive("output_shape", size)

    def project(count: int, size: int, activation: str | None = None) -> Layer:
        bias_axes = "yz" if use_bias else None
        return EinsumDense("...x,xyz->...yz", (count, size), activation, bias_axes, **projection)

    (query_heads, value_heads), (key_size, value_size) = heads, sizes
    children = {"query": project(query_heads, key_size), "key": project(value_heads, key_size)}
    if use_gate:
        children["gate"] = project(query_heads, value_size, "sigmoid")
    children["value"] = project(value_heads, value_size)
    units = "abcdefgh"[: len(output_shape or (None,))]
    children["attention_output"] = EinsumDense(
        f"...yz,yz{units}->...{units}",
        output_shape or (None,),
        None,
        units if use_bias else None,
        **projection,
    )
    if dropout:
        children["dropout"] = Dropout(dropout)
    if position is not None:
        children["position_embedding"] = position
    if cache_length is not None:
        positive("cache_length", cache_length)
        if not causal:
            raise refused(
                ValueError,
                "expected use_causal_mask=True with a cache, in which later positions are not there yet",
                use_causal_mask=causal,
                cache_length=cache_length,
            )
        children |= {"positions": Positions(), "cache": KeyValueCache(cache_length)}

    def attend(call: Callable[..., Any], query: Any, key: Any, value: Any, mask: Any) -> tuple[Any, Any]:
        at = () if cache_length is None else (call("positions", query),)
        if "position_embedding" in children:
            query, key = (call("position_embedding", x, *at) for x in (query, key))
        near: dict[str, Any] = {"causal": causal, "window": window}
        if at:
            length = key.shape[1]
            key, value = call("cache", key, value, *at)
            mask = checked_mask(mask, query, value, query_heads)
            if length and key.shape[1] != length:
                # Beyond the end all see the last position, which is NaN there.
                offset = jnp.minimum(at[0][0, 0], key.shape[1] - length)
                mask = joint_mask(mask, positions_mask(length, key.shape[1], causal, window, offset))
                near = {}
        if not dropout and not return_attention_scores:
            return dot_product_attention(query, key, value, mask, **near), None
        mask = joint_mask(mask, positions_mask(query.shape[1], key.shape[1], **near))
        weights = attention_weights(query, key, mask).astype(value.dtype)
        shares = call("dropout", weights) if dropout else weights
        return weighted_values(shares, value), weights

    def route(call: Callable[..., Any], *inputs: Any) -> Any:
        plain, real, hidden = padding(inputs)
        query, value, key, mask = attention_inputs(plain)
        over = _attention_axes(axes, query, value, key)
        masked = mask is not None or hidden is not None
        if len(query.shape) != 3 and (masked or causal or window or return_attention_scores):
            raise refused(
                ValueError,
                "expected inputs (batch, length, features) with a mask, use_causal_mask, "
                "sliding_window or return_attention_scores",
                query,
            )
        if cache_length is None:
            mask = checked_mask(mask, query, value, query_heads)
            mask = joint_mask(mask, None if hidden is None else hidden[:, None])
        elif hidden is not None:
            raise refusal(inputs, "but its cache keeps no mask")
        elif query.shape[1] != value.shape[1]:
            raise refused(
                ValueError, "expected query, value and key of one length with a cache", (query, value, key)
            )
        queries, key, value = call("query", query), call("key", key), call("value", value)
        q, k, v = (_as_sequences(x, over) for x in (queries, key, value))
        output, weights = attend(call, q, k, v, mask)
        output = _from_sequences(output, queries, over)
        if use_gate:
            output = output * call("gate", query)
        output = with_mask(call("attention_output", output), real)
        return (output, weights) if return_attention_scores else output

    def wire(children: Mapping[str, Layer]) -> Pair:
        @functools.cache
        def init_for(width: tuple[int, ...]) -> Any:
            """The initialization once the size of the output is known."""
            last = children["attention_output"].replace(output_shape=width)
            sized = {name: last if name == "attention_output" else c for name, c in children.items()}
            return routed(sized, route).wire(sized).init

        def init(key: Any, *inputs: Any) -> Any:
            query = values_of(inputs[0])
            return init_for(output_shape or (query.shape[-1],))(key, *inputs)

        return routed(children, route).wire(children).wrap(init=init)

    return Wiring(children, wire)


def _attention_axes(axes: tuple[int, ...] | None, query: Any, value: Any, key: Any) -> tuple[int, ...]:
    """The axes to attend over, from the front; the inputs agree in number of axes and along all others."""
    for x in (query, value, key):
        need_floating(x)
    rank = len(query.shape)
    over = (
        tuple(range(1, rank - 1))
        if axes is None
        else tuple(a % rank if -rank <= a < rank else a for a in axes)
    )
    if rank < 3 or not over or len(set(over)) < len(over) or not all(0 < a < rank - 1 for a in over):
        raise refused(
            ValueError,
            "expected an input (batch, length, features), or one of more axes and attention_axes "
            "between its first and its last",
            query,
            attention_axes=axes,
        )
    others = [a for a in range(rank - 1) if a not in over]
    agree = all(
        len(x.shape) == rank and all(x.shape[a] == query.shape[a] for a in others) for x in (value, key)
    )
    if not agree or any(value.shape[a] != key.shape[a] for a in over):
        raise refused(
            ValueError,
            "expected query, value and key of one batch size, and value and key of one length",
            (query, value, key),
            instead="the order is query, value, key",
        )
    return over


def _order(rank: int, over: tuple[int, ...]) -> list[int]:
    return [a for a in range(rank - 2) if a not in over] + [*over, rank - 2, rank - 1]


def _as_sequences(x: Any, over: tuple[int, ...]) -> Any:
    """`(batch, ..., heads, size)` as `(batch, length, heads, size)`; other axes join the batch."""
    if x.ndim == 4:
        return x
    x = jnp.transpose(x, _order(x.ndim, over))
    rest = x.ndim - 2 - len(over)
    return x.reshape(math.prod(x.shape[:rest]), math.prod(x.shape[rest:-2]), *x.shape[-2:])


def _from_sequences(y: Any, like: Any, over: tuple[int, ...]) -> Any:
    """The way back from `_as_sequences`, to the axes of `like`."""
    if like.ndim == 4:
        return y
    order = _order(like.ndim, over)
    y = y.reshape(*(like.shape[a] for a in order[:-2]), *y.shape[-2:])
    return jnp.transpose(y, [order.index(a) for a in range(like.ndim)])
