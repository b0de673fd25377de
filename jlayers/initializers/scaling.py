"""Initial values whose variance follows from the number of inputs and outputs of a unit."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax

from jlayers.core.errors import refused
from jlayers.initializers.base import Initializer, normal, registry, rounded, truncated_normal, uniform

_TRUNCATED_STD = 0.87962566103423978  # standard deviation of a unit normal cut at -2 and 2

__all__ = [
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "VarianceScaling",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "variance_scaling",
]


def _fans(shape: tuple[int, ...], input_axes: Any, output_axes: Any) -> tuple[int, int]:
    """Inputs and outputs of one unit: of a matrix (in, out), of a kernel (*window, in, out)."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@registry.factory()
def variance_scaling(
    scale: float = 1.0,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    distribution: Literal["truncated_normal", "untruncated_normal", "uniform", "normal"] = "truncated_normal",
    input_axes: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
) -> Initializer:
    """Mean 0 and variance `scale / fan`, where the fan counts what a unit is joined to. As in Keras.

    Args:
        scale: factor of the variance.
        mode: inputs, outputs or their mean: `window * in` and `window * out` of a kernel (*window, in, out).
        distribution: "normal" means the truncated one.
        input_axes: of other layouts, the axes whose sizes multiply to the inputs.
        output_axes: the axes whose sizes multiply to the outputs.

    Raises:
        ValueError: a scale of 0 or less, another mode or distribution.

    >>> import jax, jlayers as jl
    >>> init = jl.initializers.variance_scaling(2.0, distribution="uniform")
    >>> float(abs(init(jax.random.key(0), (6, 1000), "float32")).max()) <= 1.0
    True
    """
    if scale <= 0:
        raise refused(ValueError, "expected scale > 0", scale=scale)
    modes, kinds = ("fan_in", "fan_out", "fan_avg"), ("truncated_normal", "untruncated_normal", "uniform")
    if mode not in modes:
        raise refused(ValueError, f"expected mode out of {modes}", mode=mode)
    if distribution not in (*kinds, "normal"):
        raise refused(
            ValueError,
            f"expected distribution out of {kinds}",
            distribution=distribution,
        )

    def draw(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        fan_in, fan_out = _fans(shape, input_axes, output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        std = math.sqrt(scale / max(1.0, fan))
        if distribution == "uniform":
            limit = math.sqrt(3.0) * std
            return uniform(-limit, limit)(key, shape, dtype)
        if distribution == "untruncated_normal":
            return normal(0, std)(key, shape, dtype)
        return truncated_normal(0, std / _TRUNCATED_STD)(key, shape, dtype)

    return rounded(draw)


@registry.factory()
def glorot_normal(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Truncated normal of variance 2 / (inputs + outputs) (Glorot, Bengio, 2010); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.glorot_normal()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_avg", "truncated_normal", input_axes, output_axes)


@registry.factory()
def glorot_uniform(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Uniform of variance 2 / (inputs + outputs) (Glorot, Bengio, 2010); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.glorot_uniform()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_avg", "uniform", input_axes, output_axes)


@registry.factory()
def he_normal(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Truncated normal of variance 2 / inputs (He et al., 2015); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.he_normal()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", input_axes, output_axes)


@registry.factory()
def he_uniform(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Uniform of variance 2 / inputs (He et al., 2015); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.he_uniform()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(2.0, "fan_in", "uniform", input_axes, output_axes)


@registry.factory()
def lecun_normal(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Truncated normal of variance 1 / inputs (LeCun et al., 1998); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.lecun_normal()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", input_axes, output_axes)


@registry.factory()
def lecun_uniform(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Uniform of variance 1 / inputs (LeCun et al., 1998); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.lecun_uniform()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_in", "uniform", input_axes, output_axes)


# The names of Keras's classes.
GlorotNormal = glorot_normal
GlorotUniform = glorot_uniform
HeNormal = he_normal
HeUniform = he_uniform
LecunNormal = lecun_normal
LecunUniform = lecun_uniform
VarianceScaling = variance_scaling
