"""Recurrent layers that continue where their last call ended: `stateful=True`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer, Wiring
from jlayers.core.lifting import lift
from jlayers.core.pair import Pair
from jlayers.core.shapes import wide_dtype
from jlayers.core.state import CARRY

__all__ = ["stateful_wiring"]

Wire = Callable[[Mapping[str, Layer]], Pair]


def stateful_wiring(
    wire: Wire,
    *,
    return_state: bool,
    names: Sequence[str] | None = None,
    children: Mapping[str, Layer] | None = None,
) -> Wiring:
    """A recurrent layer whose last states are the initial ones of the next call.

    Args:
        wire: from the children to the pair of the layer that gives its last states, too, and begins with
            the states that follow its input.
        names: names of the states under `carry`; None to number them.
        children: the layers inside.
    """

    def wire_stateful(children: Mapping[str, Layer]) -> Pair:
        inner = lift(wire(children), "")  # the outer pair has the name

        def init(key: Any, x: Any, *initial: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            if not isinstance(_rows(x), int):
                raise refused(
                    ValueError,
                    "expected a fixed batch size, for which to make the state that stateful=True carries",
                    x,
                    instead="call init with an array or a shape",
                )
            params, state = inner.init(key, x, *initial)
            (_, *states), _ = jax.eval_shape(inner.apply, params, state, x, *initial)
            # As all state in float32 or wider, whatever a policy computes in.
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, wide_dtype(s.dtype)), states)
            return params, {**state, CARRY: _as_dict(zeros, names)}

        def apply(
            params: Any, x: Any, *initial: Any, state: Any, key: Any, train: bool
        ) -> tuple[Any, dict[str, Any]]:
            carry, rest = state[CARRY], {name: s for name, s in state.items() if name != CARRY}
            rows = jax.tree.leaves(carry)[0].shape[0]
            if _rows(x) != rows:
                raise refused(
                    ValueError,
                    f"expected {rows} rows, for which the state that stateful=True carries was made",
                    x,
                    instead="row i continues with row i of the batch before. Use one batch size, or make a "
                    "state for this one: _, state = init(key, x)",
                )
            before = initial or _as_tuple(carry, names)
            (output, *states), rest = inner.apply(params, rest, x, *before, key=key, train=train)
            after = jax.tree.map(lambda new, old: new.astype(old.dtype), _as_dict(states, names), carry)
            return (output, *states) if return_state else output, {**rest, CARRY: after}

        return Pair(init, apply, draws=inner.draws, carries=True)

    return Wiring(children or {}, wire_stateful)


def _as_dict(states: Sequence[Any], names: Sequence[str] | None = None) -> dict[str, Any]:
    """States, nested as a cell gives them, as a nested dict of arrays."""
    keys = names or map(str, range(len(states)))
    return {k: _as_dict(s) if isinstance(s, (tuple, list)) else s for k, s in zip(keys, states, strict=True)}


def _as_tuple(carry: Mapping[str, Any], names: Sequence[str] | None = None) -> tuple[Any, ...]:
    """The way back from `_as_dict`, whatever order the dict has come in."""
    values = (carry[name] for name in names or sorted(carry, key=int))
    return tuple(_as_tuple(value) if isinstance(value, Mapping) else value for value in values)


def _rows(x: Any) -> Any:
    return jax.tree.leaves(x)[0].shape[0]
