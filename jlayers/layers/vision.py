"""Parts of vision models: images as patches, and what deep residual stacks are trained and scaled with."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer, need_key
from jlayers.core.masks import keeps_mask
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    DataFormat,
    axis_of,
    channels_at_edge,
    fraction,
    need_features,
    need_floating,
    need_rank,
    per_axis,
    positive,
    reshaped_to,
    spatial_shape,
)

__all__ = ["DropPath", "LayerScale", "PatchEmbedding", "SqueezeExcite"]


@layer
def PatchEmbedding(
    patch_size: int | tuple[int, int],
    units: int,
    use_bias: bool = True,
    data_format: DataFormat | None = None,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
):
    """Images as sequences of embedded patches (Dosovitskiy et al., 2021).

    The same as a `Conv2D` of that window and stride, whose result is laid out row by row.

    Shapes: `(batch, height, width, channels)` to `(batch, patches, units)`. Parameters: `kernel`
    `(*patch_size, channels, units)`, `bias` `(units,)`.

    Args:
        patch_size: height and width of a patch, or one number for both; they divide those of the image.
        units: size of an embedding.

    Raises:
        ValueError: sizes below 1, an image that patches do not fill, or an input of another rank.
        TypeError: whole numbers as input.

    >>> import jax, jlayers as jl
    >>> embed = jl.PatchEmbedding(8, 64)
    >>> params, state = embed.init(jax.random.key(0), (2, 32, 32, 3))
    >>> embed.apply(params, state, jax.numpy.ones((2, 32, 32, 3)))[0].shape
    (2, 16, 64)
    """
    patch = per_axis("patch_size", patch_size, 2)
    positive("units", units)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)
    last, _ = channels_at_edge(data_format)

    def checked(x: Any) -> Any:
        need_rank(x, 4, spatial_shape(2, data_format))
        need_floating(x)
        sizes = zip(last(x).shape[1:3], patch, strict=True)
        if any(isinstance(size, int) and (size % side or size < side) for size, side in sizes):
            raise refused(
                ValueError,
                "expected height and width to be multiples of the patch's",
                x,
                patch_size=patch_size,
                instead="pad, crop or resize the images",
            )
        return last(x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        channels = checked(x).shape[-1]
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": make_kernel(kernel_key, (*patch, channels, units), param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (units,), param_dtype(x))
        return params

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked(x)
        kernel = params["kernel"].astype(x.dtype)
        need_features(x, -1, kernel.shape[-2], "channels")
        batch, height, width, channels = x.shape
        rows, columns = height // patch[0], width // patch[1]
        cells = x.reshape(batch, rows, patch[0], columns, patch[1], channels)
        flat = jnp.swapaxes(cells, 2, 3).reshape(batch, rows * columns, math.prod(patch) * channels)
        y = jnp.matmul(flat, kernel.reshape(-1, units))
        return y + reshaped_to(y, params["bias"], [-1]) if use_bias else y

    return init, apply


@layer
def DropPath(rate: float):
    """Drops whole examples with probability `rate` in training and scales the others by `1 / (1 - rate)`.

    At the end of the branch of a `Residual` this is stochastic depth (Huang et al., 2016): the example then
    passes by the skip connection alone.

    Shapes: any with a batch in front, kept.

    Args:
        rate: between 0 and 1.

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
        TypeError: whole numbers as input.

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

    The mean over all positions passes two dense layers, the first of which has fewer units; the result is a
    factor for each channel. The mean is taken in float32 or wider.

    Shapes: `(batch, height, width, channels)`, kept. Parameters: `reduce_kernel` `(channels, hidden)`,
    `reduce_bias`, `expand_kernel` `(hidden, channels)`, `expand_bias`; `hidden` is `channels // reduction`,
    at least 1.

    Args:
        reduction: how many times fewer units the first dense layer has.
        activation: of the first dense layer.
        gate_activation: of the second.
        reduce_initializer: first values of the first kernel; biases begin at 0.

    Raises:
        ValueError: a reduction below 1, or an input of another rank.
        TypeError: whole numbers as input.

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
