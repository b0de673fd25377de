"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import keeps_mask
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import need_features, need_floating, positive, reshaped_to
from jlayers.ops.product import product

__all__ = ["Dense"]


@layer
def Dense(
    units: int,
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
    """A fully connected layer: `activation(x @ kernel + bias)`, on the last axis. As in Keras.

    Shapes: `(batch, ..., features)` to `(batch, ..., units)`. Parameters: `kernel` `(features, units)`,
    `bias` `(units,)`.

    Args:
        units: size of the output.

    Raises:
        ValueError: `units` below 1, or data without a features axis.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> dense = jl.Dense(3, activation="relu", kernel_regularizer=jl.l2(0.01))
    >>> params, state = dense.init(jax.random.key(0), (8, 4))
    >>> y, state = dense.apply(params, state, jax.numpy.ones((8, 4)))
    >>> params["kernel"].shape, params["bias"].shape, y.shape
    ((4, 3), (3,), (8, 3))
    """
    positive("units", units)
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)

    def check(x: Any) -> None:
        need_floating(x)
        if len(x.shape) < 2:
            raise refused(
                ValueError,
                "expected an input (batch, ..., features)",
                x,
                instead="one number per example needs a features axis: x[:, None]",
            )

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": make_kernel(kernel_key, (x.shape[-1], units), param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (units,), param_dtype(x))
        return params

    @keeps_mask(mixes=(-1,))
    def apply(params: Any, x: Float[Array, "batch *rest features"]) -> Float[Array, "batch *rest units"]:
        check(x)
        need_features(x, -1, params["kernel"].shape[0], "features")
        y = product(x, params["kernel"].astype(x.dtype))
        if use_bias:
            y = y + reshaped_to(y, params["bias"], [-1])
        return activate(y) if activate else y

    return init, apply
