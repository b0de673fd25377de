"""Transformer blocks: attention and a two-layer network, each around a skip connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, layer
from jlayers.core.masks import combine, values_of
from jlayers.core.registry import ActivationLike, InitializerLike
from jlayers.core.wiring import routed
from jlayers.layers._arguments import fraction, positive
from jlayers.layers.attention.attention_heads import MultiHeadAttention
from jlayers.layers.core.dense import Dense
from jlayers.layers.normalization.layer_normalization import LayerNormalization
from jlayers.layers.regularization.dropout import Dropout

__all__ = ["TransformerDecoder", "TransformerEncoder"]


@layer
def TransformerEncoder(
    hidden_dim: int,
    intermediate_dim: int,
    num_heads: int,
    dropout: float = 0.0,
    activation: ActivationLike | None = "relu",
    layer_norm_epsilon: float = 1e-5,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    normalize_first: bool = False,
    use_causal_mask: bool = False,
    position_embedding: LayerLike | None = None,
):
    """A block of a Transformer's encoder (Vaswani et al., 2017); causal, of a model like GPT.

    `x + attention(x)`, then `x + dense(activation(dense(x)))`, with a layer normalization after each sum, or,
    with `normalize_first`, before each half (Xiong et al., 2020). A stack that normalizes first takes one
    more `LayerNormalization` at its end. `jl.Repeat(block, times)` makes a stack and compiles one block.

    Inputs: `x[, mask]`, `(batch, length, hidden_dim)` and a boolean mask `(batch, target, source)`, True
    where to attend, as in `MultiHeadAttention`. The output has the shape of `x`, and its mask if it is
    masked: nothing attends to padding. Parameters: those of the layers `attention`,
    `attention_norm`, `intermediate`, `output` and `output_norm`.

    Args:
        hidden_dim: features of input and output.
        intermediate_dim: width of the network between its two layers.
        num_heads: heads of the attention; divides `hidden_dim`.
        dropout: share of the attention weights, and of the output of each half, that is dropped in training.
        activation: between the two layers of the network.
        layer_norm_epsilon: added to the variance.
        bias_initializer: first values of each bias.
        normalize_first: normalize the input of each half instead of the sum.
        position_embedding: position embedding of queries and keys, such as `RotaryEmbedding()`.

    Raises:
        ValueError: numbers below 1, heads that do not divide, a rate outside [0, 1], another input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> block = jl.TransformerEncoder(8, 32, num_heads=2, normalize_first=True)
    >>> params, state = block.init(jax.random.key(0), (2, 5, 8))
    >>> list(params)
    ['attention_norm', 'attention', 'output_norm', 'intermediate', 'output']
    >>> block.apply(params, state, jax.numpy.ones((2, 5, 8)))[0].shape
    (2, 5, 8)
    """
    children, half = _parts(
        hidden_dim,
        intermediate_dim,
        num_heads,
        {"attention": {"use_causal_mask": use_causal_mask, "position_embedding": position_embedding}},
        dropout=dropout,
        activation=activation,
        epsilon=layer_norm_epsilon,
        normalize_first=normalize_first,
        first={"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer},
    )

    def route(call: Callable[..., Any], *inputs: Any) -> Any:
        if not 1 <= len(inputs) <= 2:
            raise refused(TypeError, f"expected 1 or 2 inputs, x and mask, not {len(inputs)}", *inputs)
        x, mask = inputs[0], inputs[1] if len(inputs) == 2 else None
        _need_hidden(x, hidden_dim)
        x = half(call, "attention_norm", lambda x: call("attention", x, None, None, mask), x)
        return half(call, "output_norm", lambda x: call("output", call("intermediate", x)), x)

    return routed(children, route)


@layer
def TransformerDecoder(
    hidden_dim: int,
    intermediate_dim: int,
    num_heads: int,
    dropout: float = 0.0,
    activation: ActivationLike | None = "relu",
    layer_norm_epsilon: float = 1e-5,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    normalize_first: bool = False,
    cross_attention: bool = False,
    position_embedding: LayerLike | None = None,
    cache_length: int | None = None,
):
    """A block of a Transformer's decoder (Vaswani et al., 2017), which can continue step by step.

    Causal attention of `x` to itself, then, with `cross_attention`, attention to the output of an encoder,
    then a two-layer network; around each a skip connection and a layer normalization, as in
    `TransformerEncoder`.

    Inputs: `x[, mask]`, or `x, encoded[, mask[, encoded_mask]]` with `cross_attention`: `x` is
    `(batch, length, hidden_dim)`, `encoded` is `(batch, source, features)`, the masks are boolean, True where
    to attend, `(batch, length, length)` and `(batch, length, source)`, each axis of them as long or 1. The
    output has the shape of `x`. Parameters: those of the layers `attention`, `attention_norm`,
    `cross_attention`, `cross_attention_norm`, `intermediate`, `output` and `output_norm`.

    With `cache_length`, inference continues where the last call ended: a prompt at once, then one position
    per call, gives the outputs that the whole sequence gives. The parameters are those of the layer without a
    cache, so train that one and decode with `block.replace(cache_length=...)`, whose state, made for a batch
    by `init`, holds the cache; `jl.reset_state` empties it. See `KeyValueCache`.

    Args:
        hidden_dim: features of input and output.
        intermediate_dim: width of the network between its two layers.
        num_heads: heads of the attention; divides `hidden_dim`.
        dropout: share of the attention weights, and of the output of each part, that is dropped in training.
        activation: between the two layers of the network.
        layer_norm_epsilon: added to the variance.
        bias_initializer: first values of each bias.
        normalize_first: normalize the input of each part instead of the sum.
        cross_attention: attend to a second input, too.
        position_embedding: position embedding of queries and keys of `x`, such as `RotaryEmbedding()`.
        cache_length: the largest number of positions for decoding step by step; None for whole sequences
            only.

    Raises:
        ValueError: numbers below 1, heads that do not divide, a rate outside [0, 1], another input, more
            positions than the cache has room for.
        TypeError: another number of inputs.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> block = jl.TransformerDecoder(8, 32, num_heads=2, position_embedding=jl.RotaryEmbedding())
    >>> x = jax.random.normal(jax.random.key(1), (2, 5, 8))
    >>> params, state = block.init(jax.random.key(0), x)
    >>> whole, _ = block.apply(params, state, x)
    >>> decoder = block.replace(cache_length=16)
    >>> _, state = decoder.init(jax.random.key(0), x)
    >>> prompt, state = decoder.apply(params, state, x[:, :4])
    >>> last, state = decoder.apply(params, state, x[:, 4:])
    >>> bool(jnp.allclose(jnp.concatenate([prompt, last], axis=1), whole, atol=1e-5))
    True
    """
    attentions: dict[str, dict[str, Any]] = {
        "attention": {
            "use_causal_mask": True,
            "position_embedding": position_embedding,
            "cache_length": cache_length,
        }
    }
    if cross_attention:
        attentions["cross_attention"] = {}
    children, half = _parts(
        hidden_dim,
        intermediate_dim,
        num_heads,
        attentions,
        dropout=dropout,
        activation=activation,
        epsilon=layer_norm_epsilon,
        normalize_first=normalize_first,
        first={"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer},
    )
    names = ("x", "encoded", "mask", "encoded_mask") if cross_attention else ("x", "mask")

    def route(call: Callable[..., Any], *inputs: Any) -> Any:
        least = 2 if cross_attention else 1
        if not least <= len(inputs) <= len(names):
            raise refused(
                TypeError,
                f"expected {least} to {len(names)} inputs, {', '.join(names)}, not {len(inputs)}",
                *inputs,
                cross_attention=cross_attention,
            )
        named = dict(zip(names, inputs, strict=False))
        x = named["x"]
        _need_hidden(x, hidden_dim)
        x = half(call, "attention_norm", lambda x: call("attention", x, None, None, named.get("mask")), x)
        if cross_attention:
            encoded, mask = named["encoded"], named.get("encoded_mask")
            x = half(
                call,
                "cross_attention_norm",
                lambda x: call("cross_attention", x, encoded, None, mask),
                x,
            )
        return half(call, "output_norm", lambda x: call("output", call("intermediate", x)), x)

    return routed(children, route)


def _parts(
    hidden_dim: int,
    intermediate_dim: int,
    num_heads: int,
    attentions: Mapping[str, Mapping[str, Any]],
    *,
    dropout: float,
    activation: Any,
    epsilon: float,
    normalize_first: bool,
    first: Mapping[str, Any],
) -> tuple[dict[str, Layer], Callable[..., Any]]:
    """The layers of a block, attentions with their options first, and what puts a norm and a skip around one.

    Args:
        hidden_dim: features of input and output.
        intermediate_dim: width of the network.
        num_heads: number of heads of each attention.
        attentions: options of `MultiHeadAttention` by name of the layer.
        dropout: share dropped.
        activation: activation of the network.
        epsilon: epsilon of the normalizations.
        normalize_first: whether a norm comes before its layer.
        first: initializers.
    """
    sizes = {"hidden_dim": hidden_dim, "intermediate_dim": intermediate_dim, "num_heads": num_heads}
    for name, value in sizes.items():
        positive(name, value)
    fraction("dropout", dropout)
    if hidden_dim % num_heads:
        raise refused(
            ValueError,
            "expected hidden_dim to be a multiple of num_heads",
            hidden_dim=hidden_dim,
            num_heads=num_heads,
        )
    size = hidden_dim // num_heads
    parts: dict[str, dict[str, Layer]] = {
        name: {name: MultiHeadAttention(num_heads, size, dropout=dropout, **options, **first)}
        for name, options in attentions.items()
    }
    parts["output"] = {
        "intermediate": Dense(intermediate_dim, activation, **first),
        "output": Dense(hidden_dim, **first),
    }
    children: dict[str, Layer] = {}
    for name, inside in parts.items():
        norm = {f"{name}_norm": LayerNormalization(epsilon=epsilon)}
        children |= {**norm, **inside} if normalize_first else {**inside, **norm}
    if dropout:
        children["dropout"] = Dropout(dropout)

    def half(call: Callable[..., Any], norm: str, inside: Callable[[Any], Any], x: Any) -> Any:
        added = inside(call(norm, x) if normalize_first else x)
        total = combine(jnp.add, x, call("dropout", added) if dropout else added)
        return total if normalize_first else call(norm, total)

    return children, half


def _need_hidden(x: Any, hidden_dim: int) -> None:
    shape = values_of(x).shape
    if len(shape) != 3 or shape[2] != hidden_dim:
        raise refused(ValueError, "expected an input (batch, length, hidden_dim)", x, hidden_dim=hidden_dim)
