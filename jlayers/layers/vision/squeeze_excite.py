"""Channels weighed by the content of the whole image."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jlayers import activations, initializers
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    need_features,
    need_floating,
    need_rank,
    positive,
    reshaped_to,
    spatial_shape,
)

__all__ = ["SqueezeExcite"]


@layer
def SqueezeExcite(
    reduction: int = 16,
    activation: ActivationLike | None = "relu",
    gate_activation: ActivationLike | None = "sigmoid",
    data_format: DataFormat | None = None,
    reduce_initializer: InitializerLike = "glorot_uniform",
    expand_initializer: InitializerLike = "glorot_uniform",
    reduce_regularizer: RegularizerLike | None = None,
    expand_regularizer: RegularizerLike | None = None,
    reduce_constraint: ConstraintLike | None = None,
    expand_constraint: ConstraintLike | None = None,
):
    """Weighs the channels of images by what the whole image holds (Hu et al., 2018).

    The mean over all positions passes two dense layers, the first with fewer units; the result is a factor
    for each channel. The mean is taken in float32 or wider.

    Shapes: `(batch, height, width, channels)`, kept. Parameters: `reduce_kernel` `(channels, hidden)`,
    `reduce_bias`, `expand_kernel` `(hidden, channels)`, `expand_bias`; `hidden` is `channels // reduction`,
    at least 1.

    Args:
        reduction: how many times fewer units the first dense layer has.
        activation: activation of the first dense layer.
        gate_activation: activation of the second.
        reduce_initializer: first values of the first kernel; biases begin at 0.

    Raises:
        ValueError: a reduction below 1, or an input of another rank.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> params, state = jl.SqueezeExcite(4).init(jax.random.key(0), (2, 8, 8, 32))
    >>> params["reduce_kernel"].shape, params["expand_kernel"].shape
    ((32, 8), (8, 32))
    """
    positive("reduction", reduction)
    activate, gate = activations.get(activation), activations.get(gate_activation)
    make_reduce, make_expand = initializers.get(reduce_initializer), initializers.get(expand_initializer)
    last, first = channels_at_edge(data_format)

    def checked(x: Any) -> Any:
        need_rank(x, 4, spatial_shape(2, data_format))
        need_floating(x)
        return last(x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        channels, dtype = checked(x).shape[-1], param_dtype(x)
        hidden = max(channels // reduction, 1)
        reduce_key, expand_key = jax.random.split(key)
        return {
            "reduce_kernel": make_reduce(reduce_key, (channels, hidden), dtype),
            "reduce_bias": jnp.zeros((hidden,), dtype),
            "expand_kernel": make_expand(expand_key, (hidden, channels), dtype),
            "expand_bias": jnp.zeros((channels,), dtype),
        }

    def dense(params: Any, name: str, x: jax.Array, function: Any) -> jax.Array:
        y = jnp.matmul(x, params[f"{name}_kernel"].astype(x.dtype))
        y = y + reshaped_to(y, params[f"{name}_bias"], [-1])
        return function(y) if function else y

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked(x)
        need_features(x, -1, params["reduce_kernel"].shape[0], "channels")
        mean = jnp.mean(x.astype(wide_dtype(x.dtype)), axis=(1, 2)).astype(x.dtype)
        factors = dense(params, "expand", dense(params, "reduce", mean, activate), gate)
        return first(x * factors[:, None, None, :])

    return init, apply
