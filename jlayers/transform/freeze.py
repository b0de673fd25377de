"""Freezing layers: a static fact of the model, read by the gradient, the optimizer and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jlayers.core.calls import taught
from jlayers.core.layer import Layer
from jlayers.core.tree import above, flatten, map_with_path, match_layers, unflatten

__all__ = ["freeze", "trainable_mask", "trained_params", "unfreeze"]


@taught
def freeze(model: Layer, *patterns: str) -> Layer:
    """The model with the layers that the patterns match frozen, as `trainable=False` in Keras.

    A frozen layer's parameters get no update of any kind (no weight decay, no momentum, no regularizer),
    its state does not move, and it runs in inference mode (dropout off, batch normalization by its running
    statistics). Everything inside a matched layer is frozen with it. Without a pattern, the whole model is
    frozen.

    Args:
        model: any layer.
        *patterns: paths of layers, with `*` within one name and `**` for any number of names.

    Raises:
        ValueError: a pattern matches no layer.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
    >>> sorted(jl.freeze(model, "base").frozen)
    ['base']
    """
    matched = {path for pattern in patterns or ("**",) for path in match_layers(pattern, _paths(model))}
    return model.with_frozen(model.frozen | {p for p in _paths(model) if _within(p, matched)})


@taught
def unfreeze(model: Layer, *patterns: str) -> Layer:
    """The model with the layers that the patterns match, and all layers inside them, trained again.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
    >>> sorted(jl.unfreeze(jl.freeze(model), "head").frozen)
    ['base']
    """
    matched = {path for pattern in patterns or ("**",) for path in match_layers(pattern, _paths(model))}
    thawed = {p for p in _paths(model) if _within(p, matched)}
    around = {p for t in thawed for p in above(t)}
    return model.with_frozen(model.frozen - thawed - around)


@taught
def trainable_mask(model: Layer, params: Mapping[str, Any]) -> dict[str, Any]:
    """Python bools in the structure of `params`: True where the parameter is trained.

    >>> import jlayers as jl, jax
    >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> jl.trainable_mask(jl.freeze(model, "base"), params)["base"]
    {'kernel': False, 'bias': False}
    """
    paths = set(_paths(model))

    def trained(path: str, leaf: Any) -> bool:
        owner = path
        while owner and owner not in paths:
            owner = owner.rpartition("/")[0]
        return owner not in model.frozen

    return map_with_path(trained, params)


def trained_params(model: Layer, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are trained: the adapters of a `LoRA`, or the head on a frozen base.

    On their own they fit into a small file. `jl.load_weights(file, params, state, partial=True)` puts them
    back.

    >>> import jlayers as jl, jax
    >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
    >>> params, state = model.init(jax.random.key(0), (1, 4))
    >>> list(jl.trained_params(jl.freeze(model, "base"), params))
    ['head']
    """
    trained = flatten(trainable_mask(model, params))
    return unflatten({path: leaf for path, leaf in flatten(params).items() if trained[path]})


def _paths(model: Layer) -> list[str]:
    return [path for path, _ in model.walk()]


def _within(path: str, roots: set[str]) -> bool:
    return path in roots or any(p in roots for p in above(path))
