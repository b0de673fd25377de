"""A learned token at the head of a sequence."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import initializers
from jlayers.core.layer import layer
from jlayers.core.registry import InitializerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import need_features, need_floating, need_rank

__all__ = ["ClassToken"]


@layer
def ClassToken(token_initializer: InitializerLike = "zeros"):
    """A learned vector before the first of a sequence (Devlin et al., 2019; Dosovitskiy et al., 2021).

    What attends to all positions gathers there what a classifier needs.

    Shapes: `(batch, length, features)` to `(batch, length + 1, features)`. Parameters: `token` `(features,)`.

    Args:
        token_initializer: first values of the token.

    Raises:
        ValueError: an input of another rank.
        TypeError: whole or complex numbers as input.

    >>> import jax, jlayers as jl
    >>> tokens = jl.ClassToken()
    >>> params, state = tokens.init(jax.random.key(0), (2, 4, 3))
    >>> tokens.apply(params, state, jax.numpy.ones((2, 4, 3)))[0].shape
    (2, 5, 3)
    """
    make = initializers.get(token_initializer)

    def checked(x: Any) -> Any:
        need_rank(x, 3, "(batch, length, features)")
        need_floating(x)
        return x

    def init(key: Any, x: Any) -> dict[str, Any]:
        return {"token": make(key, checked(x).shape[-1:], param_dtype(x))}

    def apply(params: Any, x: Float[Array, "batch length features"]) -> Float[Array, "batch longer features"]:
        token = params["token"]
        need_features(checked(x), -1, token.shape[0], "features")
        token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, token.shape[0]))
        return jnp.concatenate([token, x], axis=1)

    return init, apply
