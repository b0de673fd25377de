"""A fully connected layer of ternary weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.layer import layer
from jlayers.core.masks import keeps_mask
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import need_features, need_floating, not_negative, positive, reshaped_to
from jlayers.ops.product import product

__all__ = ["TernaryDense"]


@layer
def TernaryDense(
    units: int,
    threshold: float | None = None,
    activation: ActivationLike | None = None,
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """A `Dense` layer that computes with the weights -1, 0 and 1 only. As in Keras 3.16.

    The kernel is a usual one, which training moves. A forward pass takes the signs of its weights, and 0 for
    those that are not greater than the threshold in absolute value. The gradient passes through this step as
    if it were not there. Without a threshold, it is half the mean absolute weight, and the product is
    multiplied by that mean, as in BitNet b1.58 (Ma et al., 2024, https://arxiv.org/abs/2402.17764).

    Shapes: `(batch, ..., features)` to `(batch, ..., units)`. Parameters: `kernel` `(features, units)`,
    `bias` `(units,)`.

    Args:
        units: size of the output.
        threshold: weights up to it count as 0.

    Raises:
        ValueError: `units` below 1, a negative threshold, or data of other features.

    >>> import jax, jlayers as jl
    >>> params = {"kernel": jax.numpy.array([[0.9], [-0.2], [-0.7]])}
    >>> ternary = jl.TernaryDense(1, threshold=0.5, use_bias=False)
    >>> ternary.apply(params, {}, jax.numpy.array([[1.0, 10.0, 100.0]]))[0].tolist()
    [[-99.0]]
    """
    positive("units", units)
    if threshold is not None:
        not_negative("threshold", threshold)
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": make_kernel(kernel_key, (x.shape[-1], units), param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (units,), param_dtype(x))
        return params

    @keeps_mask(mixes=(-1,))
    def apply(params: Any, x: Float[Array, "batch *rest features"]) -> Float[Array, "batch *rest units"]:
        need_floating(x)
        kernel = params["kernel"]
        need_features(x, -1, kernel.shape[0], "features")
        size = jnp.abs(kernel.astype(wide_dtype(kernel.dtype)))
        mean = jnp.mean(size)
        nonzero = size > (0.5 * mean if threshold is None else threshold)
        signs = jnp.where(nonzero, jnp.sign(kernel), jnp.zeros_like(kernel))
        y = product(x, (kernel + jax.lax.stop_gradient(signs - kernel)).astype(x.dtype))
        if threshold is None:
            y = y * mean.astype(y.dtype)
        if use_bias:
            y = y + reshaped_to(y, params["bias"], [-1])
        return activate(y) if activate else y

    return init, apply
