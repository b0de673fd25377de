"""The end of a residual branch: dropped at random, or scaled to begin small."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.layer import layer, need_key
from jlayers.core.masks import keeps_mask
from jlayers.core.registry import ConstraintLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import (
    axis_of,
    fraction,
    need_features,
    need_floating,
    reshaped_to,
)

__all__ = ["DropPath", "LayerScale"]


@layer
def DropPath(rate: float):
    """Drops whole examples in training (stochastic depth, Huang et al., 2016).

    Each example becomes 0 with probability `rate`, and the others are scaled by `1 / (1 - rate)`. At the end
    of the branch of a `Residual`, a dropped example takes only the skip connection.

    Shapes: any with a batch in front, kept.

    Args:
        rate: probability that an example is dropped, from 0 to 1.

    Raises:
        ValueError: a rate outside [0, 1], or an input without batch.
        MissingKeyError: training without a key.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> y, _ = jl.DropPath(0.5).apply({}, {}, jnp.ones((100, 3)), key=jax.random.key(0), train=True)
    >>> sorted(set(y.sum(axis=1).tolist()))
    [0.0, 6.0]
    """
    fraction("rate", rate)

    def init(key: Any, x: Any) -> dict[str, Any]:
        axis_of(x, 0)
        return {}

    @keeps_mask
    def apply(params: Any, x: Float[Array, "batch ..."], *, key: Any, train: bool) -> Any:
        axis_of(x, 0)
        if not train or rate == 0:
            return x
        need_floating(x)
        shape = (x.shape[0], *(1,) * (x.ndim - 1))
        keep = jnp.broadcast_to(jax.random.bernoulli(need_key(key), 1 - rate, shape), x.shape)
        return jnp.zeros_like(x) if rate == 1 else jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))

    return init, apply


@layer
def LayerScale(
    initial: float = 1e-5,
    gamma_regularizer: RegularizerLike | None = None,
    gamma_constraint: ConstraintLike | None = None,
):
    """Multiplies each channel by a learned factor that begins small (Touvron et al., 2021, CaiT).

    At the end of the branch of a `Residual` it lets deep stacks begin near the identity.

    Shapes: any with the channels last, kept. Parameters: `gamma` `(channels,)`.

    Args:
        initial: first value of all factors.

    Raises:
        ValueError: other channels than those that the factors were made for.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> params, state = jl.LayerScale(0.1).init(jax.random.key(0), (2, 3))
    >>> [round(v, 3) for v in params["gamma"].tolist()]
    [0.1, 0.1, 0.1]
    """

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        channels = x.shape[axis_of(x, -1)]
        return {"gamma": jnp.full((channels,), initial, param_dtype(x))}

    @keeps_mask
    def apply(params: Any, x: Float[Array, "... channels"]) -> Float[Array, "... channels"]:
        need_floating(x)
        need_features(x, axis_of(x, -1), params["gamma"].shape[0], "channels")
        return x * reshaped_to(x, params["gamma"], [-1])

    return init, apply
