"""Regularizers and constraints of a layer, found by the names of its arguments, and penalties of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jlayers.core.masks import expand, leaves, mask_of, values_of
from jlayers.core.pair import Pair
from jlayers.core.registry import Registry
from jlayers.core.state import AUX_LOSS

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = ["activity_loss", "add_penalty", "arguments_of", "constrain", "penalty"]


def penalty(layer: Layer, params: Mapping[str, Any]) -> jax.Array:
    """The sum of the regularizers; see `Layer.penalty`."""
    wide = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(params))
    total = jnp.zeros((), jnp.float64 if wide else jnp.float32)
    if "" not in layer.frozen:
        regularizers = Registry.of("regularizer")
        for name, regularizer in arguments_of(layer, params, "regularizer"):
            total = total + regularizers.get(regularizer)(params[name]).astype(total.dtype)
    for name, child in layer.children.items():
        if name in params:
            each = jax.vmap(partial(penalty, child)) if layer.stacked else partial(penalty, child)
            total = total + jnp.sum(each(params[name])).astype(total.dtype)
    return total


def constrain(layer: Layer, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the constraints imposed; see `Layer.constrain`."""
    new = dict(params)
    if "" not in layer.frozen:
        constraints = Registry.of("constraint")
        for name, constraint in arguments_of(layer, params, "constraint"):
            new[name] = constraints.get(constraint)(params[name]).astype(params[name].dtype)
    for name, child in layer.children.items():
        if name in params:
            each = jax.vmap(partial(constrain, child)) if layer.stacked else partial(constrain, child)
            new[name] = each(params[name])
    return new


def arguments_of(layer: Layer, params: Mapping[str, Any], role: str) -> Iterator[tuple[str, Any]]:
    """Pairs of a parameter's name and what the argument `<parameter>_<role>` holds for it.

    An argument of an adopted layer counts where this layer has none of its own for the parameter.
    """
    found: dict[str, Any] = {}
    for spec in layer.specs:
        own: dict[str, Any] = {}
        for argument, value in spec.arguments.items():
            if value is not None and argument.endswith("_" + role):
                stem = argument.removesuffix("_" + role)
                # In a layer with one kernel, `depthwise_...` means it; a bias that is off has none.
                for name in (stem, stem + "_kernel", *(["kernel"] if stem == "depthwise" else [])):
                    if name in params:
                        own[name] = value
                        break
        found = {**own, **found}
    yield from found.items()


def add_penalty(pair: Pair, regularizer: Callable[[jax.Array], jax.Array]) -> Pair:
    """The canonical pair that leaves the penalty of its outputs in the state, beside a loss of its own."""
    init, apply = pair

    def penalized_init(key: Any, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        params, state = init(key, *inputs)
        return params, {**state, AUX_LOSS: jnp.zeros((), jnp.float32)}

    def penalized_apply(params: Any, state: Any, *inputs: Any, **keywords: Any) -> tuple[Any, Any]:
        own = {name: value for name, value in state.items() if name != AUX_LOSS}
        output, moved = apply(params, own, *inputs, **keywords)
        loss = activity_loss(regularizer, output)
        return output, {**moved, AUX_LOSS: moved[AUX_LOSS] + loss if AUX_LOSS in moved else loss}

    return pair.wrap(init=penalized_init, apply=penalized_apply)


def activity_loss(regularizer: Callable[[jax.Array], jax.Array], output: Any) -> jax.Array:
    """The penalty of all floating arrays of an output, padding aside, over the rows of the batch: float32."""
    total = jnp.zeros((), jnp.float32)
    for leaf in leaves(output):
        y, mask = values_of(leaf), mask_of(leaf)
        if not jnp.issubdtype(y.dtype, jnp.floating):
            continue
        if mask is not None:
            y = jnp.where(expand(mask, y.ndim), y, 0)
        rows = max(y.shape[0], 1) if y.ndim else 1
        total = total + regularizer(y).astype(jnp.float32) / rows
    return total
