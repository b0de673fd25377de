"""The state of attention that decodes step by step: its position, and the keys and values so far."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.state import CARRY
from jlayers.layers._arguments import need_rank, positive

__all__ = ["KeyValueCache", "Positions"]


def no_positions() -> dict[str, Any]:
    """The state before the first call."""
    return {CARRY: {"length": jnp.zeros((), jnp.int32)}}


def next_positions(state: Any, x: Any, train: bool) -> tuple[jax.Array, Any]:
    """The positions `(1, length)` of `x`, and the state after it. Training begins at 0 and moves nothing."""
    steps = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :]
    if train:
        return steps, state
    length = state[CARRY]["length"]
    return steps + length, {CARRY: {"length": length + x.shape[1]}}


@layer
def Positions():
    """The positions of a sequence; in inference they continue from call to call.

    In training each call is a whole sequence, 0, 1, ... In inference a call continues where the last one
    ended, until `jl.reset_state`: for models that decode step by step.

    Shapes: `(batch, length, ...)` to int32 `(1, length)`. State: `carry/length`, the positions so far.

    >>> import jax, jlayers as jl
    >>> positions = jl.Positions()
    >>> x = jax.numpy.ones((2, 3, 4))
    >>> _, state = positions.init(jax.random.key(0), x)
    >>> first, state = positions.apply({}, state, x)
    >>> later, state = positions.apply({}, state, x[:, :1])
    >>> first.tolist(), later.tolist()
    ([[0, 1, 2]], [[3]])
    """

    def init(key: Any, x: Any) -> Any:
        _need_length(x)
        return {}, no_positions()

    def apply(params: Any, x: Any, *, state: Any, train: bool) -> Any:
        _need_length(x)
        return next_positions(state, x, train)

    return init, apply


def _need_length(x: Any) -> None:
    if len(x.shape) < 2:
        raise refused(ValueError, "expected an input (batch, length, ...)", x)


@layer
def KeyValueCache(cache_length: int):
    """Keeps the keys and values of the positions so far, so that a step computes only its own.

    In inference it writes its inputs at their positions, and returns the keys and values of all positions,
    `cache_length` of them: those after the last one written are zeros, for the attention to mask. In training
    a call holds a whole sequence, which is returned unchanged. `MultiHeadAttention` and
    `GroupQueryAttention` contain it if they have `cache_length`; your own attention can use it with
    `Positions`.

    Inputs: `key, value, positions`: `(batch, length, heads, size)` each, and their positions, whole numbers
    `(1, length)`, one after the other. Gives the pair of keys and values, `(batch, cache_length, heads,
    size)`. State: `carry/key` and `carry/value`, for the batch that `init` saw.

    Beyond `cache_length` there is no room. That is an error where the positions are known; a compiled
    function cannot raise on the values of its data, and gives NaN.

    Args:
        cache_length: the most positions, from the first of the prompt to the last one generated.

    Raises:
        ValueError: a length below 1, more positions than there is room for, another batch size than at
            `init`, or keys and values that do not fit each other.

    >>> import jax, jlayers as jl
    >>> cache = jl.KeyValueCache(8)
    >>> key = value = jax.numpy.ones((2, 1, 4, 3))
    >>> at = jax.numpy.array([[0]])
    >>> _, state = cache.init(jax.random.key(0), key, value, at)
    >>> (keys, values), state = cache.apply({}, state, key, value, at)
    >>> keys.shape, keys[0, :3, 0, 0].tolist()
    ((2, 8, 4, 3), [1.0, 0.0, 0.0])
    """
    positive("cache_length", cache_length)

    def check(key: Any, value: Any, positions: Any) -> None:
        for x in (key, value):
            need_rank(x, 4, "(batch, length, heads, size)")
        if key.shape[:2] != value.shape[:2] or positions.shape != (1, key.shape[1]):
            raise refused(
                ValueError,
                "expected keys and values of one batch and length, and positions (1, length)",
                (key, value, positions),
            )

    def init(key: Any, k: Any, v: Any, positions: Any) -> Any:
        check(k, v, positions)
        if not isinstance(k.shape[0], int):
            raise refused(
                ValueError,
                "expected a fixed batch size, for which to make the cache",
                k,
                instead="call init with an array or a shape",
            )

        def empty(x: Any) -> jax.Array:
            return jnp.zeros((x.shape[0], cache_length, *x.shape[2:]), x.dtype)

        return {}, {CARRY: {"key": empty(k), "value": empty(v)}}

    def apply(params: Any, k: Any, v: Any, positions: Any, *, state: Any, train: bool) -> Any:
        check(k, v, positions)
        if train:
            return (k, v), state
        cache, length = state[CARRY], k.shape[1]
        if k.shape[0] != cache["key"].shape[0]:
            raise refused(
                ValueError,
                f"expected {cache['key'].shape[0]} rows, for which the cache was made",
                k,
                instead="make one for this batch: _, state = model.init(key, x)",
            )
        known = not isinstance(positions, Tracer) and positions.size
        if length > cache_length or (known and int(positions[0, -1]) >= cache_length):
            raise refused(
                ValueError,
                f"expected at most cache_length positions, {positions[0, 0] if known else 0} of them in the "
                "cache already",
                k,
                cache_length=cache_length,
                instead="begin anew with jl.reset_state(state), or give the layer a greater cache_length",
            )
        start = positions[0, 0] if length else 0
        fits = start + length <= cache_length
        new = {"key": k, "value": jnp.where(fits, v, jnp.nan)}
        written = {
            name: lax.dynamic_update_slice_in_dim(cache[name], x.astype(cache[name].dtype), start, axis=1)
            for name, x in new.items()
        }
        return (written["key"].astype(k.dtype), written["value"].astype(v.dtype)), {CARRY: written}

    return init, apply
