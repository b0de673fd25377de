"""The mathematics of recurrent layers: one step of each kind, and the scan that repeats it.

Gates lie side by side in the last axis of the kernels and biases, in Keras's order: i, f, c, o for the
LSTM and z, r, h for the GRU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jlayers.core.masks import expand

__all__ = ["add_bias", "gate_product", "gru_step", "lstm_step", "scan_time"]

Function = Callable[..., Any]


def scan_time(
    step: Callable[[Any, Any], Any],
    initial: Any,
    x: Float[Array, "batch time ..."],
    *,
    backwards: bool,
    sequences: bool,
    unroll: bool,
    mask: Bool[Array, "batch time"] | None = None,
    zeros: bool = False,
) -> tuple[Float[Array, "batch ..."], Any]:
    """Carry a state over the steps of `x`; the first part of the state is the output.

    Args:
        step: `step(state, x_t) -> state`.
        initial: the state before the first step: a tuple that begins with an array.
        x: sequences, `(batch, time, ...)`.
        backwards: begin with the last step; a sequence of outputs stays in the order of processing.
        sequences: return the outputs of all steps, `(batch, time, ...)`, not only the last one.
        unroll: no loop in the compiled program: one copy of the step per time step.
        mask: where a step is not real, the state stays as it was, and with it the output.
        zeros: in a sequence of outputs, those of steps that are not real are 0 instead.

    >>> import jax.numpy as jnp
    >>> running_sum = lambda state, x: (state[0] + x,)
    >>> x = jnp.arange(1.0, 4.0).reshape(1, 3, 1)
    >>> y, _ = scan_time(running_sum, (jnp.zeros((1, 1)),), x, backwards=True, sequences=True, unroll=False)
    >>> y[0, :, 0].tolist()
    [3.0, 5.0, 6.0]
    """

    def output_of(state: Any, real: Any) -> Any:
        if real is None or not zeros:
            return state[0]
        return jnp.where(expand(real, state[0].ndim), state[0], 0)

    def body(state: Any, each: Any) -> tuple[Any, Any]:
        x_t, real = each
        new = step(state, x_t)
        if real is not None:
            new = jax.tree.map(lambda n, old: jnp.where(expand(real, n.ndim), n, old), new, state)
        return new, output_of(new, real) if sequences else None

    steps = (jnp.swapaxes(x, 0, 1), None if mask is None else mask.T)
    state, outputs = jax.lax.scan(body, initial, steps, reverse=backwards, unroll=unroll)
    if not sequences:
        return state[0], state
    if backwards:
        outputs = jnp.flip(outputs, axis=0)
    return jnp.swapaxes(outputs, 0, 1), state


def gate_product(
    x: Float[Array, "batch features"],
    kernel: Float[Array, "features gates*units"],
    masks: Float[Array, "gates batch features"] | None = None,
) -> Float[Array, "batch gates*units"]:
    """`x @ kernel`, in which each gate may see `x` under its own mask."""
    if masks is None:
        return x @ kernel
    blocks = jnp.split(kernel, masks.shape[0], axis=1)
    return jnp.concatenate([(x * masks[i]) @ block for i, block in enumerate(blocks)], axis=1)


def add_bias(
    z: Float[Array, "batch features"], bias: Float[Array, " features"] | None
) -> Float[Array, "batch features"]:
    """`z` plus a row that is the same for the whole batch; None adds nothing."""
    return z if bias is None else z + bias[None, :]


def lstm_step(
    z: Float[Array, "batch ..."],
    c: Float[Array, "batch ..."],
    *,
    activation: Function,
    recurrent_activation: Function,
    axis: int = 1,
) -> tuple[Float[Array, "batch ..."], Float[Array, "batch ..."]]:
    """A long short-term memory step (Hochreiter and Schmidhuber, 1997): the next `h` and `c`.

    Args:
        z: what the input, the last output and the bias give to the gates i, f, c, o.
        c: the memory cell after the step before.
        activation: activation of the candidate and of the cell.
        recurrent_activation: activation of the gates.
        axis: of `z` along which the gates lie: that of the units, or of the channels of images.
    """
    i, f, g, o = jnp.split(z, 4, axis=axis)
    c = recurrent_activation(f) * c + recurrent_activation(i) * activation(g)
    return recurrent_activation(o) * activation(c), c


def gru_step(
    z: Float[Array, "batch 3*units"],
    h: Float[Array, "batch units"],
    recurrent_kernel: Float[Array, "units 3*units"],
    recurrent_bias: Float[Array, " 3*units"] | None = None,
    *,
    activation: Function,
    recurrent_activation: Function,
    reset_after: bool,
    masks: Float[Array, "3 batch units"] | None = None,
) -> Float[Array, "batch units"]:
    """A gated recurrent unit step (Cho et al., 2014): the next `h`.

    Args:
        z: the input's part for all gates, bias included.
        h: the output of the step before.
        recurrent_kernel: `(units, 3 * units)`, gates z, r, h; z keeps the old state.
        recurrent_bias: added to the recurrent product if `reset_after`.
        activation: activation of the candidate.
        recurrent_activation: activation of the gates.
        reset_after: apply the reset gate to the recurrent product, not to `h` before it.
        masks: dropout on `h` for each gate.
    """
    x_keep, x_reset, x_candidate = jnp.split(z, 3, axis=1)
    if reset_after:
        inner = add_bias(gate_product(h, recurrent_kernel, masks), recurrent_bias)
        h_keep, h_reset, h_candidate = jnp.split(inner, 3, axis=1)
        reset = recurrent_activation(x_reset + h_reset)
        candidate = activation(x_candidate + reset * h_candidate)
    else:
        gates, own = jnp.split(recurrent_kernel, [2 * h.shape[1]], axis=1)
        inner = gate_product(h, gates, None if masks is None else masks[:2])
        h_keep, h_reset = jnp.split(inner, 2, axis=1)
        reset = recurrent_activation(x_reset + h_reset)
        candidate = activation(x_candidate + (reset * (h if masks is None else h * masks[2])) @ own)
    keep = recurrent_activation(x_keep + h_keep)
    return keep * h + (1 - keep) * candidate
