"""The kernels inside any layer, and the layer in its frozen state but open to what is learned about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jlayers.core.layer import Layer, join
from jlayers.core.lifting import lift
from jlayers.core.precision import precise_in

__all__ = ["find_kernels", "halted", "is_kernel", "standing"]


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


def halted(layer: Layer, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without gradient where the layer is frozen."""
    return {
        name: halted(layer.children[name], value)
        if name in layer.children
        else jax.lax.stop_gradient(value)
        if "" in layer.frozen
        else value
        for name, value in params.items()
    }


def standing(layer: Layer) -> Layer:
    """The layer with what is frozen in it in inference mode, but open to gradients.

    A frozen layer stops the gradient to all its parameters. That would stop it, too, on its way to what a
    wrapper adds to a kernel; so the wrapper takes this one, and stops what is frozen itself: see `halted`.
    """
    if not layer.frozen:
        return layer
    thawed = layer.with_frozen(())
    if layer.frozen == {path for path, _ in layer.walk()}:
        return dataclasses.replace(thawed, apply=_inference(thawed.apply))
    if not layer.wire:
        return layer
    children = {name: standing(child) for name, child in layer.children.items()}
    init, apply = lift(*layer.wire(children), layer.spec.name, container=True)
    if "" in layer.precision:
        init, apply = precise_in(init, apply, layer.precision[""], children)
    return dataclasses.replace(thawed, init=init, apply=apply, children=children)


def _inference(apply: Callable[..., Any]) -> Callable[..., Any]:
    def standing_apply(
        params: Any, state: Any, *inputs: Any, key: Any = None, train: bool = False
    ) -> tuple[Any, Any]:
        output, moved = apply(params, state, *inputs, key=key, train=False)
        return output, state if train else moved

    return standing_apply
