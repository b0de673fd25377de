"""Numeric features shifted and scaled by statistics that are known before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from jlayers.core.adapt import batches, learns, numbers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.masks import keeps_mask
from jlayers.core.pair import Pair
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._dtypes import minus

__all__ = ["Normalization"]

_ROUNDING = 2**-25  # of numbers around 1 in float32
_LEAST_DEVIATION = 1e-7  # Keras's epsilon: a constant feature is divided by this

Numbers = Num[Array, "batch *rest"]


@layer
def Normalization(
    axis: int | tuple[int, ...] | None = -1,
    mean: float | Sequence[Any] | None = None,
    variance: float | Sequence[Any] | None = None,
    invert: bool = False,
):
    """Scales features to mean 0 and variance 1, by statistics known before training. As in Keras.

    The output is `(x - mean) / max(sqrt(variance), 1e-7)`. Whole numbers become float32, once the mean is
    subtracted: numbers near 2**30 stay distinct. Without statistics
    the layer raises an error, where Keras passes its input through. `jl.adapt(layer, data)` computes them
    from data, with the biased variance. The statistics are arguments, not weights.

    Shapes: any of at least one axis, kept; so is a mask.

    Args:
        axis: axes that keep statistics of their own, counted with the batch; None has one mean for all.
        mean: a number, or one per place along `axis`.
        variance: as `mean`.
        invert: undo the normalization.

    Raises:
        ValueError: one of mean and variance without the other, of different shapes, not finite or negative;
            an axis that the input lacks, or that is its batch; no statistics when the layer is used.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> layer = jl.adapt(jl.Normalization(), jnp.array([[0.0, 7.0], [4.0, 9.0]]))
    >>> layer
    Normalization(mean=[2.0, 8.0], variance=[4.0, 1.0])
    >>> layer.apply({}, {}, jnp.array([[4.0, 8.0]]))[0].tolist()
    [[1.0, 0.0]]
    """
    axes = _axes(axis)
    _check_statistics(mean, variance, axes)
    center = np.asarray(0.0 if mean is None else mean, np.float64)
    deviation = np.maximum(
        np.sqrt(np.asarray(0.0 if variance is None else variance, np.float64)), _LEAST_DEVIATION
    )

    def check(x: Any) -> None:
        axes_left = _feature_axes(axes, x)
        if mean is None:
            raise refused(
                ValueError,
                "expected statistics",
                instead="take them from training data with jl.adapt(layer, data), or pass mean and variance",
                mean=None,
            )
        for size, place in zip(reversed(center.shape), reversed(axes_left), strict=False):
            if size not in (1, x.shape[place]):
                raise refused(
                    ValueError, f"expected {size} features (axis {place}), for which the statistics are", x
                )

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {}

    @keeps_mask
    def apply(params: Any, x: Numbers) -> Numbers:
        check(x)
        shape = [1] * x.ndim
        for size, place in zip(reversed(center.shape), reversed(_feature_axes(axes, x)), strict=False):
            shape[place] = size
        dtype = wide_dtype(param_dtype(x))
        shift, scale = center.reshape(shape), jnp.asarray(deviation.reshape(shape), dtype)
        if invert:
            y = x.astype(dtype) * scale + jnp.asarray(shift, dtype)
        else:
            y = minus(x, shift) / scale
            rest = (shift - shift.astype(dtype)) / deviation.reshape(shape)
            if jnp.issubdtype(x.dtype, jnp.floating) and np.abs(rest).max() > _ROUNDING:
                y = y - jnp.asarray(rest, dtype)  # what the mean lost as a number of this dtype
        return y.astype(param_dtype(x))

    return Pair(init, apply, wide=True)


def _axes(axis: Any) -> tuple[int, ...]:
    axes = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if not all(isinstance(a, int) and not isinstance(a, bool) for a in axes):
        raise refused(ValueError, "expected axis to be whole numbers or None", axis=axis)
    return axes


def _feature_axes(axes: tuple[int, ...], x: Any) -> list[int]:
    """The axes with statistics of their own, counted from the front, in order."""
    rank = len(x.shape)
    if any(not -rank <= a < rank for a in axes):
        raise refused(ValueError, "expected axes that the input has", x, axis=axes)
    axes_left = sorted({a % rank for a in axes})
    if 0 in axes_left:
        raise refused(
            ValueError,
            "expected axes of the features, not of the batch",
            x,
            instead="pass axis=None for one mean over all values",
            axis=axes,
        )
    return axes_left


def _check_statistics(mean: Any, variance: Any, axes: tuple[int, ...]) -> None:
    if mean is None and variance is None:
        return
    if mean is None or variance is None:
        raise refused(ValueError, "expected mean and variance together", mean=mean, variance=variance)
    shape = np.shape(mean)
    if shape != np.shape(variance) or len(shape) > len(axes):
        raise refused(
            ValueError,
            f"expected mean and variance of one shape, with at most {len(axes)} axes, as axis says, not "
            f"{shape} and {np.shape(variance)}",
            mean=mean,
            variance=variance,
            axis=axes,
        )
    low, wide = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    if not (np.isfinite(low).all() and np.isfinite(wide).all() and (wide >= 0).all()):
        raise refused(
            ValueError,
            "expected a finite mean and a finite variance of at least 0",
            mean=mean,
            variance=variance,
        )


@learns("layer", "Normalization", "mean")
def _statistics(arguments: dict[str, Any], data: Any) -> dict[str, Any]:
    """Mean and variance, merged batch by batch so that no large numbers cancel (Chan, Golub and LeVeque)."""
    axes = _axes(arguments["axis"])
    count, mean, squares, features = 0, np.zeros(()), np.zeros(()), None
    for index, batch in enumerate(batches(data)):
        x = numbers(batch, "Normalization", index)
        axes_left = _feature_axes(axes, x)
        sizes = (x.ndim, [x.shape[a] for a in axes_left])
        if features is not None and features != sizes:
            raise refused(ValueError, f"expected batches of one shape, unlike the shape of batch {index}", x)
        features = sizes
        rest = tuple(a for a in range(x.ndim) if a not in axes_left)
        new = math.prod(x.shape[a] for a in rest)
        change = x.mean(rest) - mean
        count += new
        mean = mean + change * new / count
        squares = squares + x.var(rest) * new + change**2 * new * (count - new) / count
    if features is None:
        raise refused(ValueError, "expected at least one batch to adapt to, received none")
    return {"mean": mean.tolist(), "variance": (squares / count).tolist()}
