"""Transformer blocks: attention and a two-layer network, each around a skip connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jlayers.core import Layer, LayerLike, layer
from jlayers.layers._arguments import fraction, positive
from jlayers.layers.attention_heads import MultiHeadAttention
from jlayers.layers.core import Dense
from jlayers.layers.normalization import LayerNormalization
from jlayers.layers.regularization import Dropout
from jlayers.masks import combine, values_of
from jlayers.registry import ActivationLike, InitializerLike
from jlayers.shapes import describe
from jlayers.wiring import routed

__all__ = ["TransformerEncoder"]


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

    `x + attention(x)`, then `x + dense(activation(dense(x)))`, a layer normalisation after each, or before
    what is added if `normalize_first` (Xiong et al., 2020). A stack that normalises first takes one more
    `LayerNormalization` at its end. `jl.Repeat(block, times)` makes a stack of which one block is compiled.

    Inputs: `x[, mask]`, `(batch, length, hidden_dim)` and a boolean mask `(batch, target, source)`, True
    where to attend, as in `MultiHeadAttention`. The output has the shape of `x`, and its mask if it is
    masked: to padding nothing attends. Parameters: those of the layers `attention`,
    `attention_norm`, `intermediate`, `output` and `output_norm`.

    Args:
        hidden_dim: features of input and output.
        intermediate_dim: width of the network between its two layers.
        num_heads: heads of the attention; divides `hidden_dim`.
        dropout: share dropped in training of the attention weights and of what each half adds.
        activation: between the two layers of the network.
        layer_norm_epsilon: added to the variance.
        kernel_initializer: first values of each kernel.
        bias_initializer: first values of each bias.
        normalize_first: normalise what goes into each half, and not what comes out of the sum.
        use_causal_mask: attend to no later position.
        position_embedding: of queries and keys, such as `RotaryEmbedding()`.

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
    kind = "TransformerEncoder"
    for name, value in {
        "hidden_dim": hidden_dim,
        "intermediate_dim": intermediate_dim,
        "num_heads": num_heads,
    }.items():
        positive(kind, name, value)
    fraction(kind, "dropout", dropout)
    if hidden_dim % num_heads:
        raise ValueError(
            f"{kind}: expected hidden_dim to be a multiple of num_heads, received hidden_dim={hidden_dim!r}, "
            f"num_heads={num_heads!r}"
        )
    first: dict[str, Any] = {
        "kernel_initializer": kernel_initializer,
        "bias_initializer": bias_initializer,
    }
    attention = MultiHeadAttention(
        num_heads,
        hidden_dim // num_heads,
        dropout=dropout,
        use_causal_mask=use_causal_mask,
        position_embedding=position_embedding,
        **first,
    )
    halves: dict[str, Layer] = {
        "attention": attention,
        "intermediate": Dense(intermediate_dim, activation, **first),
        "output": Dense(hidden_dim, **first),
    }
    norms = {
        name: LayerNormalization(epsilon=layer_norm_epsilon) for name in ("attention_norm", "output_norm")
    }
    order = ["attention_norm", "attention", "output_norm", "intermediate", "output"]
    if not normalize_first:
        order = ["attention", "attention_norm", "intermediate", "output", "output_norm"]
    children = {name: {**halves, **norms}[name] for name in order}
    if dropout:
        children["dropout"] = Dropout(dropout)

    def half(call: Callable[..., Any], norm: str, inside: Callable[[Any], Any], x: Any) -> Any:
        added = inside(call(norm, x) if normalize_first else x)
        total = combine(jnp.add, x, call("dropout", added) if dropout else added)
        return total if normalize_first else call(norm, total)

    def route(call: Callable[..., Any], *inputs: Any) -> Any:
        if not 1 <= len(inputs) <= 2:
            raise TypeError(
                f"{kind} takes 1 to 2 inputs, x, mask, received {len(inputs)}: {describe(inputs)}"
            )
        x, mask = inputs[0], inputs[1] if len(inputs) == 2 else None
        shape = values_of(x).shape
        if len(shape) != 3 or shape[2] != hidden_dim:
            raise ValueError(
                f"{kind}: expected an input (batch, length, hidden_dim) with hidden_dim={hidden_dim!r}, "
                f"received {describe(x)}"
            )
        x = half(call, "attention_norm", lambda x: call("attention", x, None, None, mask), x)
        return half(call, "output_norm", lambda x: call("output", call("intermediate", x)), x)

    return routed(children, route)
