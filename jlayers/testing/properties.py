"""The properties that `check_layer` checks: one function each, in a table by name."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jlayers.core.layer import Layer, MissingKeyError, layers
from jlayers.core.precision import with_precision
from jlayers.core.shapes import as_spec, describe
from jlayers.core.sizes import infer, is_known, symbolic
from jlayers.core.state import AUX_LOSS, CARRY, is_carry, reset_state
from jlayers.core.tree import flatten
from jlayers.testing.case import Case, agree, agree_in_form, equal, is_float, jitted, program
from jlayers.testing.gradient import check_gradient
from jlayers.testing.masks import check_mask
from jlayers.transform.freeze import freeze

__all__ = ["PROPERTIES"]


def _need_dict(tree: Any, what: str) -> None:
    if not isinstance(tree, dict):
        raise AssertionError(f"{what}: expected a dict of arrays, received {tree!r}")
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name:
            raise AssertionError(f"{what}: expected names without '/', received {name!r}")
        if not isinstance(value, jax.Array):
            _need_dict(value, f"{what}[{name!r}]")


def _init(case: Case) -> None:
    specs = as_spec(case.inputs)
    for tree, what in zip(case.made, ("params", "state"), strict=True):
        _need_dict(tree, what)
    agree(case.layer.init(case.key, *specs), case.made, "init from shapes", exact=True)
    traced = jax.eval_shape(lambda key: case.layer.init(key, *specs), case.key)
    agree_in_form(traced, case.made, "init when traced")


def _state(case: Case) -> None:
    for train in (False, True):
        _, moved = case.compiled[train].eval_shape(*case.arguments(train))
        agree_in_form(moved, case.made[1], f"state after apply(train={train})")


def _jit(case: Case) -> None:
    for train in case.modes:
        key = case.key if train else None
        eager = case.layer.apply(*case.made, *case.inputs, key=key, train=train)
        compiled = case.trained if train else case.inferred
        agree(compiled, eager, f"compiled (output, state) with train={train}")


def _once(case: Case) -> None:
    for train in case.modes:
        _, moved = case.trained if train else case.inferred
        case.run(train, state=moved, inputs=case.others, key=jax.random.fold_in(case.key, 1))
        if case.traces[train] != 1:
            raise AssertionError(
                f"expected one compilation for calls with train={train} on equal shapes, received "
                f"{case.traces[train]}; does the state change its shape, dtype or weak type?"
            )


def _vmap(case: Case) -> None:
    params, state = case.made
    stacked = jax.tree.map(_stack, case.inputs, case.others)
    mapped = jitted(jax.vmap(lambda inputs: case.layer.apply(params, state, *inputs)[0]))(stacked)
    looped = [case.inferred[0], case.run(False, inputs=case.others)[0]]
    agree(mapped, jax.tree.map(_stack, *looped), "output under vmap")


def _stack(a: Any, b: Any) -> jax.Array:
    """By NumPy, which compiles nothing."""
    return jnp.asarray(np.stack([a, b]))


def _rows(case: Case) -> None:
    if case.batch < 2:
        return
    params, state = case.made
    alone = jitted(case.layer.apply)(params, state, *case.rows(1))[0]
    together = jax.tree.map(lambda y: jnp.asarray(np.asarray(y)[:1]) if y.ndim else y, case.inferred[0])
    agree(alone, together, "first row of the output")


def _empty(case: Case) -> None:
    params, state = case.made
    output, _ = jitted(case.layer.apply)(params, state, *case.rows(0))
    expected = jax.tree.map(
        lambda y: jax.ShapeDtypeStruct((0, *y.shape[1:]) if y.ndim else (), y.dtype), case.inferred[0]
    )
    agree_in_form(output, expected, "output for an empty batch")


def _symbolic(case: Case) -> None:
    (batch,) = export.symbolic_shape("batch")
    specs = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]) if x.ndim else (), x.dtype), case.inputs
    )
    params, state = jax.eval_shape(lambda key: case.layer.init(key, *specs), case.key)
    agree_in_form((params, state), case.made, "init with an unknown batch size")
    output, _ = jax.eval_shape(case.layer.apply, params, state, *specs)

    def form(output: Any) -> Any:
        leaves, structure = jax.tree.flatten(output)
        return structure, [(tuple(y.shape[1:]), y.dtype) for y in leaves]

    known, found = form(case.inferred[0]), form(output)
    if found != known:
        raise AssertionError(f"output with an unknown batch size: expected {known}, received {found}")


def _sizes(case: Case) -> None:
    """A graph with the layer, of unknown sizes, must run and give the shapes that it announces."""
    if not any(x.ndim > 2 for x in case.leaves):
        return

    def node(x: Any) -> Any:
        unknown = tuple(None if 0 < axis < x.ndim - 1 else d for axis, d in enumerate(x.shape))
        return jax.ShapeDtypeStruct(symbolic(unknown[1:]), x.dtype) if x.ndim else as_spec(x)

    def made(*specs: Any) -> Any:
        params, state = jax.eval_shape(lambda key: case.layer.init(key, *specs), case.key)
        return params, (params, state, jax.eval_shape(case.layer.apply, params, state, *specs)[0])

    *found, output = infer(made, *jax.tree.map(node, case.inputs))
    agree_in_form(tuple(found), case.made, "init with unknown sizes")
    leaves, structure = jax.tree.flatten(case.inferred[0])
    if jax.tree.structure(output) != structure:
        raise AssertionError(
            f"output with unknown sizes: expected {structure}, received {jax.tree.structure(output)}"
        )
    for known, guess in zip(leaves, jax.tree.leaves(output), strict=True):
        fits = len(known.shape) == len(guess.shape) and known.dtype == guess.dtype
        if not fits or any(is_known(g) and g != k for g, k in zip(guess.shape, known.shape, strict=True)):
            raise AssertionError(
                f"output with unknown sizes: expected {describe(known)} or None in it, "
                f"received {describe(guess)}"
            )


def _dtype(case: Case) -> None:
    if not any(map(is_float, jax.tree.leaves(case.inputs))):
        return
    half = jnp.dtype(jnp.bfloat16)

    def narrow(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, half if is_float(x) else x.dtype), tree)

    specs = narrow(case.inputs)
    params, state = jax.eval_shape(lambda key: case.layer.init(key, *specs), case.key)
    agree_in_form(params, narrow(case.made[0]), "params for bfloat16 inputs")
    for train in (False, True):
        output, moved = jax.eval_shape(
            lambda p, s, x, key, train=train: case.layer.apply(p, s, *x, key=key, train=train),
            params,
            state,
            specs,
            case.key,
        )
        agree_in_form(output, narrow(case.inferred[0]), f"output for bfloat16 inputs, train={train}")
        agree_in_form(moved, state, f"state for bfloat16 inputs, train={train}")


def _precision(case: Case) -> None:
    half = with_precision(case.layer, "mixed_bfloat16")

    def answer(x: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) if is_float(x) else x

    made = jax.eval_shape(lambda key: half.init(key, *as_spec(case.inputs)), case.key)
    for tree, expected, what in zip(made, case.made, ("params", "state"), strict=True):
        agree_in_form(tree, expected, f"{what} with precision='mixed_bfloat16'")
    for train in (False, True):
        apply = functools.partial(half.apply, train=train)
        output, moved = jax.eval_shape(
            lambda p, s, x, key, apply=apply: apply(p, s, *x, key=key), *made, case.inputs, case.key
        )
        expected = jax.tree.map(answer, case.inferred[0])
        agree_in_form(output, expected, f"output with precision='mixed_bfloat16', train={train}")
        agree_in_form(moved, made[1], f"state with precision='mixed_bfloat16', train={train}")


def _same_layer(case: Case, again: Any, how: str, record: Callable[[Any], Any]) -> None:
    if not isinstance(again, Layer) or record(again) != record(case.layer):
        raise AssertionError(f"{how}: expected {record(case.layer)}, received {again!r}")
    agree(again.init(case.key, *case.inputs), case.made, f"init {how}", exact=True)
    if program(again, case, True, case.key) != case.programs[True]:
        output = again.apply(*case.made, *case.inputs, key=case.key, train=True)
        agree(output, case.trained, f"output {how}")


def _pickle(case: Case) -> None:
    _same_layer(case, pickle.loads(pickle.dumps(case.layer)), "after pickling", repr)


def _data(case: Case) -> None:
    text = json.dumps(case.layer.to_data())
    _same_layer(case, layers.get(json.loads(text)), f"built from {text}", Layer.to_data)


def _keys(case: Case) -> None:
    agree(case.run(True), case.trained, "output for the same key", exact=True)
    others = [case.run(True, key=jax.random.fold_in(case.key, i)) for i in range(1, 6)]
    differs = any(not equal(other, case.trained) for other in others)
    keyless = functools.partial(case.layer.apply, train=True)
    if not case.layer.draws:
        if differs:
            raise AssertionError(
                "expected equal outputs for all keys, as apply.draws is False, received different ones"
            )
        jax.eval_shape(keyless, *case.made, *case.inputs)
        return
    if not differs:
        raise AssertionError("expected different outputs for different keys in training, received equal ones")
    try:
        jax.eval_shape(keyless, *case.made, *case.inputs)
    except MissingKeyError:
        return
    raise AssertionError("expected a MissingKeyError in training without a key (see need_key), received none")


def _inference(case: Case) -> None:
    if program(case.layer, case, False, case.key) != case.programs[False]:
        keyed = case.layer.apply(*case.made, *case.inputs, key=case.key)
        agree(keyed, case.inferred, "(output, state) in inference with a key")
    moved, started = _held_still(case.inferred[1]), _held_still(case.made[1])
    agree(moved, started, "state after inference", exact=True)


def _held_still(state: Any) -> Any:
    """The state less what inference moves: `aux_loss`, a value of this call, and `carry`, for the next."""
    if not isinstance(state, dict):
        return state
    return {name: _held_still(value) for name, value in state.items() if name not in (AUX_LOSS, CARRY)}


def _carry(case: Case) -> None:
    begun = {path: leaf for path, leaf in flatten(case.made[1]).items() if is_carry(path)}
    reset = flatten(reset_state(case.inferred[1]))
    agree({path: reset[path] for path in begun}, begun, "what is carried, after reset_state", exact=True)


def _frozen(case: Case) -> None:
    frozen = freeze(case.layer)
    if program(frozen, case, True, None) == case.programs[False] and not case.made[1]:
        return
    output, state = frozen.apply(*case.made, *case.inputs, train=True)
    agree(output, case.inferred[0], "output in training when frozen")
    agree(state, case.made[1], "state after training when frozen", exact=True)


PROPERTIES: Mapping[str, Callable[[Case], None]] = MappingProxyType(
    {
        "init": _init,
        "state": _state,
        "jit": _jit,
        "once": _once,
        "vmap": _vmap,
        "rows": _rows,
        "empty": _empty,
        "symbolic": _symbolic,
        "sizes": _sizes,
        "gradient": check_gradient,
        "dtype": _dtype,
        "precision": _precision,
        "pickle": _pickle,
        "data": _data,
        "keys": _keys,
        "inference": _inference,
        "carry": _carry,
        "frozen": _frozen,
        "mask": check_mask,
    }
)
