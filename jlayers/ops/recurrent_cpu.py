"""SimpleRNN, LSTM and GRU over time for CPUs, with a derivative of their own.

- The weight gradients are gathered after the loop, as products over all steps at once. Differentiated as it
  stands, a scan adds one product per step to arrays as large as the weights.
- What the way back needs of a step is computed on the way there: the factors that stand between what arrives
  at its state and what arrives at its gates. So the way back is a product and a few multiplications per step.
- States lie as `(units, batch)`: the weights are the left factor of a step's product, which takes less
  time than with them as the right one, and each gate is one piece of memory.

The derivative is that of `jax.custom_jvp`: the tangents are the transpose of the way back as it is written
here, and their own transpose is the way back again. So forward mode and higher derivatives work, too.

Other platforms run the plain scan: this has been measured only on CPUs, and cuDNN's LSTM not at all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jlayers.ops.platform import by_platform

__all__ = ["GRU", "GRU_RESET_BEFORE", "LSTM", "RNN", "Cell", "Weights", "over_steps", "run"]

Plain = Callable[..., Any]
State = tuple[jax.Array, ...]

# The batch is the inner axis of the loops over the gates: with 3 rows they lose up to 11 % to the plain scan,
# with 128 or 256 rows and as many units up to 10 %. Between them the step takes 0.5 to 0.94 of its time; that
# of the RNN, whose scan has no gates to lose time with, 0.4 to 0.98, and 1.1 with 64 rows of 256 units.
_ROWS = 8, 64
# Without a gradient it is the faster one for wide layers, if the rows fill vectors.
_LEAST_UNITS, _LANES = 256, 8


class Weights(NamedTuple):
    """As in the layers: the gates side by side in the last axis; `bias` is None if there is none."""

    kernel: jax.Array
    recurrent_kernel: jax.Array
    bias: jax.Array | None = None


class Cell(NamedTuple):
    """One step, there and back.

    Attributes:
        turn: the weights as `forward` wants them, made once before the loop.
        forward: `(turned, state, x_t) -> (state, seen, factors)`, all with the batch last; `seen` is what the
            recurrent kernel is multiplied by.
        backward: `(weights, d_state, factors) -> (d_state, d_gates)`, linear in `d_state`: what arrives at
            the state before the step, and at its gates, the latter as a tuple.
        gather: `(weights, x, seen, d_gates) -> (d_weights, d_x)`, over the rows of all steps; linear in
            `d_gates`.
        biases: the leading axes of the bias, whose last one is that of the gates.
    """

    turn: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    gather: Callable[..., Any]
    biases: tuple[int, ...] = ()


def joint_turn(weights: Any) -> Any:
    """The kernels of input and state, joined, so that each step takes one product."""
    kernel, recurrent_kernel, bias = weights
    return jnp.concatenate([kernel, recurrent_kernel]).T, bias[:, None]


def joint_gather(weights: Any, x: Any, h: Any, d_gates: Any) -> Any:
    (d_z,) = d_gates
    kernel, split = weights.kernel, x.shape[1]
    d_kernels = jnp.concatenate([x, h], axis=1).T @ d_z
    return Weights(d_kernels[:split], d_kernels[split:], d_z.sum(0)), d_z @ kernel.T


def rnn_forward(turned: Any, state: Any, x: Any) -> Any:
    kernel, bias = turned
    new = jnp.tanh(kernel @ jnp.concatenate([x, *state]) + bias)
    return (new,), state[0], 1 - new * new


def rnn_backward(weights: Any, d_state: Any, factor: Any) -> Any:
    d_z = d_state[0] * factor
    return (weights.recurrent_kernel @ d_z,), (d_z,)


RNN = Cell(joint_turn, rnn_forward, rnn_backward, joint_gather)


def lstm_forward(turned: Any, state: Any, x: Any) -> Any:
    kernel, bias = turned
    h, c = state
    i, f, g, o = jnp.split(kernel @ jnp.concatenate([x, h]) + bias, 4)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    new = f * c + i * g
    squashed = jnp.tanh(new)
    to_gates = g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)
    return (o * squashed, new), h, (*to_gates, f, o * (1 - squashed * squashed))


def lstm_backward(weights: Any, d_state: Any, factors: Any) -> Any:
    *to_gates, keep, to_cell = factors
    d_h, d_c = d_state
    d_c = d_c + d_h * to_cell
    arriving = d_c, d_c, d_c, d_h
    d_z = jnp.concatenate([factor * d for factor, d in zip(to_gates, arriving, strict=True)])
    return (weights.recurrent_kernel @ d_z, d_c * keep), (d_z,)


LSTM = Cell(joint_turn, lstm_forward, lstm_backward, joint_gather)


def gru_turn(weights: Any) -> Any:
    kernel, recurrent_kernel, bias = weights
    return kernel.T, recurrent_kernel.T, bias[0][:, None], bias[1][:, None]


def gru_forward(turned: Any, state: Any, x: Any) -> Any:
    kernel, recurrent_kernel, of_input, of_product = turned
    (h,) = state
    x_keep, x_reset, x_candidate = jnp.split(kernel @ x + of_input, 3)
    h_keep, h_reset, h_candidate = jnp.split(recurrent_kernel @ h + of_product, 3)
    keep, reset = jax.nn.sigmoid(x_keep + h_keep), jax.nn.sigmoid(x_reset + h_reset)
    candidate = jnp.tanh(x_candidate + reset * h_candidate)
    new = keep * h + (1 - keep) * candidate
    to_keep = (h - candidate) * keep * (1 - keep)
    to_candidate = (1 - keep) * (1 - candidate * candidate)
    to_reset = to_candidate * h_candidate * reset * (1 - reset)
    return (new,), h, (to_keep, to_reset, to_candidate * reset, to_candidate, keep)


def gru_backward(weights: Any, d_state: Any, factors: Any) -> Any:
    *to_product, to_candidate, keep = factors
    (d_h,) = d_state
    d_product = jnp.concatenate([factor * d_h for factor in to_product])
    return (weights.recurrent_kernel @ d_product + d_h * keep,), (d_product, d_h * to_candidate)


def gru_gather(weights: Any, x: Any, h: Any, d_gates: Any) -> Any:
    # The input's gates and those of the recurrent product share all but the last third.
    d_product, d_candidate = d_gates
    kernel, units = weights.kernel, h.shape[1]
    shared, own = kernel[:, : 2 * units], kernel[:, 2 * units :]
    d_x = d_product @ jnp.concatenate([shared, jnp.zeros_like(own)], axis=1).T + d_candidate @ own.T
    d_kernel = jnp.concatenate([(x.T @ d_product)[:, : 2 * units], x.T @ d_candidate], axis=1)
    of_product = d_product.sum(0)
    of_input = jnp.concatenate([of_product[: 2 * units], d_candidate.sum(0)])
    return Weights(d_kernel, h.T @ d_product, jnp.stack([of_input, of_product])), d_x


GRU = Cell(gru_turn, gru_forward, gru_backward, gru_gather, biases=(2,))


def reset_before_turn(weights: Any) -> Any:
    kernel, recurrent_kernel, bias = weights
    gates, own = _gates_and_candidate(recurrent_kernel)
    return kernel.T, gates.T, own.T, bias[:, None]


def reset_before_forward(turned: Any, state: Any, x: Any) -> Any:
    kernel, gates, own, bias = turned
    (h,) = state
    x_keep, x_reset, x_candidate = jnp.split(kernel @ x + bias, 3)
    h_keep, h_reset = jnp.split(gates @ h, 2)
    keep, reset = jax.nn.sigmoid(x_keep + h_keep), jax.nn.sigmoid(x_reset + h_reset)
    left = reset * h
    candidate = jnp.tanh(x_candidate + own @ left)
    to_keep = (h - candidate) * keep * (1 - keep)
    to_candidate = (1 - keep) * (1 - candidate * candidate)
    new = keep * h + (1 - keep) * candidate
    return (new,), (h, left), (to_keep, left * (1 - reset), to_candidate, reset, keep)


def reset_before_backward(weights: Any, d_state: Any, factors: Any) -> Any:
    to_keep, to_reset, to_candidate, reset, keep = factors
    gates, own = _gates_and_candidate(weights.recurrent_kernel)
    (d_h,) = d_state
    d_candidate = d_h * to_candidate
    d_left = own @ d_candidate
    d_gates = jnp.concatenate([d_h * to_keep, d_left * to_reset])
    d_before = gates @ d_gates + d_h * keep + d_left * reset
    return (d_before,), (jnp.concatenate([d_gates, d_candidate]),)


def reset_before_gather(weights: Any, x: Any, seen: Any, d_gates: Any) -> Any:
    (h, left), (d_z,) = seen, d_gates
    d_shared, d_candidate = _gates_and_candidate(d_z)
    d_recurrent = jnp.concatenate([h.T @ d_shared, left.T @ d_candidate], axis=1)
    return Weights(x.T @ d_z, d_recurrent, d_z.sum(0)), d_z @ weights.kernel.T


def _gates_and_candidate(z: Any) -> tuple[Any, Any]:
    gates, candidate = jnp.split(z, [2 * z.shape[1] // 3], axis=1)
    return gates, candidate


GRU_RESET_BEFORE = Cell(reset_before_turn, reset_before_forward, reset_before_backward, reset_before_gather)


def over_steps(
    cell: Cell,
    plain: Plain,
    weights: Weights,
    x: jax.Array,
    start: State,
    mask: jax.Array | None = None,
    *,
    sequences: bool,
    backwards: bool,
) -> tuple[jax.Array, State]:
    """The result of `plain(weights, x, start, mask)`, on CPUs by `run` where its gradient is faster.

    Args:
        cell: `RNN`, `LSTM`, `GRU` or `GRU_RESET_BEFORE`.
        plain: the same by `scan_time`.
        weights: without a bias, one of zeros is added, which costs nothing.
        x: sequences, `(batch, time, features)`.
        start: the state before the first step, each part `(batch, units)`.
        mask: where a step is not real, `(batch, time)`, the state stays as it was.
        sequences: give the outputs of all steps, `(batch, time, units)`, in the order of processing; else the
            last one alone.
        backwards: begin with the last step.
    """
    known = all(isinstance(size, int) for size in x.shape) and x.size > 0
    few, many = _ROWS
    if not known or not few <= x.shape[0] <= many or x.dtype not in (jnp.float32, jnp.float64):
        return plain(weights, x, start, mask)
    if weights.bias is None:
        recurrent_kernel = weights.recurrent_kernel
        shape = *cell.biases, recurrent_kernel.shape[1]
        weights = weights._replace(bias=jnp.zeros_like(recurrent_kernel, shape=shape))
    fast = functools.partial(run, cell, plain, sequences, backwards)
    return by_platform(fast, plain, weights, x, start, mask)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def run(
    cell: Cell,
    plain: Plain,
    sequences: bool,
    backwards: bool,
    weights: Weights,
    x: jax.Array,
    start: State,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, State]:
    """`over_steps` with the derivative of `cell`."""
    batch, units = start[0].shape
    if units < _LEAST_UNITS or batch % _LANES:
        return plain(weights, x, start, mask)
    return _forward(cell, sequences, backwards, weights, x, start, mask)[0]


def _forward(
    cell: Cell, sequences: bool, backwards: bool, weights: Weights, x: jax.Array, start: State, mask: Any
) -> tuple[Any, Any]:
    """The result of `run`; and what the way back needs of each step: what was seen, and the factors."""
    turned = cell.turn(weights)

    def step(state: Any, each: Any) -> Any:
        x_t, real = each
        new, seen, factors = cell.forward(turned, state, x_t)
        new = _where(real, new, state)
        return new, (new[0].T if sequences else None, jax.tree.map(jnp.transpose, seen), factors)

    steps = jnp.moveaxis(x, 0, 2), _of_steps(mask)
    last, (outputs, *residuals) = lax.scan(step, tuple(s.T for s in start), steps, reverse=backwards)
    last = tuple(s.T for s in last)
    if not sequences:
        return (last[0], last), residuals
    return (_in_order(outputs, backwards, 0), last), residuals


@run.defjvp
def _run_jvp(
    cell: Cell, plain: Plain, sequences: bool, backwards: bool, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    weights, x, _, mask = primals
    result, (seen, factors) = _forward(cell, sequences, backwards, *primals)

    def rows(each: jax.Array) -> jax.Array:
        return each.reshape(-1, each.shape[2])

    def pullback(d_output: Any, d_last: Any) -> Any:
        d_h, *others = d_last
        each = (_in_order(d_output, backwards, 1) if sequences else None, factors, _of_steps(mask))
        d_state = (d_h if sequences else d_h + d_output, *others)

        def step(d_state: Any, each: Any) -> Any:
            d_output, factors, real = each
            if sequences:
                d_state = (d_state[0] + d_output.T, *d_state[1:])
            zeros = tuple(map(jnp.zeros_like, d_state))
            d_before, d_gates = cell.backward(weights, _where(real, d_state, zeros), factors)
            return _where(real, d_before, d_state), tuple(d.T for d in d_gates)

        d_start, d_gates = lax.scan(step, tuple(d.T for d in d_state), each, reverse=not backwards)
        of_steps = jnp.swapaxes(x, 0, 1)
        d_weights, d_x = cell.gather(weights, *jax.tree.map(rows, (of_steps, seen, d_gates)))
        return d_weights, jnp.swapaxes(d_x.reshape(of_steps.shape), 0, 1), tuple(d.T for d in d_start)

    return result, jax.linear_transpose(pullback, *result)(tangents[:3])


def _of_steps(mask: Any) -> Any:
    """Step by step, to stand beside states."""
    return None if mask is None else mask.T[:, None]


def _where(real: Any, new: State, old: State) -> State:
    """`new` where a step is real, else `old`; without a mask every step is."""
    return new if real is None else tuple(jnp.where(real, n, o) for n, o in zip(new, old, strict=True))


def _in_order(outputs: jax.Array, backwards: bool, time: int) -> jax.Array:
    """Swaps batch and time, which is the axis `time`, and the order of the steps with that of processing."""
    return jnp.swapaxes(jnp.flip(outputs, axis=time) if backwards else outputs, 0, 1)
