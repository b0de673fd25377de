"""An embedding that also maps vectors back to whole numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import random

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import with_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers.core.embedding import Embedding

__all__ = ["ReversibleEmbedding"]


@layer
def ReversibleEmbedding(
    input_dim: int,
    output_dim: int,
    tie_weights: bool = True,
    embeddings_initializer: InitializerLike = "uniform",
    embeddings_regularizer: RegularizerLike | None = None,
    embeddings_constraint: ConstraintLike | None = None,
    mask_zero: bool = False,
    reverse_dtype: str | None = None,
    logit_soft_cap: float | None = None,
):
    """An `Embedding` that also goes the other way, from vectors to logits, by the same table.

    Tied input and output embeddings (Press and Wolf, 2016, https://arxiv.org/abs/1608.05859). As in Keras,
    except for how it is reversed: the input decides the direction. Whole numbers become vectors, and
    vectors become logits, `x @ embeddings.T`. So one layer called at both ends of a model is one weight:

        embed = jl.ReversibleEmbedding(1000, 64)
        ids = jl.Input((None,), dtype="int32")
        model = jl.Model(ids, embed(jl.Dense(64)(embed(ids))))

    Shapes: `(batch, ...)` of 0 to `input_dim - 1`, to `(batch, ..., output_dim)`; and floating
    `(batch, ..., output_dim)`, to `(batch, ..., input_dim)`. Parameters: `embeddings`
    `(input_dim, output_dim)`, and without `tie_weights` `reverse_embeddings` `(output_dim, input_dim)`.

    Args:
        input_dim: number of different whole numbers, 0 to `input_dim - 1`.
        output_dim: size of the vectors.
        tie_weights: use the same table in both directions; if False, a second one for the reverse.
        embeddings_initializer: first values of each table.
        mask_zero: 0 stands for padding: the vectors are `Masked`, real where the number is not 0, and so are
            the logits of masked vectors.
        reverse_dtype: dtype in which the logits are computed and returned, such as "float32"; that of the
            vectors if not given.
        logit_soft_cap: keep logits between plus and minus this number, by `cap * tanh(logits / cap)`.

    Raises:
        ValueError: sizes below 1, a cap of 0 or less, or vectors of another size.

    >>> import jax, jlayers as jl
    >>> embed = jl.ReversibleEmbedding(10, 4)
    >>> model = jl.Sequential(embed, jl.LayerNormalization(), embed)
    >>> params, state = model.init(jax.random.key(0), jax.ShapeDtypeStruct((2, 5), "int32"))
    >>> list(params), model.apply(params, state, jax.numpy.zeros((2, 5), "int32"))[0].shape
    (['reversible_embedding', 'layer_normalization'], (2, 5, 10))
    """
    if logit_soft_cap is not None and not logit_soft_cap > 0:
        raise refused(ValueError, "expected logit_soft_cap > 0", logit_soft_cap=logit_soft_cap)
    forward = Embedding(
        input_dim, output_dim, embeddings_initializer, embeddings_regularizer, mask_zero=mask_zero
    )
    make = initializers.get(embeddings_initializer)

    def is_reverse(x: Any) -> bool:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return False
        if not x.shape or x.shape[-1] != output_dim:
            raise refused(
                ValueError,
                "expected whole numbers, or vectors (batch, ..., output_dim)",
                x,
                output_dim=output_dim,
                instead="convert numbers with x.astype('int32'), and in a graph write jl.Input(shape, "
                "dtype='int32')",
            )
        return True

    def init(key: Any, x: Any) -> dict[str, Any]:
        is_reverse(x)
        params = {"embeddings": make(key, (input_dim, output_dim), param_dtype(x))}
        if not tie_weights:
            own = random.fold_in(key, 1)
            params["reverse_embeddings"] = make(own, (output_dim, input_dim), param_dtype(x))
        return params

    def apply(params: Any, x: Any, *, mask: Any) -> Any:
        if not is_reverse(x):
            return forward.apply(params, {}, with_mask(x, mask))[0]
        table = params["embeddings"].T if tie_weights else params["reverse_embeddings"]
        x = x.astype(reverse_dtype or x.dtype)
        logits = x @ table.astype(x.dtype)
        if logit_soft_cap is not None:
            logits = logit_soft_cap * jnp.tanh(logits / logit_soft_cap)
        return with_mask(logits, mask)

    return Pair(init, apply, ids_below=input_dim)
