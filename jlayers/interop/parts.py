"""Weights that PyTorch keeps in parts, put together: `weight_norm` and `spectral_norm`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["LENGTH", "SPECTRAL", "roles_of", "whole"]

LENGTH, SPECTRAL = ("g", "v"), ("orig", "u", "v")
_ROLES = {
    ("original0", "original1"): LENGTH,  # of weight_norm
    ("original", "0._u", "0._v"): SPECTRAL,  # of spectral_norm
}


def roles_of(names: set[str]) -> dict[str, str]:
    """By name the parts of a parametrized weight as PyTorch's older functions call them; none if unknown.

    >>> roles_of({"original0", "original1"})
    {'original0': 'g', 'original1': 'v'}
    """
    found = next((theirs for theirs in _ROLES if set(theirs) == names), None)
    return dict(zip(found, _ROLES[found], strict=True)) if found else {}


def whole(
    arrays: Mapping[str, np.ndarray], first: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Arrays with the weights in parts as PyTorch computes them in evaluation, and the names of their parts.

    `weight_norm` keeps a length `g` and a direction `v`. `spectral_norm` keeps the weight as it was, and the
    vectors `u` and `v` for its largest singular value, by which it is divided.

    Args:
        arrays: by name, such as `weight_g` and `weight_v`.
        first: the axis of a weight's outputs, where several axes are as long as `u`.

    Source: `torch.nn.utils.weight_norm`, `torch.nn.utils.spectral_norm`.

    >>> arrays = {"weight_g": np.array([[2.0]]), "weight_v": np.array([[3.0, 4.0]])}
    >>> made, parts = whole(arrays)
    >>> made["weight"].tolist(), parts
    ([[1.2, 1.6]], {'weight': ['weight_g', 'weight_v']})
    """
    made, parts = dict(arrays), dict[str, list[str]]()

    def join(name: str, roles: tuple[str, ...], rule: Callable[..., np.ndarray | None]) -> None:
        names = [f"{name}_{role}" for role in roles]
        if not set(names) <= set(made):
            return
        array = rule(*(made[part].astype(np.float64) for part in names))
        if array is None:
            return
        made[name] = array.astype(made[names[0]].dtype)
        parts[name] = names
        for part in names:
            del made[part]

    for name in arrays:
        join(name.removesuffix("_g"), LENGTH, _of_length)
        join(name.removesuffix("_orig"), SPECTRAL, functools.partial(_of_largest_one, first))
    return made, parts


def _of_length(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The direction `v`, of the length `g` along each axis that `g` has."""
    axes = tuple(axis for axis in range(v.ndim) if g.ndim != v.ndim or g.shape[axis] == 1)
    norm = np.sqrt(np.square(v).sum(axes, keepdims=True))
    return g * v / np.where(norm == 0, 1, norm)


def _of_largest_one(first: int, weight: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """The weight as a matrix `(outputs, others)` divided by `u @ matrix @ v`; None if they do not fit.

    The length of `u` tells the axis of the outputs, `first` if several are as long.
    """
    fits = [axis for axis, n in enumerate(weight.shape) if n == u.size and weight.size == u.size * v.size]
    if not fits or not u.size:
        return None
    axis = first if first in fits else fits[0]
    value = u.ravel() @ np.moveaxis(weight, axis, 0).reshape(u.size, -1) @ v.ravel()
    return weight / (value if value else 1)
