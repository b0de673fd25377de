"""Activations that have arguments or parameters of their own, as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import Masked, expand, intersection, keeps_mask, refusal, with_mask
from jlayers.core.pair import Pair
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import describe, param_dtype, wide_dtype
from jlayers.layers._arguments import axis_of, need_floating, not_negative

__all__ = ["ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"]

X = Float[Array, "..."]


@layer
def ReLU(max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0):
    """`max(x, 0)`, with options. As in Keras.

    Shapes: any, kept.

    Args:
        max_value: upper bound, or None.
        negative_slope: slope of the line below `threshold`: `negative_slope * (x - threshold)`.
        threshold: where the line ends.

    Raises:
        ValueError: a negative argument.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ReLU(max_value=6.0).apply({}, {}, jnp.array([-1.0, 2.0, 9.0]))[0].tolist()
    [0.0, 2.0, 6.0]
    """
    if max_value is not None:
        not_negative("max_value", max_value)
    not_negative("negative_slope", negative_slope)
    not_negative("threshold", threshold)
    apply = keeps_mask(lambda params, x: activations.relu(x, negative_slope, max_value, threshold))
    return Pair(no_params, apply, wide=True, activation="relu")


@layer
def LeakyReLU(negative_slope: float = 0.3):
    """`x` where positive, else `negative_slope * x`. As in Keras.

    Shapes: any, kept.

    Args:
        negative_slope: slope below 0; the activation `leaky_relu` has 0.2, as in Keras.

    Raises:
        ValueError: a negative slope.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.LeakyReLU(0.5).apply({}, {}, jnp.array([-1.0, 2.0]))[0].tolist()
    [-0.5, 2.0]
    """
    not_negative("negative_slope", negative_slope)
    apply = keeps_mask(lambda params, x: activations.leaky_relu(x, negative_slope))
    return Pair(no_params, apply, activation="leaky_relu")


@layer
def ELU(alpha: float = 1.0):
    """`x` where positive, else `alpha * (exp(x) - 1)`. As in Keras.

    Shapes: any, kept.

    Args:
        alpha: the negative of the limit to the left.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.ELU().apply({}, {}, jnp.array([-100.0, 2.0]))[0].tolist()
    [-1.0, 2.0]
    """
    apply = keeps_mask(lambda params, x: activations.elu(x, alpha))
    return Pair(no_params, apply, activation="elu")


@layer
def PReLU(
    alpha_initializer: InitializerLike = "zeros",
    alpha_regularizer: RegularizerLike | None = None,
    alpha_constraint: ConstraintLike | None = None,
    shared_axes: tuple[int, ...] | None = None,
):
    """`x` where positive, else `alpha * x` with a learned `alpha` (He et al., 2015). As in Keras.

    Shapes: any with a batch in front, kept. Parameters: `alpha`, of the shape of an example, with size 1
    along `shared_axes`.

    Args:
        shared_axes: axes along which `alpha` is the same: (1, 2) for images gives one per channel.

    Raises:
        ValueError: an axis that the input lacks, or an axis of no fixed size that is not shared.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> act = jl.PReLU(shared_axes=(1, 2))
    >>> params, state = act.init(jax.random.key(0), (2, 8, 8, 3))
    >>> params["alpha"].shape
    (1, 1, 3)
    """
    make = initializers.get(alpha_initializer)

    def shape(x: Any) -> tuple[int, ...]:
        shared = {axis_of(x, axis) for axis in shared_axes or ()}
        sizes = tuple(1 if a in shared else d for a, d in enumerate(x.shape))[1:]
        if 0 in shared or not all(isinstance(d, int) for d in sizes):
            raise refused(
                ValueError,
                "expected shared_axes to hold every axis of no fixed size, and not the batch",
                x,
                shared_axes=shared_axes,
            )
        return sizes

    def init(key: Any, x: Any) -> dict[str, Any]:
        need_floating(x)
        return {"alpha": make(key, shape(x), param_dtype(x))}

    @keeps_mask
    def apply(params: Any, x: X) -> X:
        need_floating(x)
        alpha = params["alpha"]
        if alpha.shape != shape(x):
            raise refused(
                ValueError, f"expected inputs of the size that alpha {describe(alpha)} was made for", x
            )
        return jax.nn.relu(x) - alpha.astype(x.dtype)[None] * jax.nn.relu(-x)

    return init, apply


@layer
def Softmax(axis: int | tuple[int, ...] = -1):
    """`exp(x)` over its sum along `axis`. As in Keras.

    A second input, if there is one, is a mask of bools: False gets 0, and all False gives zeros. So does
    padding if the softmax runs along it; the mask stays.

    Shapes: any, kept. The sum is taken in float32 or wider.

    Args:
        axis: the axis, or axes, along which the result sums to 1.

    Raises:
        ValueError: an axis that the input lacks.
        TypeError: complex numbers as input.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Softmax().apply({}, {}, jnp.array([[0.0, 0.0]]))[0].tolist()
    [[0.5, 0.5]]
    """
    axes: Sequence[int] = (axis,) if isinstance(axis, int) else tuple(axis)

    def check(x: Any) -> tuple[int, ...]:
        need_floating(x)
        return tuple(axis_of(x, a) for a in axes)

    def init(key: Any, x: Any, allowed: Any = None) -> dict[str, Any]:
        check(x)
        return {}

    def softmax(x: X, along: tuple[int, ...], allowed: Any) -> X:
        wide = x.astype(wide_dtype(x.dtype))
        if allowed is None:
            return jax.nn.softmax(wide, along).astype(x.dtype)
        scores = jnp.where(allowed, wide, jnp.finfo(wide.dtype).min)
        return jnp.where(allowed, jax.nn.softmax(scores, along), jnp.zeros_like(wide)).astype(x.dtype)

    def apply(params: Any, x: X, allowed: Any = None, *, mask: Any) -> Any:
        along = check(x)
        real = mask[0]
        if any(m is not None for m in mask[1:]):
            raise refusal(Masked(allowed, mask[1]), "as a mask that has a mask itself")
        if real is not None and min(along) < real.ndim:
            allowed = intersection(allowed, expand(real, x.ndim))
        return with_mask(softmax(x, along, allowed), real)

    return Pair(init, apply, wide=True, activation="softmax")
