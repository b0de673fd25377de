"""Functions without parameters, as layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jlayers import activations
from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import keeps_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ActivationLike

__all__ = ["Activation", "Identity", "Lambda"]


@layer
def Activation(activation: ActivationLike):
    """Applies an activation. As in Keras.

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
        raise refused(ValueError, "expected the name of an activation or a function", activation=None)
    return Pair(no_params, keeps_mask(lambda params, x: activate(x)), wide=True)


@layer
def Identity():
    """Returns its input unchanged. As in Keras.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Identity().apply({}, {}, jnp.array([-1.0, 2.0]))[0].tolist()
    [-1.0, 2.0]
    """
    return no_params, keeps_mask(lambda params, x: x)


@layer
def Lambda(function: ActivationLike, arguments: Mapping[str, Any] | None = None):
    """Applies a function without parameters. Several inputs are several arguments.

    A masked input is refused, since it is not known what the function does with padding.

    Shapes: determined by the function. Only a registered function can be written to YAML.

    Args:
        function: function of the inputs; or the name of a registered activation.
        arguments: passed to the function by name.

    Raises:
        TypeError: something that is not a function.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> half = jl.Lambda(lambda x, by: x / by, arguments={"by": 2.0})
    >>> half.apply({}, {}, jnp.array([1.0, 3.0]))[0].tolist()
    [0.5, 1.5]
    """
    call: Callable[..., Any] | None = activations.get(function)
    if call is None:
        raise refused(TypeError, "expected a function", function=None)
    options = dict(arguments or {})
    return no_params, lambda params, *inputs: call(*inputs, **options)
