"""Layers that make, attach and drop masks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import Masked, intersection, refusal
from jlayers.core.pair import Pair
from jlayers.core.shapes import describe

__all__ = ["AttachMask", "DropMask", "Masking"]


@layer
def AttachMask():
    """Attaches its second input to the first as a mask: for masks that come with the data.

    Inputs: `x`, `(batch, time, ...)`, and a boolean mask `(batch, time)`, or over more of the leading axes of
    `x`, True where it is real. The output is `Masked`. A mask that `x` has already stays in force. From
    lengths `(batch,)` a mask is made by `jnp.arange(time)[None, :] < lengths[:, None]`.

    Raises:
        TypeError: a mask that is not boolean.
        ValueError: a mask of other axes than the leading ones of `x`.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> x, real = jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])
    >>> mean = jl.Sequential(jl.AttachMask(), jl.GlobalAveragePooling1D())
    >>> mean.apply({}, {}, x, real)[0].tolist()
    [[2.0]]
    """

    def check(x: Any, real: Any) -> None:
        if real.dtype != jnp.bool_:
            raise refused(
                TypeError,
                "expected a boolean mask, True where the data are real",
                real,
                instead="write mask.astype(bool), or mask > 0, and in a graph jl.Input(shape, dtype='bool')",
            )
        if not real.shape or tuple(real.shape) != tuple(x.shape[: len(real.shape)]):
            raise refused(
                ValueError,
                f"expected a mask over the leading axes of {describe(x)}, such as (batch, time)",
                real,
            )

    def init(key: Any, x: Any, real: Any) -> dict[str, Any]:
        check(x, real)
        return {}

    def apply(params: Any, x: Shaped[Array, ...], real: Bool[Array, ...], *, mask: Any) -> Masked:
        check(x, real)
        return Masked(x, intersection(mask[0], mask[1], real))

    return init, apply


@layer
def DropMask():
    """Drops the mask of its input: padding counts from here on.

    For layers that refuse masks, such as convolutions. Shapes: any, kept.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> x = jl.Masked(jnp.ones((1, 2, 3)), jnp.array([[True, False]]))
    >>> jl.DropMask().apply({}, {}, x)[0].shape
    (1, 2, 3)
    """
    return no_params, lambda params, x, *, mask: x


@layer
def Masking(mask_value: float = 0.0):
    """Masks the steps in which all features are `mask_value`, and sets them to 0. As in Keras.

    Shapes: `(batch, ..., features)`, kept; the output is `Masked`, with a mask `(batch, ...)`. A mask that
    the input has already stays in force.

    Args:
        mask_value: what padding is filled with.

    Raises:
        ValueError: an input without features.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> y, _ = jl.Masking(-1.0).apply({}, {}, jnp.array([[[-1.0, 2.0], [-1.0, -1.0]]]))
    >>> y.values.tolist(), y.mask.tolist()
    ([[[-1.0, 2.0], [0.0, 0.0]]], [[True, False]])
    """

    def check(x: Any) -> None:
        if len(x.shape) < 2:
            raise refused(ValueError, "expected an input (batch, ..., features)", x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    def apply(params: Any, x: Float[Array, "batch ... features"], *, mask: Any) -> Masked:
        check(x)
        real = jnp.any(x != mask_value, axis=-1)
        if mask is not None and mask.ndim > real.ndim:
            raise refusal(Masked(x, mask), "a mask over the features")
        return Masked(jnp.where(real[..., None], x, jnp.zeros_like(x)), intersection(real, mask))

    return Pair(init, apply, wide=True)
