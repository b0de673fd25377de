"""Layers inside a model replaced by others, and the model made again around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jlayers.core.calls import taught
from jlayers.core.errors import about, concerning, refused
from jlayers.core.layer import Layer, layers
from jlayers.core.remaking import options_around, remake
from jlayers.core.structure import Table
from jlayers.core.tree import above, join, match_layers

__all__ = ["replace_layers", "substitute"]

Wrap = Callable[[Layer], Layer]


@taught
def substitute(model: Layer, wraps: Mapping[str, Wrap]) -> Layer:
    """A new model in which each layer that a pattern matches is replaced by what a function makes of it.

    Names in the model stay, so that the weights of layers that are only moved into a wrapper are found one
    level further down, and all others where they were. A layer that is used several times is replaced once
    and stays shared. What is frozen stays frozen; a wrapper's own parameters are trained. A precision policy
    holds for the new layer, too, unless it has one. Layers inside are replaced first.

    The result is made by the constructors of the model with other arguments, and is written in YAML, pickle
    and `repr` like any model. Where a constructor makes the replaced layer itself, such as the attention
    inside a `TransformerEncoder`, no argument could say so: `repr` then shows it as `substituted`, the model
    pickles, and `to_data` refuses. To have such a model in YAML, write a constructor under `@jl.layer` that
    returns it.

    Args:
        model: any layer.
        wraps: by pattern of paths, with `*` within one name and `**` for any number of names, a function from
            a layer to the layer that takes its place. Where two patterns match one path, the later one holds.

    Raises:
        ValueError: a pattern that matches no layer.
        TypeError: something other than a mapping, or a function that returns something other than a layer.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8), jl.Dense(8), jl.Dense(2, name="head"))
    >>> jl.substitute(model, {"dense*": jl.Residual})
    Sequential([Residual(Dense(8), name='dense'), Residual(Dense(8), name='dense_1'), Dense(2, name='head')])
    """
    if not isinstance(wraps, Mapping):
        text = "expected functions by patterns of paths, such as {'dense*': jl.Residual}"
        raise refused(TypeError, text, raised_by="substitute", wraps=wraps)
    paths = [path for path, _ in model.walk()]
    found: dict[str, Wrap] = {}
    for pattern, wrap in wraps.items():
        with concerning(pattern, wraps=wraps):
            found |= dict.fromkeys(match_layers(pattern, paths), wrap)
    return replace_layers(model, found)


def replace_layers(model: Layer, wraps: Mapping[str, Wrap], *, keep_names: bool = True) -> Layer:
    """The model with the layers at these paths replaced, under the old names or numbered anew."""
    touched = {*wraps, *(parent for path in wraps for parent in above(path))}

    def visit(layer: Layer, path: str) -> Layer:
        inside = {
            name: visit(child, below)
            for name, child in layer.children.items()
            if (below := join(path, name)) in touched
        }
        new = {name: child for name, child in inside.items() if child is not layer.children[name]}
        if new:
            layer = _around(layer, new, keep_names)
        if path not in wraps:
            return layer
        made = wraps[path](layer)
        if not isinstance(made, Layer):
            error = TypeError(f"substitute: expected a layer in the place of {path!r}, received {made!r}")
            raise about(error, path, wraps=wraps)
        policy = layer.precision.get("")
        if made is layer or policy is None:
            return made
        return remake(made, made.frozen, {"": policy, **made.precision})

    return visit(model, "")


def _around(layer: Layer, children: Mapping[str, Layer], keep_names: bool) -> Layer:
    """The layer with other children: by its constructor if they are arguments of it, else by its wiring."""
    made = layer.original or layer
    if keep_names:
        children = {
            name: child.with_name(name) if _names_itself(made, name) and child.name != name else child
            for name, child in children.items()
        }
    new = {_origin(made.children[name]): child for name, child in children.items()}
    if not keep_names:  # a new layer for each that may get another name
        others = map(_origin, made.children.values())
        new |= {other: other.replace() for other in others if other not in new and other.name is None}
    used: set[Layer] = set()
    arguments = _swap(dict(layer.spec.arguments), new, used)
    if layer.substituted or not {_origin(made.children[name]) for name in children} <= used:
        return layer.with_children(children)
    again = layers.build(layer.spec.name, arguments)
    if not _takes_the_place(again, layer, children, keep_names):
        return layer.with_children(children)
    names = dict(zip(layer.children, again.children, strict=True))
    frozen, precision = options_around(layer, children)

    def moved(path: str) -> str:
        first, slash, rest = path.partition("/")
        return names.get(first, first) + slash + rest

    return remake(again, frozenset(map(moved, frozen)), {moved(p): policy for p, policy in precision.items()})


def _takes_the_place(again: Layer, layer: Layer, children: Mapping[str, Layer], keep_names: bool) -> bool:
    """True if a constructor put the new children in the places of the old ones, and changed nothing else."""
    if len(again.children) != len(layer.children):
        return False
    for (name, before), (now, after) in zip(layer.children.items(), again.children.items(), strict=True):
        if keep_names and name != now:
            return False
        if name in children:
            if _origin(after) is not _origin(children[name]):
                return False
        elif [path for path, _ in before.walk()] != [path for path, _ in after.walk()]:
            return False
    return True


def _swap(value: Any, new: Mapping[Layer, Layer], used: set[Layer]) -> Any:
    """Arguments with the new layers in the places of the old ones; `used` gathers what was found."""
    if isinstance(value, Layer):
        if (origin := _origin(value)) not in new:
            return value
        used.add(origin)
        return new[origin]
    if isinstance(value, Mapping):
        return {name: _swap(member, new, used) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_swap(member, new, used) for member in value)
    return value


def _origin(layer: Layer) -> Layer:
    """The layer as its constructor made it, by which it is recognized however it was frozen since."""
    return layer.original or layer


def _names_itself(parent: Layer, name: str) -> bool:
    """True if a child brings its own name; in `Residual`, for example, the parent names it."""
    child = parent.children[name]
    if isinstance(parent.structure, Table):
        return False
    return name == child.name or re.sub(r"_\d+$", "", name) == child.spec.stem
