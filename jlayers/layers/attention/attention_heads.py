"""Attention in several heads: projections of queries, keys and values around scaled dot-product attention."""

from __future__ import annotations

from jlayers.core.errors import refused
from jlayers.core.layer import LayerLike, layer
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.layers._arguments import positive
from jlayers.layers.attention._heads import multi_head, position_layer

__all__ = ["GroupQueryAttention", "MultiHeadAttention"]


@layer
def MultiHeadAttention(
    num_heads: int,
    key_dim: int,
    value_dim: int | None = None,
    dropout: float = 0.0,
    use_bias: bool = True,
    output_shape: int | tuple[int, ...] | None = None,
    attention_axes: int | tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    use_gate: bool = False,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
    position_embedding: LayerLike | None = None,
    cache_length: int | None = None,
):
    """Attention in several heads, each with its own projections (Vaswani et al., 2017). As in Keras.

    Inputs: `query[, value[, key[, mask]]]`; note that the value comes before the key. If the value is left
    out or None it is the query (self-attention); the key is then the value. `query` is `(batch, target,
    features)`, `value` and `key` are `(batch, source, features)`, each with features of its own. The output
    is `(batch, target, features of the query)`.

    `mask` is boolean, True where a position attends to another, `(batch, target, source)` or
    `(batch, heads, target, source)`, any of them 1 to mean all; so `real[:, None, :]`, in a graph
    `jl.Reshape((1, -1))(real)`, hides the padding of the sources. Where it lets a position attend to nothing,
    the heads give zeros (in Keras the mean of all values, or zeros if the layer drops out). Inputs may be
    `Masked`, too: nothing attends to padding, and the output has the mask of the query.

    `use_causal_mask` and `return_attention_scores` are arguments of the call in Keras. Here a call
    takes only arrays, and such options belong to the constructor.

    Parameters: `query/kernel` `(features, heads, key_dim)`, `query/bias` `(heads, key_dim)`, likewise `key`,
    `value` and `gate`, and `attention_output/kernel` `(heads, value_dim, *output_shape)`,
    `attention_output/bias`. The projections are layers inside: `jl.freeze(model, "**/query")` finds them.

    Args:
        num_heads: number of heads.
        key_dim: size of queries and keys for each head.
        value_dim: size of values for each head; None for `key_dim`.
        dropout: share of the attention weights dropped in training.
        use_bias: whether the projections add a bias.
        output_shape: shape of the output's features; None for as many as the query has.
        attention_axes: the axes to attend over, of an input with several between batch and features; None for
            all of them. Masks need a single one.
        sliding_window: attend only to positions less than this far away; None for all.
        bias_initializer: first values of each bias.
        kernel_regularizer: penalty on each kernel.
        bias_regularizer: penalty on each bias.
        activity_regularizer: penalty on the outputs of each projection; see `ActivityRegularization`.
        kernel_constraint: imposed on each kernel after each update; see `Layer.constrain`.
        bias_constraint: imposed on each bias.
        use_gate: multiply the output of the heads by a sigmoid gate of the query (Qiu et al., 2025).
        use_causal_mask: attend to no later position; target and source are both counted from the start.
        return_attention_scores: give `(output, weights)`, the weights `(batch, heads, target, source)`
            before dropout.
        position_embedding: a layer applied to queries and keys of all heads, `(batch, length, heads, size)`,
            such as `RotaryEmbedding()`.
        cache_length: keep keys and values of up to so many positions in inference, for decoding step by
            step: see `KeyValueCache`. Needs `use_causal_mask`; a mask then is about `cache_length` sources.

    Raises:
        ValueError: numbers below 1, a rate outside [0, 1], inputs or a mask that do not fit each other.
        TypeError: complex numbers as input, or a mask that is not boolean.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> attend = jl.MultiHeadAttention(num_heads=2, key_dim=4, use_causal_mask=True)
    >>> params, state = attend.init(jax.random.key(0), (8, 10, 16))
    >>> params["query"]["kernel"].shape, params["attention_output"]["kernel"].shape
    ((16, 2, 4), (2, 4, 16))
    >>> attend.apply(params, state, jax.numpy.ones((8, 10, 16)))[0].shape
    (8, 10, 16)
    """
    arguments = locals()
    positive("num_heads", num_heads)
    positive("key_dim", key_dim)
    sizes = (key_dim, key_dim if value_dim is None else positive("value_dim", value_dim))
    heads, position = (num_heads, num_heads), position_layer(position_embedding, "MultiHeadAttention")
    return multi_head(heads, sizes, position, **arguments)


@layer
def GroupQueryAttention(
    head_dim: int,
    num_query_heads: int,
    num_key_value_heads: int,
    dropout: float = 0.0,
    use_bias: bool = True,
    sliding_window: int | None = None,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    use_gate: bool = False,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
    position_embedding: LayerLike | None = None,
    cache_length: int | None = None,
):
    """Attention in which groups of query heads share keys and values (Ainslie et al., 2023). As in Keras.

    As `MultiHeadAttention` in its inputs, masks, output and other arguments. One head of keys and values for
    all queries is multi-query attention (Shazeer, 2019).

    Parameters: `query/kernel` `(features, num_query_heads, head_dim)`, `key/kernel` and `value/kernel`
    `(features, num_key_value_heads, head_dim)`, `attention_output/kernel`
    `(num_query_heads, head_dim, features)`, and a `bias` beside each.

    Args:
        head_dim: size of queries, keys and values for each head.
        num_query_heads: number of heads.
        num_key_value_heads: number of heads of keys and of values; divides `num_query_heads`.

    Raises:
        ValueError: numbers below 1, heads that do not divide, a rate outside [0, 1], inputs or a mask that do
            not fit each other.
        TypeError: complex numbers as input, or a mask that is not boolean.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> attend = jl.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)
    >>> params, state = attend.init(jax.random.key(0), (8, 10, 16))
    >>> params["query"]["kernel"].shape, params["key"]["kernel"].shape
    ((16, 4, 4), (16, 2, 4))
    """
    arguments = locals()
    positive("head_dim", head_dim)
    positive("num_query_heads", num_query_heads)
    positive("num_key_value_heads", num_key_value_heads)
    if num_query_heads % num_key_value_heads:
        raise refused(
            ValueError,
            "expected num_query_heads to be a multiple of num_key_value_heads",
            num_query_heads=num_query_heads,
            num_key_value_heads=num_key_value_heads,
        )
    heads = num_query_heads, num_key_value_heads
    position = position_layer(position_embedding, "GroupQueryAttention")
    return multi_head(heads, (head_dim, head_dim), position, **arguments)
