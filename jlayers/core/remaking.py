"""A layer made again around other children, with other layers frozen, or under other policies.

Each of these functions begins with the layer as its constructor made it, so that no change hides an
earlier one, and each can be taken back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jlayers.core.inference import freeze_pair, hold_in_inference
from jlayers.core.lifting import lift
from jlayers.core.options import by_child, of_children
from jlayers.core.pair import Pair
from jlayers.core.penalties import add_penalty
from jlayers.core.policy import Policy
from jlayers.core.precision import with_policy
from jlayers.core.registry import Registry
from jlayers.core.spec import Spec
from jlayers.core.spelling import nearest
from jlayers.core.structure import Wiring

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = [
    "canonical",
    "check_depth",
    "open_to_gradients",
    "options_around",
    "remake",
    "rewired",
    "with_children",
]

_MOST_LEVELS = 40  # each takes several frames of Python's stack, in a gradient through Remat over twenty


def remake(
    layer: Layer,
    frozen: frozenset[str],
    precision: Mapping[str, Policy],
    freeze: Callable[[Pair], Pair] = freeze_pair,
) -> Layer:
    """The layer as its constructor made it, with these paths frozen and under these policies.

    The same call gives the same layer, so that a model which is frozen again and again is compiled only once.
    """
    original = layer.original or layer
    if frozen == original.frozen and precision == original.precision and freeze is freeze_pair:
        return original
    site = frozen, frozenset(precision.items()), freeze
    return original.kept(site, lambda: _remade(original, frozen, precision, freeze))


def _remade(
    original: Layer, frozen: frozenset[str], precision: Mapping[str, Policy], freeze: Callable[[Pair], Pair]
) -> Layer:
    pair, children = original.pair, original.children
    if original.wiring:
        inside = by_child(frozen, precision)
        children = {
            name: remake(child, frozenset(inside[name][0]), inside[name][1], freeze)
            for name, child in children.items()
        }
        pair = canonical(original.wiring.wire(children), original.spec, children)
    if "" in precision:
        pair = with_policy(pair, precision[""], children)
    if all(path in frozen for path, _ in original.walk()):
        pair = freeze(pair)
    return dataclasses.replace(
        original, pair=pair, children=children, frozen=frozen, precision=precision, original=original
    )


def with_children(layer: Layer, children: Mapping[str, Layer]) -> Layer:
    """The layer around other children; see `Layer.with_children`."""
    original = layer.original or layer
    if unknown := [name for name in children if name not in original.children]:
        raise ValueError(
            f"{layer!r} has no layer {unknown[0]!r} directly inside: {nearest(unknown[0], original.children)}"
        )
    inside = {**original.children, **children}
    check_depth(layer.spec.name, inside)
    frozen, precision = of_children(inside)
    assert original.wiring
    around = dataclasses.replace(
        original,
        pair=canonical(original.wiring.wire(inside), original.spec, inside),
        children=inside,
        frozen=frozen,
        precision=precision,
        substituted={**original.substituted, **children},
    )
    return remake(around, *options_around(layer, children))


def options_around(layer: Layer, children: Mapping[str, Layer]) -> tuple[frozenset[str], dict[str, Policy]]:
    """Frozen paths and policies of a layer once these children have taken the places of its own."""
    frozen, precision = of_children(children)
    own = {path for path in layer.frozen if path.partition("/")[0] not in children}
    policies = {p: policy for p, policy in layer.precision.items() if p.partition("/")[0] not in children}
    return frozen | own, {**policies, **precision}


def rewired(layer: Layer, wiring: Wiring) -> Layer:
    """The layer with another way to run its children: the same parameters and names, other functions."""
    original = layer.original or layer
    pair = canonical(wiring.wire(wiring.children), original.spec, wiring.children)
    again = dataclasses.replace(original, pair=pair, children=wiring.children, wiring=wiring)
    return remake(again, layer.frozen, layer.precision)


def open_to_gradients(layer: Layer) -> Layer:
    """The layer with its frozen parts still in inference mode, but with gradients to their parameters.

    For a wrapper that adds something trained to the parameters of a frozen layer, and stops the gradient
    to what is frozen itself.
    """
    return remake(layer, layer.frozen, layer.precision, freeze=hold_in_inference) if layer.frozen else layer


def check_depth(type_name: str, children: Mapping[str, Layer]) -> None:
    depth = 1 + max((child.depth for child in children.values()), default=0)
    if depth > _MOST_LEVELS:
        raise ValueError(
            f"{type_name}: expected at most {_MOST_LEVELS} levels of layers inside layers, "
            f"received {depth}; put layers side by side in one Sequential, or repeat one with Repeat"
        )


def canonical(value: Any, spec: Spec, children: Mapping[str, Layer] | None = None) -> Pair:
    """The canonical pair. A container hands masks and an `activity_regularizer` on to the layers inside."""
    short = Pair.of(value)
    if short is None:
        raise TypeError(
            f"{spec.name}: expected the constructor to return a pair of functions (init, apply), "
            f"received {value!r}"
        )
    pair = lift(short, spec.name, container=children is not None)
    regularizer = spec.arguments.get("activity_regularizer")
    if regularizer is None or children:
        return pair
    return add_penalty(pair, Registry.of("regularizer").get(regularizer))
