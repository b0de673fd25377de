"""Functions of one array, by Keras's names: what `activation="relu"` means, and with which defaults.

Defaults are Keras's, which differ from `jax.nn` for `gelu` (exact here) and `leaky_relu` (slope 0.2 here).
Sums along an axis, as in `softmax`, are taken in float32 or wider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers.core.elsewhere import missing_name
from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.core.shapes import wide_dtype

__all__ = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "register",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "tanh",
    "tanh_shrink",
    "threshold",
]

X = Float[Array, "..."]

registry = Registry("activation")
get = registry.get
# `@jl.activations.register` enters your own function; arguments with defaults become its options.
register = registry.function()


@registry.function()
def celu(x: X, alpha: float = 1.0) -> X:
    """Continuously differentiable ELU: `max(0, x) + min(0, alpha * (exp(x / alpha) - 1))` (Barron, 2017)."""
    return jax.nn.celu(x, alpha)


@registry.function()
def elu(x: X, alpha: float = 1.0) -> X:
    """`x` where positive, else `alpha * (exp(x) - 1)` (Clevert et al., 2016)."""
    return jax.nn.elu(x, alpha)


@registry.function()
def exponential(x: X) -> X:
    """`exp(x)`."""
    return jnp.exp(x)


@registry.function()
def gelu(x: X, approximate: bool = False) -> X:
    """`x * P(N(0, 1) <= x)`; with `approximate`, by a tanh (Hendrycks and Gimpel, 2016)."""
    return jax.nn.gelu(x, approximate=approximate)


@registry.function()
def glu(x: X, axis: int = -1) -> X:
    """Gated linear unit: the first half of `axis` times the sigmoid of the second (Dauphin et al., 2017).

    Raises:
        ValueError: `axis` has an odd size.
    """
    if x.shape[axis] % 2:
        raise refused(
            ValueError, "expected an even size along axis, to halve it", x, raised_by="glu", axis=axis
        )
    return jax.nn.glu(x, axis)


@registry.function()
def hard_shrink(x: X, threshold: float = 0.5) -> X:
    """`x` where `|x| > threshold`, else 0."""
    return jnp.where(jnp.abs(x) > threshold, x, jnp.zeros_like(x))


@registry.function()
def hard_sigmoid(x: X) -> X:
    """`relu6(x + 3) / 6`."""
    return jax.nn.hard_sigmoid(x)


@registry.function("hard_swish")
def hard_silu(x: X) -> X:
    """`x * hard_sigmoid(x)` (Howard et al., 2019)."""
    return jax.nn.hard_silu(x)


@registry.function()
def hard_tanh(x: X) -> X:
    """`x` clipped to [-1, 1]."""
    return jax.nn.hard_tanh(x)


@registry.function()
def leaky_relu(x: X, negative_slope: float = 0.2) -> X:
    """`x` where positive, else `negative_slope * x`. The layer `LeakyReLU` has slope 0.3, as in Keras."""
    return jax.nn.leaky_relu(x, negative_slope)


@registry.function()
def linear(x: X) -> X:
    """`x` itself."""
    return x


@registry.function()
def log_sigmoid(x: X) -> X:
    """`log(sigmoid(x))` without overflow."""
    return jax.nn.log_sigmoid(x)


@registry.function()
def log_softmax(x: X, axis: int = -1) -> X:
    """`log(softmax(x))` without overflow."""
    return jax.nn.log_softmax(x.astype(wide_dtype(x.dtype)), axis).astype(x.dtype)


@registry.function()
def mish(x: X) -> X:
    """`x * tanh(softplus(x))` (Misra, 2019)."""
    return jax.nn.mish(x)


@registry.function()
def relu(x: X, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> X:
    """`max(x, 0)`; in general `x` capped at `max_value` above `threshold`, else a line.

    Args:
        x: the data.
        negative_slope: slope of the line below `threshold`: `negative_slope * (x - threshold)`.
        max_value: the cap, or None.
        threshold: where the line ends.
    """
    if threshold == 0.0:
        y = jax.nn.leaky_relu(x, negative_slope) if negative_slope else jax.nn.relu(x)
    else:
        below = negative_slope * (x - threshold) if negative_slope else jnp.zeros_like(x)
        y = jnp.where(x > threshold, x, below)
    return y if max_value is None else jnp.minimum(y, max_value)


@registry.function()
def relu6(x: X) -> X:
    """`x` clipped to [0, 6]."""
    return jax.nn.relu6(x)


@registry.function()
def selu(x: X) -> X:
    """ELU scaled so that mean 0 and variance 1 are kept (Klambauer et al., 2017)."""
    return jax.nn.selu(x)


@registry.function()
def sigmoid(x: X) -> X:
    """`1 / (1 + exp(-x))`."""
    return jax.nn.sigmoid(x)


@registry.function("swish")
def silu(x: X) -> X:
    """`x * sigmoid(x)` (Ramachandran et al., 2017)."""
    return jax.nn.silu(x)


@registry.function()
def soft_shrink(x: X, threshold: float = 0.5) -> X:
    """`x` moved towards 0 by `threshold`, and 0 where it would pass it."""
    return jnp.where(jnp.abs(x) > threshold, x - jnp.sign(x) * threshold, jnp.zeros_like(x))


@registry.function()
def softmax(x: X, axis: int = -1) -> X:
    """`exp(x)` over its sum along `axis`, without overflow."""
    return jax.nn.softmax(x.astype(wide_dtype(x.dtype)), axis).astype(x.dtype)


@registry.function()
def softplus(x: X) -> X:
    """`log(1 + exp(x))` without overflow."""
    return jax.nn.softplus(x)


@registry.function()
def softsign(x: X) -> X:
    """`x / (1 + |x|)`."""
    return jax.nn.soft_sign(x)


@registry.function()
def sparse_plus(x: X) -> X:
    """0 below -1, `x` above 1, `(x + 1)**2 / 4` between."""
    return jax.nn.sparse_plus(x)


@registry.function()
def sparse_sigmoid(x: X) -> X:
    """0 below -1, 1 above 1, `(x + 1) / 2` between: the derivative of `sparse_plus`."""
    return jax.nn.sparse_sigmoid(x)


@registry.function()
def sparsemax(x: X, axis: int = -1) -> X:
    """The nearest point of the probability simplex, with exact zeros (Martins and Astudillo, 2016)."""
    rows = jnp.moveaxis(x.astype(wide_dtype(x.dtype)), axis, -1)
    size = rows.shape[-1]
    ordered = jnp.sort(rows, axis=-1, descending=True)
    rank = jax.lax.broadcasted_iota(rows.dtype, rows.shape, rows.ndim - 1) + 1
    excess = jnp.cumsum(ordered, axis=-1) - 1
    support = jnp.sum(rank * ordered > excess, axis=-1, keepdims=True)
    # NaN makes the support empty; the clip keeps the index valid and the sum carries the NaN through.
    last = jnp.clip(support - 1, 0, size - 1)
    tau = jnp.take_along_axis(excess, last, axis=-1) / (last + 1).astype(rows.dtype)
    return jnp.moveaxis(jnp.maximum(rows - tau, 0), -1, axis).astype(x.dtype)


@registry.function()
def squareplus(x: X, b: float = 4.0) -> X:
    """`(x + sqrt(x**2 + b)) / 2`: a softplus without exponentials."""
    return jax.nn.squareplus(x, b)


@registry.function()
def tanh(x: X) -> X:
    """The hyperbolic tangent."""
    return jnp.tanh(x)


@registry.function()
def tanh_shrink(x: X) -> X:
    """`x - tanh(x)`."""
    return x - jnp.tanh(x)


@registry.function()
def threshold(x: X, threshold: float = 0.0, default_value: float = 0.0) -> X:
    """`x` where `x > threshold`, else `default_value`. (Keras has no defaults here.)"""
    return jnp.where(x > threshold, x, jnp.full_like(x, default_value))


if not TYPE_CHECKING:  # which would take any name to exist

    def __getattr__(name):
        raise missing_name("jlayers.activations", name, __all__, registry)
