"""Layers made of layers: one after the other, around, repeated, recomputed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.calls import taught
from jlayers.core.errors import concerning, refused
from jlayers.core.layer import Layer, LayerLike, Wiring, layer
from jlayers.core.masks import combine, values_of
from jlayers.core.names import number_children
from jlayers.core.notes import note_errors
from jlayers.core.pair import Pair
from jlayers.core.policy import PrecisionLike
from jlayers.core.shapes import describe
from jlayers.core.structure import Chain
from jlayers.core.tree import flatten, unflatten
from jlayers.core.wiring import around, as_layer, child_key, routed

__all__ = ["Inference", "Remat", "Repeat", "Residual", "Sequential"]

_MOST_TIMES = 100_000  # more layers than any model has: a slip of a configuration, which would never end


@taught
def Sequential(
    *layers: Layer | Iterable[Layer],
    name: str | None = None,
    trainable: bool = True,
    frozen: list[str] | None = None,
    precision: PrecisionLike | None = None,
) -> Layer:
    """Layers in order, each on the output of the one before; itself a layer. As in Keras.

    Args:
        *layers: layers, or one list of them. An `Input` may stand first: the shape of the data is then
            checked against it. A layer that appears twice shares its weights.
        name: name in the parent.
        trainable: False freezes every layer inside.
        frozen: relative paths of the layers inside that are frozen; what `freeze` writes.
        precision: dtypes of the layers inside; what `with_precision` takes.

    Raises:
        TypeError: something other than a layer among the layers.
        ValueError: two layers of one name; or a layer without a name that stands under another number in a
            model made before.

    >>> import jax, jlayers as jl
    >>> model = jl.Sequential([jl.Dense(8, activation="relu"), jl.Dense(2)])
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> list(params)
    ['dense', 'dense_1']
    """
    flat: list[Any] = []
    for item in layers:
        flat.extend(item if isinstance(item, (list, tuple)) else [item])
    members = _members(item.as_layer() if hasattr(item, "as_layer") else item for item in flat)
    return _sequential(members, name=name, trainable=trainable, frozen=frozen, precision=precision)


def _members(layers: Iterable[Any]) -> list[Layer]:
    members: list[Layer] = []
    for i, item in enumerate(layers):
        with concerning(i, layers=layers):
            members.append(as_layer(item, f"Sequential, position {i}"))
    return members


def _sequential_wiring(layers: Sequence[Layer]) -> Wiring:
    members = _members(layers)
    if not members:
        raise refused(
            ValueError,
            "expected at least one layer",
            instead="give all layers at once",
            raised_by="Sequential",
            layers=[],
        )
    with concerning(layers=layers):
        children = number_children(members, "Sequential")
    name_of = {member: name for name, member in children.items()}
    order = [name_of[member] for member in members]

    def route(call: Any, *inputs: Any) -> Any:
        first, *rest = order
        x = call(first, *inputs)
        for name in rest:
            x = call(name, x)
        return x

    return routed(children, route, autocast=False, structure=Chain(tuple(order)))


_sequential = layer(_sequential_wiring, "Sequential", aliases=["Pipeline"])
Pipeline = Sequential  # Keras's name for a chain of preprocessing layers


@layer
def Residual(layer: LayerLike):
    """`x + layer(x)`: a skip connection around a layer (He et al. 2016, https://arxiv.org/abs/1512.03385).

    Shapes: the layer must give back the shape it was given. Parameters: those of the layer, under `layer`.

    Args:
        layer: what to go around; a `Sequential` for several.

    Raises:
        ValueError: the layer changes the shape.

    >>> import jax, jlayers as jl
    >>> block = jl.Residual(jl.Sequential(jl.Dense(8, activation="relu"), jl.Dense(4)))
    >>> params, state = block.init(jax.random.key(0), (2, 4))
    >>> list(params["layer"])
    ['dense', 'dense_1']
    """

    def route(call: Any, x: Any) -> Any:
        y = call("layer", x)
        _same("Residual", values_of(x), values_of(y))
        return combine(jnp.add, x, y)

    return routed({"layer": as_layer(layer, "Residual")}, route, wraps="layer")


def init_stacked(block: Layer, keys: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and state of a layer for each key, with a leading axis; names keep the layer's order."""
    order: list[list[str]] = []

    def init(key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        made = block.init(key, *inputs)
        order[:] = [list(flatten(tree)) for tree in made]
        return made

    trees = map(flatten, jax.vmap(init)(keys))  # with sorted names
    params, state = (
        unflatten({name: tree[name] for name in names}) for tree, names in zip(trees, order, strict=True)
    )
    return params, state


@layer
def Repeat(layer: LayerLike, times: int):
    """A layer applied `times` times with weights of its own each time, compiled once: `lax.scan` over depth.

    Shapes: the layer must give back the shape and dtype it was given. Parameters and state: those of the
    layer, under `layer`, each with a leading axis of length `times`. Compile time does not grow with depth.

    Args:
        layer: the block to repeat.
        times: how often.

    Raises:
        ValueError: `times` below 1 or above 100,000, or a layer that changes shape or dtype.

    >>> import jax, jlayers as jl
    >>> tower = jl.Repeat(jl.Residual(jl.Dense(4)), times=12)
    >>> params, state = tower.init(jax.random.key(0), (2, 4))
    >>> params["layer"]["layer"]["kernel"].shape
    (12, 4, 4)
    """
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= _MOST_TIMES:
        raise refused(
            ValueError,
            f"expected times to be a whole number from 1 to {_MOST_TIMES}",
            raised_by="Repeat",
            times=times,
        )

    def wire(children: Mapping[str, Layer]) -> Pair:
        block = children["layer"]

        def init(key: Any, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            with note_errors("layer", block, (x,)):
                params, state = init_stacked(block, jax.random.split(child_key(key, "layer"), times), x)
            return {"layer": params} if params else {}, {"layer": state} if state else {}

        def apply(params: Any, x: Any, *, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            keys = None
            if block.draws and key is not None:
                keys = jax.random.split(child_key(key, "layer"), times)

            def step(x: Any, each: Any) -> tuple[Any, Any]:
                params, state, key = each
                with note_errors("layer", block, (x,)), jax.named_scope("layer"):
                    y, state = block.apply(params, state, x, key=key, train=train)
                _same("Repeat", x, y)
                return y, state

            each = (params.get("layer", {}), state.get("layer", {}), keys)
            x, moved = jax.lax.scan(step, x, each, length=times)
            return x, {"layer": moved} if moved else {}

        return Pair(init, apply, draws=block.draws)

    return Wiring({"layer": as_layer(layer, "Repeat")}, wire, stacked=True, repeats=times, wraps="layer")


@layer
def Remat(layer: LayerLike):
    """A layer whose activations are computed again in the backward pass instead of kept (`jax.checkpoint`).

    Saves memory for time; values and gradients stay the same. Parameters: those of the layer, under `layer`.

    Args:
        layer: what to recompute.

    >>> import jax, jlayers as jl
    >>> model = jl.Sequential(jl.Remat(jl.Dense(512, activation="gelu")), jl.Dense(2))
    >>> list(model.init(jax.random.key(0), (2, 4))[0])
    ['remat', 'dense']
    """
    plain = around(as_layer(layer, "Remat"), autocast=False)

    def wire(children: Mapping[str, Layer]) -> Pair:
        inner = plain.wire(children)

        def apply(params: Any, *inputs: Any, state: Any, key: Any, train: bool) -> tuple[Any, Any]:
            def run(params: Any, state: Any, key: Any, *inputs: Any) -> tuple[Any, Any]:
                return inner.apply(params, *inputs, state=state, key=key, train=train)

            return jax.checkpoint(run)(params, state, key, *inputs)

        return inner.wrap(apply=apply)

    return dataclasses.replace(plain, wire=wire)


@layer
def Inference(layer: LayerLike):
    """A layer that runs in inference mode in training, too, and whose parameters are trained.

    In Keras, `base(x, training=False)` of a model that is trained: dropout is off, batch normalization uses
    its running statistics and keeps them as they are, but its `gamma` and `beta` move. To hold parameters
    still, see `jl.freeze`. What happens inside needs no key.

    Shapes: those of the layer. Parameters and state: those of the layer, under `layer`.

    Args:
        layer: what runs in inference mode.

    >>> import jax, jlayers as jl
    >>> part = jl.Inference(jl.Sequential(jl.Dense(4), jl.BatchNormalization(), jl.Dropout(0.5)))
    >>> x = jax.numpy.ones((2, 3))
    >>> params, state = part.init(jax.random.key(0), x)
    >>> output, moved = part.apply(params, state, x, train=True)
    >>> bool((output == part.apply(params, state, x)[0]).all())
    True
    >>> moved["layer"]["batch_normalization"]["moving_mean"].tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    plain = around(as_layer(layer, "Inference"), autocast=False)

    def wire(children: Mapping[str, Layer]) -> Pair:
        inner = plain.wire(children)

        def apply(params: Any, *inputs: Any, state: Any) -> tuple[Any, Any]:
            return inner.apply(params, *inputs, state=state, key=None, train=False)

        return dataclasses.replace(inner, apply=apply, draws=False)

    return dataclasses.replace(plain, wire=wire)


def _same(where: str, x: Any, y: Any) -> None:
    if _form(x) != _form(y):
        raise refused(
            ValueError,
            f"expected a layer that keeps the shape and dtype {describe(x)}",
            y,
            instead="add a layer that restores them",
            raised_by=where,
        )


def _form(x: Any) -> Any:
    leaves, structure = jax.tree.flatten(x)
    return structure, [(getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) for leaf in leaves]
