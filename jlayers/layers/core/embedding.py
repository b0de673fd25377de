"""The embedding of whole numbers as vectors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import intersection, with_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import positive

__all__ = ["Embedding"]

Ids = Integer[Array, "batch *rest"]
Vectors = Float[Array, "batch *rest output_dim"]


@layer
def Embedding(
    input_dim: int,
    output_dim: int,
    embeddings_initializer: InitializerLike = "uniform",
    embeddings_regularizer: RegularizerLike | None = None,
    embeddings_constraint: ConstraintLike | None = None,
    mask_zero: bool = False,
    activity_regularizer: RegularizerLike | None = None,
):
    """A learned vector for each of `input_dim` whole numbers. As in Keras.

    Shapes: `(batch, ...)` of 0 to `input_dim - 1`, to `(batch, ..., output_dim)`. Parameters: `embeddings`
    `(input_dim, output_dim)`.

    A mask of the numbers is kept for the vectors.

    A compiled function cannot raise on the values of its data: a number out of range gives a vector of NaN,
    which shows in the loss. So does a negative one, which Keras on JAX counts from the end.

    Args:
        input_dim: number of different whole numbers, 0 to `input_dim - 1`.
        output_dim: size of the vectors.
        embeddings_initializer: first values.
        embeddings_regularizer: penalty on all vectors; see `Layer.penalty`.
        embeddings_constraint: imposed on the vectors after each update; see `Layer.constrain`.
        mask_zero: 0 stands for padding: the output is `Masked`, real where the number is not 0.

    Raises:
        ValueError: sizes below 1.
        TypeError: an input that is not of whole numbers.

    >>> import jax, jlayers as jl
    >>> embed = jl.Embedding(1000, 64)
    >>> params, state = embed.init(jax.random.key(0), jax.ShapeDtypeStruct((2, 10), "int32"))
    >>> embed.apply(params, state, jax.numpy.zeros((2, 10), "int32"))[0].shape
    (2, 10, 64)
    """
    positive("input_dim", input_dim)
    positive("output_dim", output_dim)
    make = initializers.get(embeddings_initializer)

    def check(ids: Any) -> None:
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise refused(
                TypeError,
                "expected whole numbers",
                ids,
                instead="convert with x.astype('int32'), and in a graph write jl.Input(shape, dtype='int32')",
            )

    def init(key: Any, ids: Any) -> dict[str, Any]:
        check(ids)
        return {"embeddings": make(key, (input_dim, output_dim), param_dtype(ids))}

    def apply(params: Any, ids: Ids, *, mask: Any) -> Any:
        check(ids)
        table: jax.Array = jnp.asarray(params["embeddings"])
        vectors: Vectors = table.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        return with_mask(vectors, intersection(mask, ids != 0) if mask_zero else mask)

    return Pair(init, apply, ids_below=input_dim)
