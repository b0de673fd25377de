"""Images as sequences of patches."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.registry import ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    need_features,
    need_floating,
    need_rank,
    per_axis,
    positive,
    reshaped_to,
    spatial_shape,
)

__all__ = ["PatchEmbedding"]


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

    The same as a `Conv2D` with that window and stride, and its result laid out row by row.

    Shapes: `(batch, height, width, channels)` to `(batch, patches, units)`. Parameters: `kernel`
    `(*patch_size, channels, units)`, `bias` `(units,)`.

    Args:
        patch_size: height and width of a patch, or one number for both; they divide those of the image.
        units: size of an embedding.

    Raises:
        ValueError: sizes below 1, an image that patches do not fill, or an input of another rank.
        TypeError: complex numbers as input.

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
