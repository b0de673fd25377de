"""Attention in one head and without projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import with_mask
from jlayers.core.pair import Pair
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import choice, fraction, need_features, need_floating, need_rank
from jlayers.layers.attention._attention import attention_inputs, checked_mask, padding
from jlayers.layers.regularization.dropout import Dropout
from jlayers.ops.attention import joint_mask, masked_softmax, positions_mask

__all__ = ["AdditiveAttention", "Attention"]


@layer
def Attention(
    use_scale: bool = False,
    score_mode: Literal["dot", "concat"] = "dot",
    dropout: float = 0.0,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
):
    """Averages of the values, weighted by how their keys fit each query (Luong et al., 2015). As in Keras.

    The products of queries and keys are not scaled by the size, unlike in `MultiHeadAttention`.

    Inputs: `query[, value[, key[, mask]]]`, where the value is the query and the key is the value if left out
    or None: `(batch, target, size)`, `(batch, source, value_size)`, `(batch, source, size)`, and a boolean
    mask `(batch, target, source)`, True where to attend, each axis as long or 1. The output is
    `(batch, target, value_size)`, zeros where the mask lets a position attend to nothing (there Keras attends
    as if there were no mask). Keras's mask of the values is `mask[:, None, :]` here, or they are `Masked`:
    nothing attends to padding, padding attends to nothing, and the output has the mask of the query.

    Parameters: `scale` `()` if `use_scale`, `concat_score_weight` `()` for the mode "concat".

    Args:
        use_scale: learn a factor of the scores; in the mode "concat" of the sum of query and key.
        score_mode: "dot" for the product of query and key, "concat" for the sum of `tanh(query + key)`.
        dropout: share of the attention weights dropped in training.
        return_attention_scores: give `(output, weights)`, the weights `(batch, target, source)` before
            dropout; an argument of the call in Keras.

    Raises:
        ValueError: another mode, a rate outside [0, 1], inputs or a mask that do not fit each other.
        TypeError: complex numbers as input, or a mask that is not boolean.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> query, value = jax.numpy.ones((8, 5, 4)), jax.numpy.ones((8, 7, 4))
    >>> jl.Attention().apply({}, {}, query, value)[0].shape
    (8, 5, 4)
    """
    choice("score_mode", score_mode, ("dot", "concat"))

    def init(key: Any, *inputs: Any) -> dict[str, Any]:
        one = jnp.ones((), param_dtype(inputs[0]))
        names = ["scale"] * use_scale + ["concat_score_weight"] * (score_mode == "concat")
        return dict.fromkeys(names, one)

    def score(params: Any, query: Any, key: Any) -> Any:
        wide = wide_dtype(query.dtype)
        if score_mode == "dot":
            scores = jnp.einsum("btd,bsd->bts", query, key, preferred_element_type=wide)
            return scores * params["scale"].astype(wide) if use_scale else scores
        scale = params["scale"].astype(query.dtype) if use_scale else 1.0
        sums = jnp.sum(jnp.tanh(scale * _each_with_each(query, key)), axis=-1, dtype=wide)
        return sums * params["concat_score_weight"].astype(wide)

    options = (dropout, use_causal_mask, return_attention_scores)
    return _single_head(init, score, *options)


@layer
def AdditiveAttention(
    use_scale: bool = True,
    dropout: float = 0.0,
    use_causal_mask: bool = False,
    return_attention_scores: bool = False,
):
    """Attention by the sum of `scale * tanh(query + key)` (Bahdanau et al., 2015). As in Keras.

    Inputs, mask and output are those of `Attention`. Parameters: `scale` `(size,)` if `use_scale`, at first
    drawn by `glorot_uniform`.

    Args:
        use_scale: learn a factor for each feature.
        dropout: share of the attention weights dropped in training.
        return_attention_scores: give `(output, weights)`, the weights `(batch, target, source)` before
            dropout; an argument of the call in Keras.

    Raises:
        ValueError: a rate outside [0, 1], inputs or a mask that do not fit each other.
        TypeError: complex numbers as input, or a mask that is not boolean.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> attend = jl.AdditiveAttention()
    >>> params, state = attend.init(jax.random.key(0), (8, 5, 4), (8, 7, 4))
    >>> params["scale"].shape
    (4,)
    """

    def init(key: Any, *inputs: Any) -> dict[str, Any]:
        if not use_scale:
            return {}
        size = inputs[0].shape[-1:]
        return {"scale": initializers.glorot_uniform()(key, size, param_dtype(inputs[0]))}

    def score(params: Any, query: Any, key: Any) -> Any:
        terms = jnp.tanh(_each_with_each(query, key))
        if use_scale:
            need_features(query, -1, params["scale"].shape[0], "features")
            terms = terms * params["scale"].astype(terms.dtype)[None, None, None, :]
        return jnp.sum(terms, axis=-1, dtype=wide_dtype(query.dtype))

    options = (dropout, use_causal_mask, return_attention_scores)
    return _single_head(init, score, *options)


def _each_with_each(query: Any, key: Any) -> Any:
    """The sum of each query and each key: `(batch, target, source, size)`."""
    return query[:, :, None, :] + key[:, None, :, :]


def _single_head(
    make: Callable[..., dict[str, Any]],
    score: Callable[..., Any],
    dropout: float,
    causal: bool,
    return_scores: bool,
) -> Any:
    """The pair of a layer that scores keys by `score(params, query, key)` in float32 or wider."""
    drop = Dropout(fraction("dropout", dropout))

    def checked(*inputs: Any) -> tuple[Any, Any, Any, Any]:
        query, value, keys, mask = attention_inputs(inputs)
        for x in (query, value, keys):
            need_floating(x)
            need_rank(x, 3, "(batch, length, size)")
        pairs = [(0, query, value), (0, query, keys), (1, value, keys), (2, query, keys)]
        if any(a.shape[axis] != b.shape[axis] for axis, a, b in pairs):
            raise refused(
                ValueError,
                "expected query (batch, target, size), value (batch, source, value_size) and key "
                "(batch, source, size)",
                (query, value, keys),
                instead="the order is query, value, key",
            )
        return query, value, keys, checked_mask(mask, query, value)

    def init(key: Any, *inputs: Any) -> dict[str, Any]:
        return make(key, *checked(*inputs))

    def apply(
        params: Any,
        query: Any,
        value: Any = None,
        keys: Any = None,
        attention_mask: Any = None,
        *,
        key: Any,
        train: bool,
        mask: Any,
    ) -> Any:
        arrays = (query, value, keys, attention_mask)
        masks = (*mask, *(None,) * (4 - len(mask)))
        _, real, hidden = padding(list(map(with_mask, arrays, masks)))
        query, value, keys, attention_mask = checked(*arrays)
        scores = score(params, query, keys)
        placed = positions_mask(query.shape[1], keys.shape[1], causal)
        allowed = joint_mask(joint_mask(attention_mask, hidden), None if placed is None else placed[0])
        weights = masked_softmax(scores, allowed)
        weights = weights.astype(value.dtype)
        shares, _ = drop.apply({}, {}, weights, key=key, train=train)
        output = with_mask(jnp.einsum("bts,bsd->btd", shares, value), real)
        return (output, weights) if return_scores else output

    return Pair(init, apply, draws=dropout > 0)
