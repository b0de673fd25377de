"""The basic layers: an affine map, and functions that stand in a model as layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import keeps_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import need_features, need_floating, positive, reshaped_to
from jlayers.ops.product import product

__all__ = ["Activation", "Dense", "Identity", "Lambda"]


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
        TypeError: whole numbers as input.

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


@layer
def Activation(activation: ActivationLike):
    """An activation as a layer of its own. As in Keras.

    Shapes: any, kept.

    Args:
        activation: name or function.

    Raises:
        KeyError: an unknown name.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Activation("relu").apply({}, {}, jnp.array([-1.0, 2.0]))[0].tolist()
    [0.0, 2.0]
    """
    activate = activations.get(activation)
    if activate is None:
        raise refused(ValueError, "expected the name of an activation or a function", None)
    return Pair(no_params, keeps_mask(lambda params, x: activate(x)), wide=True)


@layer
def Identity():
    """Its input, unchanged. As in Keras.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Identity().apply({}, {}, jnp.array([-1.0, 2.0]))[0].tolist()
    [-1.0, 2.0]
    """
    return no_params, keeps_mask(lambda params, x: x)


@layer
def Lambda(function: ActivationLike, arguments: Mapping[str, Any] | None = None):
    """A function without parameters as a layer. Several inputs are several arguments.

    A masked input is refused, since nothing is known of what the function does with padding.

    Shapes: what the function makes of them. Only a registered function can be written to YAML.

    Args:
        function: of the inputs; or the name of a registered activation.
        arguments: passed to the function by name.

    Raises:
        TypeError: something that is no function.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> half = jl.Lambda(lambda x, by: x / by, arguments={"by": 2.0})
    >>> half.apply({}, {}, jnp.array([1.0, 3.0]))[0].tolist()
    [0.5, 1.5]
    """
    call: Callable[..., Any] | None = activations.get(function)
    if call is None:
        raise refused(TypeError, "expected a function", None)
    options = dict(arguments or {})
    return no_params, lambda params, *inputs: call(*inputs, **options)
