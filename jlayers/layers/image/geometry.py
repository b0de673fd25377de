"""Fixed transformations of images: rescaling, resizing, cropping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import keeps_mask
from jlayers.core.pair import Pair
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import DataFormat, choice, positive
from jlayers.layers._dtypes import minus, rounded
from jlayers.layers.image._images import fixed_on_images
from jlayers.layers.image._sampling import crop_to_aspect, cropped, fit_to, resized

__all__ = ["CenterCrop", "Rescaling", "Resizing"]

_METHODS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


@layer
def Rescaling(scale: float | tuple[float, ...], offset: float | tuple[float, ...] = 0.0):
    """`x * scale + offset`, in training and in inference alike. As in Keras.

    Shapes: any, kept, with a mask. Whole numbers, such as uint8 pixels, become float32.

    Args:
        scale: one factor, or one for each channel (the last axis); `1 / 255` brings pixels to [0, 1].
        offset: added after it, likewise.

    Raises:
        ValueError: as many numbers as there are no channels.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> y, _ = jl.Rescaling(1 / 127.5, offset=-1).apply({}, {}, jnp.array([0, 255], jnp.uint8))
    >>> y.tolist()
    [-1.0, 1.0]
    """

    def along(x: Any, name: str, value: float | Sequence[float]) -> np.ndarray:
        vector = np.asarray(value, np.float64)
        if vector.ndim > 1 or (vector.ndim == 1 and (x.ndim == 0 or vector.shape[0] not in (1, x.shape[-1]))):
            received: dict[str, Any] = {name: value}
            raise refused(
                ValueError,
                f"expected {name} as one number or one for each channel (the last axis)",
                x,
                **received,
            )
        return vector.reshape((1,) * (x.ndim - 1) + vector.shape) if vector.ndim else vector

    @keeps_mask
    def apply(params: Any, x: Num[Array, "*shape"]) -> jax.Array:
        factor, shift = along(x, "scale", scale), along(x, "offset", offset)
        dtype = wide_dtype(param_dtype(x))
        if jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize > 2 and factor.all():
            return minus(x, -shift / factor) * jnp.asarray(factor, dtype)
        y = x.astype(dtype) * jnp.asarray(factor, dtype) + jnp.asarray(shift, dtype)
        return y.astype(param_dtype(x))

    return Pair(no_params, apply, wide=True)


def _pad_to_aspect(x: jax.Array, height: int, width: int, fill_value: float) -> jax.Array:
    """The images in the middle of a frame with (nearly) the aspect ratio of those sizes."""
    rows, columns = x.shape[1:3]
    tall = (max(rows, columns * height // width) - rows) // 2
    broad = (max(columns, rows * width // height) - columns) // 2
    pads = ((0, 0), (tall, tall), (broad, broad), (0, 0))
    return jnp.pad(x, pads, constant_values=jnp.asarray(fill_value, x.dtype))


@layer
def Resizing(
    height: int,
    width: int,
    interpolation: Literal["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"] = "bilinear",
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: Literal["constant"] = "constant",
    fill_value: float = 0.0,
    antialias: bool = False,
    data_format: DataFormat | None = None,
):
    """Resizes images. As in Keras: pixels are squares, with centers at halves.

    Shapes: `(batch, rows, columns, channels)` to `(batch, height, width, channels)`, or both without the
    batch. The dtype stays: whole numbers are rounded and kept within what their dtype holds.

    Args:
        height: height of the result.
        width: width of the result.
        interpolation: "bilinear", "nearest", "bicubic", "lanczos3" or "lanczos5".
        crop_to_aspect_ratio: instead of distorting the images, cut off at both sides what does not fit the
            new aspect ratio.
        pad_to_aspect_ratio: pad at both sides instead.
        fill_mode: "constant" is the only one.
        fill_value: what to pad with.
        antialias: blur before shrinking, so that fine patterns do not alias.

    Raises:
        ValueError: sizes below 1, an unknown interpolation, both ways to keep the aspect ratio at once, or an
            input that is not images.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Resizing(4, 4).apply({}, {}, jnp.ones((2, 8, 6, 3), jnp.uint8))[0].shape
    (2, 4, 4, 3)
    """
    positive("height", height)
    positive("width", width)
    choice("interpolation", interpolation, _METHODS)
    choice("fill_mode", fill_mode, ("constant",))
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise refused(
            ValueError,
            "expected only one of the two",
            crop_to_aspect_ratio=True,
            pad_to_aspect_ratio=True,
        )

    def transform(x: jax.Array) -> jax.Array:
        if crop_to_aspect_ratio:
            x = crop_to_aspect(x, height, width)
        elif pad_to_aspect_ratio:
            x = _pad_to_aspect(x, height, width, fill_value)
        return resized(x, height, width, interpolation, antialias)

    init, resize = fixed_on_images(data_format, transform)

    def apply(params: Any, x: Num[Array, "batch ..."]) -> jax.Array:
        return rounded(resize(params, x), x.dtype)

    return Pair(init, apply, wide=True)


@layer
def CenterCrop(height: int, width: int, data_format: DataFormat | None = None):
    """Crops images to their center. As in Keras.

    An image that is too small on a side is resized instead, after cutting it to the aspect ratio. Where the
    margins cannot be equal, the one above or on the left is the smaller.

    Shapes: `(batch, rows, columns, channels)` to `(batch, height, width, channels)`, or both without the
    batch. Whole numbers become float32.

    Args:
        height: height of the result.
        width: width of the result.

    Raises:
        ValueError: sizes below 1, or an input that is not images.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    >>> jl.CenterCrop(1, 3).apply({}, {}, x)[0].ravel().tolist()
    [11.0, 12.0, 13.0]
    """
    positive("height", height)
    positive("width", width)

    def transform(x: jax.Array) -> jax.Array:
        rows, columns = x.shape[1:3]
        if rows < height or columns < width:
            return fit_to(x, height, width)
        return cropped(x, (rows - height) // 2, (columns - width) // 2, height, width)

    return fixed_on_images(data_format, transform)
