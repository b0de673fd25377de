"""Cells: one step of each recurrent layer, as a layer; `RNN` carries its state over time."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jlayers import activations, constraints
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.layers.recurrent._recurrence import Recurrence, forgetting_bias, function, joint, one_step
from jlayers.ops import recurrent_cpu
from jlayers.ops.recurrent import add_bias, gate_product, gru_step, lstm_step

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell"]


def simple_rnn(units: int, *, activation: Any, use_bias: bool, **weights: Any) -> Recurrence:
    """`h = activation(x @ kernel + bias + h @ recurrent_kernel)`; `weights` are fields of `Recurrence`."""
    activate = function(activation)

    def cell(params: Any, masks: Any) -> Any:
        kernel, mask = joint(params, masks)

        def step(state: Any, x_t: Any) -> Any:
            z = gate_product(jnp.concatenate([x_t, *state], axis=1), kernel, mask)
            return (activate(add_bias(z, params.get("bias"))),)

        return step

    return Recurrence(
        units,
        cell,
        (units,) if use_bias else None,
        fast=recurrent_cpu.RNN if usual(activation) else None,
        **weights,
    )


def lstm(
    units: int,
    *,
    activation: Any,
    recurrent_activation: Any,
    use_bias: bool,
    unit_forget_bias: bool,
    initial_values: tuple[Any, Any, Any],
    **weights: Any,
) -> Recurrence:
    """The gates i, f, c, o side by side; see `lstm_step`."""
    activate, activate_gate = function(activation), function(recurrent_activation)
    *kernels, bias_values = initial_values

    def cell(params: Any, masks: Any) -> Any:
        kernel, mask = joint(params, masks)

        def step(state: Any, x_t: Any) -> Any:
            h, c = state
            z = add_bias(gate_product(jnp.concatenate([x_t, h], axis=1), kernel, mask), params.get("bias"))
            return lstm_step(z, c, activation=activate, recurrent_activation=activate_gate)

        return step

    return Recurrence(
        units,
        cell,
        (4 * units,) if use_bias else None,
        initial_values=(*kernels, forgetting_bias(bias_values) if unit_forget_bias else bias_values),
        gates=4,
        states=("h", "c"),
        fast=recurrent_cpu.LSTM if usual(activation, recurrent_activation) else None,
        **weights,
    )


def gru(
    units: int,
    *,
    activation: Any,
    recurrent_activation: Any,
    use_bias: bool,
    reset_after: bool,
    **weights: Any,
) -> Recurrence:
    """The gates z, r, h side by side; see `gru_step`."""
    activate, activate_gate = function(activation), function(recurrent_activation)

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
        fast=fast if usual(activation, recurrent_activation) else None,
        **weights,
    )


def usual(activation: Any, recurrent_activation: Any = "sigmoid") -> bool:
    """Whether the activations are Keras's defaults, which the fast cells have built in."""
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
    """One step of `SimpleRNN`, as in Keras: `h = activation(x @ kernel + bias + h @ recurrent_kernel)`.

    Takes `x`, `(batch, features)`, float, and the state `h`, `(batch, units)`; without it, zeros. Gives
    `(output, h)`, where the output is the new state.

    Args:
        units: width of the output.
        activation: of the output; None for none.
        use_bias: add a bias.
        kernel_initializer: for `kernel`, `(features, units)`.
        recurrent_initializer: for `recurrent_kernel`, `(units, units)`.
        bias_initializer: for `bias`, `(units,)`.
        kernel_regularizer: penalty on `kernel`.
        recurrent_regularizer: penalty on `recurrent_kernel`.
        bias_regularizer: penalty on `bias`.
        kernel_constraint: what `kernel` is held to after each update; see `Layer.constrain`.
        recurrent_constraint: what `recurrent_kernel` is held to.
        bias_constraint: what `bias` is held to.
        dropout: share of the input features dropped in training, by the key: inside an `RNN` the same ones at
            every step; from 0 to 1.
        recurrent_dropout: share of the state dropped likewise where it feeds back; from 0 to 1.

    Raises:
        ValueError: an input of another rank, a rate outside [0, 1], `units` below 1, a state that does
            not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> cell = jl.SimpleRNNCell(16)
    >>> x = jax.numpy.ones((2, 8))
    >>> params, state = cell.init(jax.random.key(0), x)
    >>> (y, h), state = cell.apply(params, state, x)
    >>> (y, h), state = cell.apply(params, state, x, h)  # the next step
    """
    constraints.check(kernel_constraint, recurrent_constraint, bias_constraint)
    recurrence = simple_rnn(
        units,
        activation=activation,
        use_bias=use_bias,
        initial_values=(kernel_initializer, recurrent_initializer, bias_initializer),
        penalties=(kernel_regularizer, recurrent_regularizer, bias_regularizer),
        rates=(dropout, recurrent_dropout),
    )
    return one_step(recurrence)


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
    """One step of `LSTM` (Hochreiter and Schmidhuber, 1997), as in Keras.

    Takes `x`, `(batch, features)`, float, and the state `h` and `c`, `(batch, units)` each; without it,
    zeros. Gives `(output, h, c)`, where the output is the new `h`. The weights hold the gates i, f, c, o
    side by side.

    Args:
        units: width of the output and of the memory cell.
        activation: of the candidate and of the cell; None for none.
        recurrent_activation: of the gates; None for none.
        use_bias: add a bias.
        kernel_initializer: for `kernel`, `(features, 4 * units)`.
        recurrent_initializer: for `recurrent_kernel`, `(units, 4 * units)`, drawn as one matrix.
        bias_initializer: for `bias`, `(4 * units,)`.
        unit_forget_bias: the forget gate's bias starts at 1 (Jozefowicz et al., 2015).
        kernel_regularizer: penalty on `kernel`.
        recurrent_regularizer: penalty on `recurrent_kernel`.
        bias_regularizer: penalty on `bias`.
        kernel_constraint: what `kernel` is held to after each update; see `Layer.constrain`.
        recurrent_constraint: what `recurrent_kernel` is held to.
        bias_constraint: what `bias` is held to.
        dropout: share of the input features dropped in training, by the key: inside an `RNN` the same ones at
            every step; from 0 to 1.
        recurrent_dropout: share of the state dropped likewise where it feeds back, from 0 to 1. Above 0,
            each gate has masks of its own, for the input, too.

    Raises:
        ValueError: an input of another rank, a rate outside [0, 1], `units` below 1, a state that does
            not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> cell = jl.LSTMCell(16)
    >>> x = jax.numpy.ones((2, 8))
    >>> params, state = cell.init(jax.random.key(0), x)
    >>> (y, h, c), state = cell.apply(params, state, x)
    >>> y.shape, h.shape, c.shape
    ((2, 16), (2, 16), (2, 16))
    """
    constraints.check(kernel_constraint, recurrent_constraint, bias_constraint)
    recurrence = lstm(
        units,
        activation=activation,
        recurrent_activation=recurrent_activation,
        use_bias=use_bias,
        unit_forget_bias=unit_forget_bias,
        initial_values=(kernel_initializer, recurrent_initializer, bias_initializer),
        penalties=(kernel_regularizer, recurrent_regularizer, bias_regularizer),
        rates=(dropout, recurrent_dropout),
    )
    return one_step(recurrence)


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
    """One step of `GRU` (Cho et al., 2014), as in Keras: `h = z * h + (1 - z) * candidate`.

    Takes `x`, `(batch, features)`, float, and the state `h`, `(batch, units)`; without it, zeros. Gives
    `(output, h)`, where the output is the new state. The weights hold the gates z, r, h side by side.

    Args:
        units: width of the output.
        activation: of the candidate; None for none.
        recurrent_activation: of the gates; None for none.
        use_bias: add a bias.
        kernel_initializer: for `kernel`, `(features, 3 * units)`.
        recurrent_initializer: for `recurrent_kernel`, `(units, 3 * units)`, drawn as one matrix.
        bias_initializer: for `bias`, `(2, 3 * units)`: of the input's and of the recurrent product. Without
            `reset_after` it is `(3 * units,)`.
        kernel_regularizer: penalty on `kernel`.
        recurrent_regularizer: penalty on `recurrent_kernel`.
        bias_regularizer: penalty on `bias`.
        kernel_constraint: what `kernel` is held to after each update; see `Layer.constrain`.
        recurrent_constraint: what `recurrent_kernel` is held to.
        bias_constraint: what `bias` is held to.
        dropout: share of the input features dropped in training, by the key: inside an `RNN` the same ones at
            every step; from 0 to 1.
        recurrent_dropout: share of the state dropped likewise where it feeds back, from 0 to 1. Above 0,
            each gate has masks of its own, for the input, too.
        reset_after: apply the reset gate after the recurrent product (as cuDNN does), not before it.

    Raises:
        ValueError: an input of another rank, a rate outside [0, 1], `units` below 1, a state that does
            not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> cell = jl.GRUCell(16)
    >>> params, state = cell.init(jax.random.key(0), (2, 8))
    >>> params["kernel"].shape, params["bias"].shape
    ((8, 48), (2, 48))
    """
    constraints.check(kernel_constraint, recurrent_constraint, bias_constraint)
    recurrence = gru(
        units,
        activation=activation,
        recurrent_activation=recurrent_activation,
        use_bias=use_bias,
        reset_after=reset_after,
        initial_values=(kernel_initializer, recurrent_initializer, bias_initializer),
        penalties=(kernel_regularizer, recurrent_regularizer, bias_regularizer),
        rates=(dropout, recurrent_dropout),
    )
    return one_step(recurrence)
