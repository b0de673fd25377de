"""Global pooling: the maximum or the mean over all positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import layer
from jlayers.core.masks import Masked, expand, refusal
from jlayers.core.shapes import param_dtype
from jlayers.layers._arguments import DataFormat, choice, need_rank, spatial_shape

__all__ = [
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
]


def _global_pooling(
    reduce: Callable[..., jax.Array], rank: int, data_format: str | None, keepdims: bool
) -> Any:
    choice("data_format", data_format or "channels_last", ("channels_last", "channels_first"))
    start = 2 if data_format == "channels_first" else 1
    axes = tuple(range(start, start + rank))

    def check(x: Any) -> None:
        need_rank(x, rank + 2, spatial_shape(rank, data_format))

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: jax.Array, *, mask: Any) -> jax.Array:
        check(x)
        x = x.astype(param_dtype(x)) if reduce is jnp.mean else x
        if mask is None:
            return reduce(x, axis=axes, keepdims=keepdims)
        if start == 2 or not 1 < mask.ndim <= rank + 1:
            raise refusal(Masked(x, mask), "but takes a mask of positions before the channels")
        real = jnp.broadcast_to(expand(mask, x.ndim), x.shape)
        some = jnp.any(real, axis=axes, keepdims=keepdims)
        lowest = {} if reduce is jnp.mean else {"initial": _lowest(x.dtype)}
        # Without a real position all of them count, to avoid a division by zero; the result is replaced by 0.
        counted = real | ~jnp.any(real, axis=axes, keepdims=True)
        return jnp.where(some, reduce(x, axis=axes, keepdims=keepdims, where=counted, **lowest), 0)

    return init, apply


def _lowest(dtype: Any) -> Any:
    return -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min


@layer(aliases=("GlobalMaxPool2D",))
def GlobalMaxPooling2D(data_format: DataFormat | None = None, keepdims: bool = False):
    """The maximum over all positions of an image, per channel. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, channels)`. The dtype stays.

    Raises:
        ValueError: an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GlobalMaxPooling2D().apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 3)
    """
    return _global_pooling(jnp.max, 2, data_format, keepdims)


@layer(aliases=("GlobalMaxPool1D",))
def GlobalMaxPooling1D(data_format: DataFormat | None = None, keepdims: bool = False):
    """The maximum over all steps of a sequence, per channel. As `GlobalMaxPooling2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, channels)`. Under a mask only the real steps count, unlike
    in Keras, which drops the mask; where none is real the result is 0.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GlobalMaxPooling1D().apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 3)
    """
    return _global_pooling(jnp.max, 1, data_format, keepdims)


@layer(aliases=("GlobalMaxPool3D",))
def GlobalMaxPooling3D(data_format: DataFormat | None = None, keepdims: bool = False):
    """The maximum over all positions of a volume, per channel. As `GlobalMaxPooling2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, channels)`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GlobalMaxPooling3D().apply({}, {}, jnp.ones((2, 4, 4, 4, 3)))[0].shape
    (2, 3)
    """
    return _global_pooling(jnp.max, 3, data_format, keepdims)


@layer(aliases=("GlobalAvgPool2D",))
def GlobalAveragePooling2D(data_format: DataFormat | None = None, keepdims: bool = False):
    """The mean over all positions of an image, per channel. As in Keras.

    Shapes: `(batch, height, width, channels)` to `(batch, channels)`. Whole numbers become float32.

    Raises:
        ValueError: an input of another rank.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GlobalAveragePooling2D().apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 3)
    """
    return _global_pooling(jnp.mean, 2, data_format, keepdims)


@layer(aliases=("GlobalAvgPool1D",))
def GlobalAveragePooling1D(data_format: DataFormat | None = None, keepdims: bool = False):
    """The mean over all steps of a sequence, per channel. As `GlobalAveragePooling2D`, over one axis.

    Shapes: `(batch, steps, channels)` to `(batch, channels)`. Under a mask only real steps count. Without
    any real step the result is 0; in Keras it is NaN.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GlobalAveragePooling1D().apply({}, {}, jnp.ones((2, 10, 3)))[0].shape
    (2, 3)
    """
    return _global_pooling(jnp.mean, 1, data_format, keepdims)


@layer(aliases=("GlobalAvgPool3D",))
def GlobalAveragePooling3D(data_format: DataFormat | None = None, keepdims: bool = False):
    """The mean over all positions of a volume, per channel. As `GlobalAveragePooling2D`, over three axes.

    Shapes: `(batch, depth, height, width, channels)` to `(batch, channels)`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GlobalAveragePooling3D().apply({}, {}, jnp.ones((2, 4, 4, 4, 3)))[0].shape
    (2, 3)
    """
    return _global_pooling(jnp.mean, 3, data_format, keepdims)


# Keras's second names.
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
