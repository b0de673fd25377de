"""From the short pair that authors write to the canonical one: `state`, `key`, `train` and `mask` on request.

A short `apply` names what it needs as keyword-only arguments; the canonical one takes the first three and
always returns the state. Masks come with the inputs, as `Masked` values, and none is lost silently.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import NotFloatingError, add_name, details_of
from jlayers.core.habits import apply_error
from jlayers.core.masks import is_masked, leaves, refusal, split, with_mask
from jlayers.core.pair import Pair
from jlayers.core.shapes import as_spec, describe, pluralize
from jlayers.core.spelling import UnknownNameError, nearest

__all__ = [
    "MissingKeyError",
    "lift",
    "need_key",
    "no_params",
]

KEYWORDS = ("state", "key", "train", "mask")


class MissingKeyError(ValueError):
    """A layer had to draw random numbers and no PRNG key was given."""


def no_params(key: Any, *inputs: Any) -> dict[str, Any]:
    """The `init` of a layer without parameters."""
    return {}


def need_key(key: Any) -> Any:
    """`key`, or an error that says how to give one."""
    if key is None:
        raise MissingKeyError(
            "this layer draws random numbers here and was given none to draw from: expected a PRNG key, "
            "received key=None; pass key=jax.random.key(seed) to apply"
        )
    return key


def lift(short: Pair, type_name: str, container: bool = False) -> Pair:
    """The canonical pair from the short one; that of a container is given `Masked` inputs as they are."""
    init, apply, mixes = short.init, short.apply, short.mixes
    parameters = inspect.signature(apply).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"{type_name}: apply takes {', '.join(KEYWORDS)} by name; replace its **")
    for keyword in sorted(keywords - set(KEYWORDS)):
        raise TypeError(
            f"{type_name}: apply asks for {keyword!r}, expected only keywords out of "
            f"{', '.join(KEYWORDS)}: {nearest(keyword, KEYWORDS)}"
        )
    if lost := sorted({p.name for p in parameters if p.kind is not p.KEYWORD_ONLY} & set(KEYWORDS)):
        raise TypeError(f"{type_name}: apply must take {lost[0]!r} by keyword only: put it after a '*'")
    stateful = "state" in keywords
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional) - 1
    least = sum(p.default is p.empty for p in positional) - 1
    masks_pass = container and "mask" not in keywords

    def count(inputs: tuple[Any, ...]) -> None:
        if len(inputs) < least or (most is not None and len(inputs) > most):
            takes = pluralize(least, "input") if least == most else f"{least} to {most or 'any'} inputs"
            raise TypeError(
                f"{type_name} takes {takes}, received {len(inputs)}: {describe(inputs) or 'none'}"
            )

        nested = [x for x in inputs[most is None :] if isinstance(x, (list, tuple))]  # merging takes one list
        if nested and not container and type_name:
            raise TypeError(
                f"{type_name}: expected its inputs one by one, received {len(nested[0])} in a list; write "
                f"layer.apply(params, state, x, h, c), or on nodes layer(x, h, c)"
            )

    def kept_mask(inputs: tuple[Any, ...]) -> Any:
        """The mask that the output has, too; an error if the layer would lose it."""
        x, *others = inputs
        if mixes is None or not is_masked(x) or any(map(is_masked, leaves(others))):
            raise refusal(inputs)
        if any(axis % x.values.ndim < x.mask.ndim for axis in mixes):
            raise refusal(inputs, f"and mixes axes {mixes} under the mask")
        return x.mask

    def lifted_init(key: Any = None, *inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if not _is_key(key):
            raise TypeError(
                f"{type_name}.init: expected a PRNG key first, received key={describe(key)}; write "
                f"layer.init(jax.random.key(seed), x)"
            )
        specs = tuple(map(as_spec, inputs))
        try:
            count(specs)
            plain = specs if masks_pass else split(specs)[0]
            result = _with_fractions(lambda *xs: init(key, *xs), plain, jnp.float32)
        except (TypeError, ValueError) as error:
            _leave(error, type_name)
            raise
        if stateful and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"{type_name}: apply asks for state, so init must return (params, state), "
                f"received {type(result).__name__}"
            )
        params, state = result if stateful else (result, {})
        if not isinstance(params, dict) or not isinstance(state, dict):
            raise TypeError(
                f"{type_name}: params and state are dicts of arrays by name, received "
                f"{type(params).__name__} and {type(state).__name__}"
            )
        for tree, what in ((params, "parameter"), (state, "state")):
            if (name := _wrong_name(tree, not container)) is not None:
                raise ValueError(
                    f"{type_name}.init: expected names without '/', which joins the names of a path, "
                    f"received a {what} named {name!r}; nest dicts, or choose another name"
                )
        return params, state

    def lifted_apply(
        params: Any = None,
        state: Any = None,
        *inputs: Any,
        key: Any = None,
        train: bool = False,
        **others: Any,
    ) -> tuple[Any, Any]:
        if others:
            raise apply_error(type_name, others)
        for value, name in ((params, "params"), (state, "state")):
            if not isinstance(value, Mapping):
                raise TypeError(
                    f"{type_name}.apply: expected {name} as a dict, received {name}={describe(value)}; write "
                    f"params, state = layer.init(key, x) and y, state = layer.apply(params, state, x)"
                )
        known = {"state": state, "key": key, "train": train}
        output_mask = None
        try:
            count(inputs)
            if "mask" in keywords:
                inputs, masks = split(inputs)
                known["mask"] = masks[0] if most == 1 else masks
            elif not container and any(map(is_masked, leaves(inputs))):
                output_mask = kept_mask(inputs)
                inputs, _ = split(inputs)
            extras = {k: known[k] for k in keywords}
            out = _with_fractions(lambda *xs: apply(params, *xs, **extras), inputs, _dtype_of(params))
        except (TypeError, ValueError) as error:
            _leave(error, type_name)
            raise
        except KeyError as error:
            if not container and error.args and error.args[0] not in {**params, **state}:
                raise UnknownNameError(
                    f"{type_name}.apply: expected a parameter or state named {error.args[0]!r}, received "
                    f"params with {list(params)} and state with {list(state)}; both are what "
                    f"layer.init(key, x) gives"
                ) from error
            raise
        output, state = out if stateful else (out, state)
        return with_mask(output, output_mask), state

    draws = "key" in keywords if short.draws is None else short.draws
    return dataclasses.replace(short, init=lifted_init, apply=lifted_apply, draws=draws)


def _leave(error: Exception, type_name: str) -> None:
    """Note that an error leaves a running layer: the outermost one, unless a container says otherwise."""
    add_name(error, type_name)
    details = details_of(error)
    details.path = details.path or ""


def _with_fractions(call: Callable[..., Any], inputs: tuple[Any, ...], dtype: Any) -> Any:
    """`call(*inputs)`. Whole numbers and booleans become `dtype` where it raises `NotFloatingError`."""
    while True:
        try:
            return call(*inputs)
        except NotFloatingError as error:
            refused = as_spec(error.x)
            exact = jnp.issubdtype(refused.dtype, jnp.integer) or refused.dtype == jnp.bool_
            if not exact or not any(as_spec(x) == refused for x in jax.tree.leaves(inputs)):
                raise
        inputs = jax.tree.map(lambda x, old=refused: _astype(x, dtype) if as_spec(x) == old else x, inputs)


def _astype(x: Any, dtype: Any) -> Any:
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, dtype)
    return jnp.asarray(x).astype(dtype)


def _dtype_of(params: Any) -> Any:
    """The dtype of fractions beside these parameters: float32 if there are none."""
    floating = (leaf.dtype for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating))
    return next(floating, jnp.float32)


def _is_key(value: Any) -> bool:
    """True for a PRNG key: a typed one, or the two numbers of an old one."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return False
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or value.dtype == jnp.uint32


def _wrong_name(tree: Mapping[str, Any], below: bool) -> Any:
    """A name in the tree that cannot be part of a path, or None."""
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name or not name:
            return name
        if below and isinstance(value, Mapping) and (found := _wrong_name(value, below)) is not None:
            return found
    return None
