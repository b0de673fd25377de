"""Recurrent layers: each is a cell; `_recurrence` carries its state over time."""

from __future__ import annotations

from jlayers import constraints
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.layers.recurrent._recurrence import over_time
from jlayers.layers.recurrent.cells import gru, lstm, simple_rnn

__all__ = ["GRU", "LSTM", "SimpleRNN"]


@layer
def SimpleRNN(
    units: int,
    activation: ActivationLike | None = "tanh",
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    recurrent_initializer: InitializerLike = "orthogonal",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    recurrent_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    recurrent_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
):
    """A fully connected recurrent layer (Elman, 1990), as in Keras.

    The state follows `h = activation(x @ kernel + bias + h @ recurrent_kernel)`.

    Takes sequences `(batch, time, features)`, float, and optionally the initial state `h`,
    `(batch, units)`. Gives the last output `(batch, units)`, or all of them `(batch, time, units)`; with
    `return_state` the tuple `(output, h)`.

    Under a mask `(batch, time)` the state passes over padding as if it were not there. Outputs of all steps
    have the mask, too, turned round with them by `go_backwards` (Keras leaves it as it was).

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
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        kernel_constraint: what `kernel` is held to after each update; see `Layer.constrain`.
        recurrent_constraint: what `recurrent_kernel` is held to.
        bias_constraint: what `bias` is held to.
        dropout: share of the input features dropped in training, the same ones at every step; from 0 to 1.
        recurrent_dropout: share of the state dropped likewise where it feeds back; from 0 to 1.
        return_sequences: give the outputs of all steps, in the order in which they were computed.
        return_state: give the last state, too.
        go_backwards: begin at the last step.
        stateful: begin where the last call ended, row by row; until `jl.reset_state`.
        unroll: compile one copy of the step per time step and no loop: for short sequences; slow
            to compile for long ones.
        zero_output_for_mask: with `return_sequences`, padding gives 0, not the output of the step before.

    Raises:
        ValueError: an input that is not a sequence, a rate outside [0, 1], `units` below 1, an initial
            state that does not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> rnn = jl.SimpleRNN(16, return_sequences=True)
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = rnn.init(jax.random.key(0), x)
    >>> rnn.apply(params, state, x)[0].shape
    (2, 5, 16)
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
    return over_time(
        recurrence,
        return_state=return_state,
        sequences=return_sequences,
        backwards=go_backwards,
        stateful=stateful,
        unroll=unroll,
        zeros=zero_output_for_mask,
    )


@layer
def LSTM(
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
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    recurrent_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), as in Keras.

    Takes sequences `(batch, time, features)`, float, and optionally the initial state `h` and `c`,
    `(batch, units)` each. Gives the last output `(batch, units)`, or all of them `(batch, time, units)`;
    with `return_state` the tuple `(output, h, c)`. The weights hold the gates i, f, c, o side by side.

    Under a mask `(batch, time)` the state passes over padding as if it were not there. Outputs of all steps
    have the mask, too, turned round with them by `go_backwards` (Keras leaves it as it was).

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
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        kernel_constraint: what `kernel` is held to after each update; see `Layer.constrain`.
        recurrent_constraint: what `recurrent_kernel` is held to.
        bias_constraint: what `bias` is held to.
        dropout: share of the input features dropped in training, the same ones at every step; from 0 to 1.
        recurrent_dropout: share of the state dropped likewise where it feeds back, from 0 to 1. Above 0,
            each gate has masks of its own, for the input, too.
        return_sequences: give the outputs of all steps, in the order in which they were computed.
        return_state: give the last state, too.
        go_backwards: begin at the last step.
        stateful: begin where the last call ended, row by row; until `jl.reset_state`.
        unroll: compile one copy of the step per time step and no loop: for short sequences; slow
            to compile for long ones.
        zero_output_for_mask: with `return_sequences`, padding gives 0, not the output of the step before.

    Raises:
        ValueError: an input that is not a sequence, a rate outside [0, 1], `units` below 1, an initial
            state that does not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> lstm = jl.LSTM(16, return_state=True)
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = lstm.init(jax.random.key(0), x)
    >>> (y, h, c), state = lstm.apply(params, state, x)
    >>> y.shape, h.shape, c.shape
    ((2, 16), (2, 16), (2, 16))
    >>> (y, h, c), state = lstm.apply(params, state, x, h, c)  # goes on where it stopped
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
    return over_time(
        recurrence,
        return_state=return_state,
        sequences=return_sequences,
        backwards=go_backwards,
        stateful=stateful,
        unroll=unroll,
        zeros=zero_output_for_mask,
    )


@layer
def GRU(
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
    activity_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    recurrent_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    reset_after: bool = True,
    zero_output_for_mask: bool = False,
):
    """Gated recurrent unit (Cho et al., 2014), as in Keras: `h = z * h + (1 - z) * candidate`.

    Takes sequences `(batch, time, features)`, float, and optionally the initial state `h`,
    `(batch, units)`. Gives the last output `(batch, units)`, or all of them `(batch, time, units)`; with
    `return_state` the tuple `(output, h)`. The weights hold the gates z, r, h side by side.

    Under a mask `(batch, time)` the state passes over padding as if it were not there. Outputs of all steps
    have the mask, too, turned round with them by `go_backwards` (Keras leaves it as it was).

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
        activity_regularizer: penalty on the output, per row of the batch; see `ActivityRegularization`.
        kernel_constraint: what `kernel` is held to after each update; see `Layer.constrain`.
        recurrent_constraint: what `recurrent_kernel` is held to.
        bias_constraint: what `bias` is held to.
        dropout: share of the input features dropped in training, the same ones at every step; from 0 to 1.
        recurrent_dropout: share of the state dropped likewise where it feeds back, from 0 to 1. Above 0,
            each gate has masks of its own, for the input, too.
        return_sequences: give the outputs of all steps, in the order in which they were computed.
        return_state: give the last state, too.
        go_backwards: begin at the last step.
        stateful: begin where the last call ended, row by row; until `jl.reset_state`.
        unroll: compile one copy of the step per time step and no loop: for short sequences; slow
            to compile for long ones.
        reset_after: apply the reset gate after the recurrent product (as cuDNN does), not before it.
        zero_output_for_mask: with `return_sequences`, padding gives 0, not the output of the step before.

    Raises:
        ValueError: an input that is not a sequence, a rate outside [0, 1], `units` below 1, an initial
            state that does not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> gru = jl.GRU(16)
    >>> params, state = gru.init(jax.random.key(0), (2, 5, 8))
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
    return over_time(
        recurrence,
        return_state=return_state,
        sequences=return_sequences,
        backwards=go_backwards,
        stateful=stateful,
        unroll=unroll,
        zeros=zero_output_for_mask,
    )
