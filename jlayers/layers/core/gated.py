"""A dense layer that is gated by another one on the same input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import need_features, need_floating, positive

__all__ = ["GatedDense"]


@layer
def GatedDense(
    units: int,
    activation: ActivationLike | None = "silu",
    use_bias: bool = False,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """A gated linear unit: `activation(x @ gate) * (x @ value)` (Shazeer, 2020).

    See https://arxiv.org/abs/2002.05202. It is the first half of a Transformer's feed-forward network:
    `Sequential(GatedDense(hidden), Dense(features))` is SwiGLU with "silu", GEGLU with "gelu", ReGLU with
    "relu", GLU with "sigmoid", and bilinear with None.

    Shapes: `(batch, ..., features)` to `(batch, ..., units)`. Parameters: `kernel` `(features, 2 * units)`,
    gate and value side by side, drawn as one matrix; `bias` `(2 * units,)`.

    Args:
        units: width of the output.
        activation: activation of the gate; None for none.
        use_bias: add a bias to both.

    Raises:
        ValueError: `units` below 1, an input without features, or of another number of them.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> network = jl.Sequential(jl.GatedDense(32), jl.Dense(8, use_bias=False))
    >>> params, state = network.init(jax.random.key(0), (2, 5, 8))
    >>> params["gated_dense"]["kernel"].shape
    (8, 64)
    """
    positive("units", units)
    activate = activations.get(activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)

    def check(x: Any) -> None:
        need_floating(x)
        if len(x.shape) < 2:
            raise refused(ValueError, "expected an input (batch, ..., features)", x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": make_kernel(kernel_key, (x.shape[-1], 2 * units), param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (2 * units,), param_dtype(x))
        return params

    def apply(params: Any, x: Float[Array, "batch *rest features"]) -> Float[Array, "batch *rest units"]:
        check(x)
        need_features(x, x.ndim - 1, params["kernel"].shape[0], "features")
        y = x @ params["kernel"].astype(x.dtype)
        if use_bias:
            y = y + params["bias"].astype(x.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        gate, value = jnp.split(y, 2, axis=-1)
        return (activate(gate) if activate else gate) * value

    return init, apply
