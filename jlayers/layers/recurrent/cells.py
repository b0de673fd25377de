"""Cells: one step of each recurrent layer, as a layer. `RNN` carries the state of a cell over time."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jlayers import activations
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.layers.recurrent._recurrence import (
    Recurrence,
    activation_function,
    forgetting_bias,
    joint_kernel,
    one_step,
)
from jlayers.ops import recurrent_cpu
from jlayers.ops.recurrent import add_bias, gate_product, gru_step, lstm_step

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell"]


def simple_rnn(*, units: int, activation: Any, use_bias: bool, **arguments: Any) -> Recurrence:
    """`h = activation(x @ kernel + bias + h @ recurrent_kernel)`, by the arguments of `SimpleRNNCell`."""
    activate = activation_function(activation)

    def cell(params: Any, masks: Any) -> Any:
        kernel, mask = joint_kernel(params, masks)

        def step(state: Any, x_t: Any) -> Any:
            z = gate_product(jnp.concatenate([x_t, *state], axis=1), kernel, mask)
            return (activate(add_bias(z, params.get("bias"))),)

        return step

    return Recurrence(
        units,
        cell,
        (units,) if use_bias else None,
        fast=recurrent_cpu.RNN if has_default_activations(activation) else None,
        **_weights(**arguments),
    )


def lstm(
    *,
    units: int,
    activation: Any,
    recurrent_activation: Any,
    use_bias: bool,
    unit_forget_bias: bool,
    **arguments: Any,
) -> Recurrence:
    """The gates i, f, c, o side by side, by the arguments of `LSTMCell`; see `lstm_step`."""
    activate, activate_gate = activation_function(activation), activation_function(recurrent_activation)
    weights = _weights(**arguments)
    *kernels, bias_values = weights["initial_values"]
    if unit_forget_bias:
        weights["initial_values"] = (*kernels, forgetting_bias(bias_values))

    def cell(params: Any, masks: Any) -> Any:
        kernel, mask = joint_kernel(params, masks)

        def step(state: Any, x_t: Any) -> Any:
            h, c = state
            z = add_bias(gate_product(jnp.concatenate([x_t, h], axis=1), kernel, mask), params.get("bias"))
            return lstm_step(z, c, activation=activate, recurrent_activation=activate_gate)

        return step

    return Recurrence(
        units,
        cell,
        (4 * units,) if use_bias else None,
        gates=4,
        states=("h", "c"),
        fast=recurrent_cpu.LSTM if has_default_activations(activation, recurrent_activation) else None,
        **weights,
    )


def gru(
    *,
    units: int,
    activation: Any,
    recurrent_activation: Any,
    use_bias: bool,
    reset_after: bool,
    **arguments: Any,
) -> Recurrence:
    """The gates z, r, h side by side, by the arguments of `GRUCell`; see `gru_step`."""
    activate, activate_gate = activation_function(activation), activation_function(recurrent_activation)

    def cell(params: Any, masks: Any) -> Any:
        masks_x, masks_h = masks or (None, None)
        bias = params.get("bias")
        of_input, of_product = bias if reset_after and bias is not None else (bias, None)

        def step(state: Any, x_t: Any) -> Any:
            h = gru_step(
                add_bias(gate_product(x_t, params["kernel"], masks_x), of_input),
                state[0],
                params["recurrent_kernel"],
                of_product,
                activation=activate,
                recurrent_activation=activate_gate,
                reset_after=reset_after,
                masks=masks_h,
            )
            return (h,)

        return step

    bias_shape = (2, 3 * units) if reset_after else (3 * units,)
    fast = recurrent_cpu.GRU if reset_after else recurrent_cpu.GRU_RESET_BEFORE
    return Recurrence(
        units,
        cell,
        bias_shape if use_bias else None,
        gates=3,
        fast=fast if has_default_activations(activation, recurrent_activation) else None,
        **_weights(**arguments),
    )


def _weights(
    *,
    kernel_initializer: Any,
    recurrent_initializer: Any,
    bias_initializer: Any,
    dropout: float,
    recurrent_dropout: float,
    **_: Any,
) -> dict[str, Any]:
    """The fields of `Recurrence` that all kinds of cells fill alike."""
    return {
        "initial_values": (kernel_initializer, recurrent_initializer, bias_initializer),
        "rates": (dropout, recurrent_dropout),
    }


def has_default_activations(activation: Any, recurrent_activation: Any = "sigmoid") -> bool:
    """True if the activations are the defaults, which the fast cells have built in."""
    received = activations.get(activation), activations.get(recurrent_activation)
    return received == (activations.tanh, activations.sigmoid)


@layer
def SimpleRNNCell(
    units: int,
    activation: ActivationLike | None = "tanh",
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    recurrent_initializer: InitializerLike = "orthogonal",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    recurrent_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    recurrent_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
):
    """One step of `SimpleRNN`. As in Keras.

    Inputs: `x` `(batch, features)`, float, and the state `h` `(batch, units)`, zeros if it is left out. The
    result is `(output, h)`, in which the output is the new state. Parameters are those of `SimpleRNN`.

    Args:
        units: size of the output.
        dropout: fraction of the input dropped in training; inside an `RNN` the same features at every step.

    Raises:
        ValueError: an input of another rank, a rate outside [0, 1], `units` below 1, or a state that does not
            fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> cell = jl.SimpleRNNCell(16)
    >>> x = jax.numpy.ones((2, 8))
    >>> params, state = cell.init(jax.random.key(0), x)
    >>> (y, h), state = cell.apply(params, state, x)
    >>> (y, h), state = cell.apply(params, state, x, h)  # the next step
    """
    return one_step(simple_rnn(**locals()))


@layer
def LSTMCell(
    units: int,
    activation: ActivationLike | None = "tanh",
    recurrent_activation: ActivationLike | None = "sigmoid",
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    recurrent_initializer: InitializerLike = "orthogonal",
    bias_initializer: InitializerLike = "zeros",
    unit_forget_bias: bool = True,
    kernel_regularizer: RegularizerLike | None = None,
    recurrent_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    recurrent_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
):
    """One step of `LSTM`. As in Keras.

    Inputs: `x` `(batch, features)`, float, and the state `h` and `c`, `(batch, units)` each, zeros if they
    are left out. The result is `(output, h, c)`, in which the output is the new `h`. Parameters are those of
    `LSTM`.

    Args:
        units: size of the output and of the memory cell.
        activation: applied to the candidate and to the memory cell; None for none.
        dropout: fraction of the input dropped in training; inside an `RNN` the same features at every step.
        recurrent_dropout: fraction of the state dropped in training where it feeds back; from 0 to 1. Above
            0, each gate has its own masks, also for the input.

    Raises:
        ValueError: an input of another rank, a rate outside [0, 1], `units` below 1, or a state that does not
            fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> cell = jl.LSTMCell(16)
    >>> x = jax.numpy.ones((2, 8))
    >>> params, state = cell.init(jax.random.key(0), x)
    >>> (y, h, c), state = cell.apply(params, state, x)
    >>> y.shape, h.shape, c.shape
    ((2, 16), (2, 16), (2, 16))
    """
    return one_step(lstm(**locals()))


@layer
def GRUCell(
    units: int,
    activation: ActivationLike | None = "tanh",
    recurrent_activation: ActivationLike | None = "sigmoid",
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    recurrent_initializer: InitializerLike = "orthogonal",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    recurrent_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    recurrent_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    reset_after: bool = True,
):
    """One step of `GRU`. As in Keras.

    Inputs: `x` `(batch, features)`, float, and the state `h` `(batch, units)`, zeros if it is left out. The
    result is `(output, h)`, in which the output is the new state. Parameters are those of `GRU`.

    Args:
        units: size of the output.
        activation: applied to the candidate; None for none.
        dropout: fraction of the input dropped in training; inside an `RNN` the same features at every step.
        recurrent_dropout: fraction of the state dropped in training where it feeds back; from 0 to 1. Above
            0, each gate has its own masks, also for the input.
        reset_after: apply the reset gate after the recurrent product, as cuDNN does, and not before it.

    Raises:
        ValueError: an input of another rank, a rate outside [0, 1], `units` below 1, or a state that does not
            fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> cell = jl.GRUCell(16)
    >>> params, state = cell.init(jax.random.key(0), (2, 8))
    >>> params["kernel"].shape, params["bias"].shape
    ((8, 48), (2, 48))
    """
    return one_step(gru(**locals()))
