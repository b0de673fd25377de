"""Layers made of layers: one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jlayers.core import Layer, Wiring, layer
from jlayers.wiring import as_layer, routed, unique_names

__all__ = ["Sequential"]


def Sequential(
    *layers: Layer | Iterable[Layer],
    name: str | None = None,
    trainable: bool = True,
    frozen: list[str] | None = None,
) -> Layer:
    """Layers in order, each on the output of the one before; itself a layer. As in Keras.

    Args:
        *layers: layers, or one list of them. An `Input` may stand first: the shape of the data is then
            checked against it. A layer that appears twice shares its weights.
        name: name in the parent.
        trainable: False freezes every layer inside.
        frozen: relative paths of the layers inside that are frozen; what `freeze` writes.

    Raises:
        TypeError: something else than a layer among the layers.
        ValueError: two layers of one name.

    >>> import jax, jlayers as jl
    >>> model = jl.Sequential([jl.Dense(8, activation="relu"), jl.Dense(2)])
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> list(params)
    ['dense', 'dense_1']
    """
    flat: list[Any] = []
    for item in layers:
        flat.extend(item if isinstance(item, (list, tuple)) else [item])
    members = [
        as_layer(item.as_layer() if hasattr(item, "as_layer") else item, f"Sequential, position {i}")
        for i, item in enumerate(flat)
    ]
    return _sequential(members, name=name, trainable=trainable, frozen=frozen)


def _sequential_wiring(layers: Sequence[Layer]) -> Wiring:
    members = [as_layer(item, f"Sequential, position {i}") for i, item in enumerate(layers)]
    if not members:
        raise ValueError("Sequential: expected at least one layer, received none")
    children = unique_names(members, "Sequential")
    name_of = {member: name for name, member in children.items()}
    order = [name_of[member] for member in members]

    def route(call: Any, *inputs: Any) -> Any:
        first, *rest = order
        x = call(first, *inputs)
        for name in rest:
            x = call(name, x)
        return x

    return routed(children, route)


_sequential = layer(_sequential_wiring, "Sequential")
