"""The learned scale and shift of normalizations, and checks of their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.layers._arguments import axis_of, need_features, reshaped_to

__all__ = ["Affine", "fixed_sizes", "need_sizes", "normalized_axes"]


class Affine:
    """The learned `gamma` and `beta` of a normalization, along `axes` of the data."""

    def __init__(self, center: bool, scale: bool, beta: Any, gamma: Any):
        self.makers = {"gamma": initializers.get(gamma)} if scale else {}
        self.makers |= {"beta": initializers.get(beta)} if center else {}

    def init(self, key: Any, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
        keys = dict(zip(["gamma", "beta"], jax.random.split(key), strict=True))
        return {name: make(keys[name], shape, dtype) for name, make in self.makers.items()}

    def apply(self, params: Any, x: jax.Array, axes: Sequence[int]) -> jax.Array:
        if "gamma" in self.makers:
            x = x * reshaped_to(x, params["gamma"], axes)
        if "beta" in self.makers:
            x = x + reshaped_to(x, params["beta"], axes)
        return x

    def after(
        self, params: Any, scale: jax.Array, shift: jax.Array, axes: Sequence[int]
    ) -> tuple[jax.Array, jax.Array]:
        """Scale and shift that combine `x * scale + shift` with the `apply` after it."""
        if "gamma" in self.makers:
            gamma = reshaped_to(scale, params["gamma"], axes)
            scale, shift = scale * gamma, shift * gamma
        if "beta" in self.makers:
            shift = shift + reshaped_to(shift, params["beta"], axes)
        return scale, shift


def normalized_axes(x: Any, axis: int | Sequence[int]) -> list[int]:
    """The normalized axes counted from the front, in order."""
    axes = sorted(axis_of(x, a) for a in ([axis] if isinstance(axis, int) else axis))
    if not axes or len(set(axes)) < len(axes) or 0 in axes:
        raise refused(ValueError, "expected distinct axes after the batch", x, axis=axis)
    return axes


def fixed_sizes(x: Any, axes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(x.shape[a] for a in axes)
    if not all(isinstance(d, int) for d in sizes):
        wanted = f"a fixed size along axis {tuple(axes)}, for which parameters are made"
        raise refused(ValueError, f"expected {wanted}", x)
    return sizes


def need_sizes(params: Any, x: Any, axes: Sequence[int]) -> None:
    for parameter in params.values():
        for axis, size in zip(axes, parameter.shape, strict=True):
            need_features(x, axis, size, "elements")
