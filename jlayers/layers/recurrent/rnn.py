"""A cell of any kind run over time, and several cells as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.errors import refused
from jlayers.core.layer import Layer, LayerLike, Wiring, layer
from jlayers.core.masks import Masked, refusal
from jlayers.core.names import number_children
from jlayers.core.notes import note_errors, observe
from jlayers.core.pair import Pair
from jlayers.core.shapes import describe
from jlayers.core.wiring import as_layer, child_key, routed
from jlayers.layers.recurrent._recurrence import masked_steps, need_steps, step_mask
from jlayers.layers.recurrent._stateful import stateful_wiring
from jlayers.layers.recurrent._steps import before_steps, between_steps
from jlayers.ops.recurrent import scan_time

__all__ = ["RNN", "StackedRNNCells"]


@layer
def RNN(
    cell: LayerLike | list[LayerLike],
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
):
    """Runs a cell over time. As in Keras.

    A cell is any layer that gives `(output, *states)` for `(x, *states)`, and for `x` only: that call
    tells the shapes of the states, which start as zeros. It is not needed if initial states are given.

    Takes sequences `(batch, time, ...)` and optionally the initial states. Gives the last output of the cell,
    or all of them with a time axis; with `return_state` the tuple `(output, *states)`. Parameters and state:
    those of the cell, under `cell`; a cell's own state, such as running averages, goes from step to step,
    and losses in it are summed. The cell has the same key at all steps, so its dropout is one mask.

    Under a mask `(batch, time)` the states pass over padding as if it were not there. Outputs of all steps
    have the mask, too, turned round with them by `go_backwards` (Keras leaves it as it was). Before the
    first real step the output is 0 (in Keras the first state, which it takes for the output).

    Args:
        cell: such as `LSTMCell`; a list of cells means `StackedRNNCells`.

    Raises:
        TypeError: a layer that gives no states, or a mask where the cell has a state of its own.
        ValueError: an input that is not a sequence, initial states that do not fit, or states that change
            their shape.

    >>> import jax, jlayers as jl
    >>> rnn = jl.RNN([jl.LSTMCell(16), jl.GRUCell(4)], return_sequences=True)
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = rnn.init(jax.random.key(0), x)
    >>> rnn.apply(params, state, x)[0].shape
    (2, 5, 4)
    >>> list(params["cell"])
    ['lstm_cell', 'gru_cell']
    """
    inner = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else as_layer(cell, "RNN")

    def wire(children: Mapping[str, Layer]) -> Pair:
        child = children["cell"]

        def init(key: Any, x: Any, *initial: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            x_t = _first_step(x, unroll)
            with note_errors("cell", child, (x_t,)):
                params, state = child.init(child_key(key, "cell"), x_t, *initial)
            return {"cell": params} if params else {}, {"cell": state} if state else {}

        def apply(
            params: Any, x: Any, *initial: Any, state: Any, key: Any, train: bool, mask: Any
        ) -> tuple[Any, dict[str, Any]]:
            real = step_mask(x, mask)
            own, cell_state = params.get("cell", {}), state.get("cell", {})
            key = child_key(key, "cell") if child.draws else None
            if real is not None and cell_state:
                raise refusal(Masked(x, real), f"and the state of its cell {child!r} sees all steps")

            def run(cell_state: Any, x_t: Any, *states: Any) -> tuple[Any, tuple[Any, ...], Any]:
                with note_errors("cell", child, (x_t, *states)), jax.named_scope("cell"):
                    result, after = child.apply(own, cell_state, x_t, *states, key=key, train=train)
                    output, states = output_and_states(child, result)
                return output, states, after

            with observe(lambda *run: None):  # this trace is not a run of the cell
                output, states, _ = jax.eval_shape(run, cell_state, _first_step(x, unroll), *initial)
            zeros = jnp.zeros(output.shape, output.dtype)
            start = (zeros, _first_states(states, initial), before_steps(cell_state))

            def step(before: Any, x_t: Any) -> Any:
                _, states, cell_state = before
                output, states, after = run(cell_state, x_t, *states)
                return output, states, between_steps(cell_state, after)

            options = {"sequences": return_sequences, "backwards": go_backwards}
            output, (_, states, cell_state) = scan_time(
                step, start, x, unroll=unroll, mask=real, zeros=zero_output_for_mask, **options
            )
            output = masked_steps(output, real, **options)
            moved = {**state, "cell": cell_state} if cell_state else state
            return ((output, *states) if return_state or stateful else output), moved

        return Pair(init, apply, draws=child.draws)

    if stateful:
        return stateful_wiring(wire, return_state=return_state, children={"cell": inner})
    return Wiring({"cell": inner}, wire)


def _first_step(x: Any, unroll: bool) -> jax.ShapeDtypeStruct:
    if len(x.shape) < 3:
        raise refused(
            ValueError,
            "expected sequences (batch, time, ...)",
            x,
            instead="the batch dimension may be missing: add one with x[None]",
        )
    need_steps(x, unroll)
    return jax.ShapeDtypeStruct((x.shape[0], *x.shape[2:]), x.dtype)


def output_and_states(cell: Layer, result: Any) -> tuple[Any, tuple[Any, ...]]:
    if not (isinstance(result, (tuple, list)) and len(result) > 1 and hasattr(result[0], "shape")):
        raise refused(
            TypeError,
            f"expected a cell that gives a tuple (output, *states), such as LSTMCell, not {describe(result)}",
            cell=cell,
        )
    return result[0], tuple(result[1:])


def _first_states(states: Any, initial: tuple[Any, ...]) -> Any:
    """The states before the first step, nested as the cell gives them back: zeros if none is given."""
    if not initial:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), states)
    expected, structure = jax.tree.flatten(states)
    arrays = jax.tree.leaves(initial)
    if [s.shape for s in arrays] != [s.shape for s in expected]:
        raise refused(
            ValueError,
            f"expected a cell that gives back states of the shapes it took, {describe(initial)}",
            states,
        )
    return structure.unflatten([s.astype(e.dtype) for s, e in zip(arrays, expected, strict=True)])


@layer
def StackedRNNCells(cells: list[LayerLike]):
    """Cells on top of each other as one cell, as in Keras: each takes the output of the one before.

    Takes `x` and one state per cell: an array for a cell with one, such as `GRUCell`, and a tuple for a cell
    with several, such as `LSTMCell`. Gives `(output, *states)` alike. Parameters: those of the cells by name.

    Args:
        cells: the cells in order. A cell that appears twice shares its weights.

    Raises:
        ValueError: no cells, or a number of states that is not the number of cells.

    >>> import jax, jlayers as jl
    >>> cell = jl.StackedRNNCells([jl.LSTMCell(16), jl.GRUCell(4)])
    >>> x = jax.numpy.ones((2, 8))
    >>> params, state = cell.init(jax.random.key(0), x)
    >>> (y, lstm_state, gru_state), state = cell.apply(params, state, x)
    >>> len(lstm_state), gru_state.shape
    (2, (2, 4))
    """
    members = [as_layer(cell, f"StackedRNNCells, position {i}") for i, cell in enumerate(cells)]
    if not members:
        raise refused(ValueError, "expected at least one cell", cells=cells)
    children = number_children(members, "StackedRNNCells")
    name_of = {member: name for name, member in children.items()}

    def route(call: Any, x: Any, *states: Any) -> Any:
        if states and len(states) != len(members):
            raise refused(
                ValueError,
                f"expected {len(members)} states, one per cell, and a tuple for a cell with several, not "
                f"{len(states)}",
                *states,
            )
        new: list[Any] = []
        for i, member in enumerate(members):
            own = states[i] if states else ()
            parts = own if isinstance(own, (tuple, list)) else (own,)
            x, moved = output_and_states(member, call(name_of[member], x, *parts))
            single = len(moved) == 1 and not isinstance(moved[0], tuple)
            new.extend(moved if single else [moved])
        return (x, *new)

    return routed(children, route)
