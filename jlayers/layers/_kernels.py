"""The kernels inside any layer, for wrappers that change them on their way in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jlayers.core.layer import Layer
from jlayers.core.tree import join

__all__ = ["find_kernels", "is_kernel", "without_gradient"]


def is_kernel(name: str) -> bool:
    """True for what maps features to features, by its name: `kernel`, `recurrent_kernel`, `embeddings`."""
    return name in ("kernel", "embeddings") or name.endswith("_kernel")


def find_kernels(
    layer: Layer | None, params: Mapping[str, Any], path: str = "", stacked: int = 0
) -> Iterator[tuple[str, Any, int]]:
    """The kernels of two or more dimensions by path, each with how many axes stacking put before them."""
    children = layer.children if layer else {}
    for name, value in params.items():
        where = join(path, name)
        if isinstance(value, Mapping):
            child = children.get(name)
            more = bool(child and layer and layer.stacked)
            yield from find_kernels(child, value, where, stacked + more)
        elif is_kernel(name) and len(value.shape) - stacked >= 2:
            yield where, value, stacked


def without_gradient(layer: Layer, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a layer, without a gradient to those of its frozen parts."""
    return {
        name: without_gradient(layer.children[name], value)
        if name in layer.children
        else jax.lax.stop_gradient(value)
        if "" in layer.frozen
        else value
        for name, value in params.items()
    }
