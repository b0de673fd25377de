"""Recurrent layers: each is a cell; `_recurrence` carries its state over time."""

from __future__ import annotations

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
    """A fully connected recurrent layer (Elman, 1990). As in Keras.

    The state follows `h = activation(x @ kernel + bias + h @ recurrent_kernel)`.

    Inputs: sequences `(batch, time, features)`, float, and optionally the initial state `h` `(batch, units)`.
    The result is the last output `(batch, units)`, or all of them `(batch, time, units)`; with `return_state`
    the tuple `(output, h)`. Parameters: `kernel` `(features, units)`, `recurrent_kernel` `(units, units)`,
    `bias` `(units,)`.

    Under a mask `(batch, time)` the state skips padding. Outputs of all steps keep the mask, in the order of
    the outputs (Keras does not reverse it with `go_backwards`).

    Args:
        units: size of the output.

    Raises:
        ValueError: an input that is not a sequence, a rate outside [0, 1], `units` below 1, or an initial
            state that does not fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> rnn = jl.SimpleRNN(16, return_sequences=True)
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = rnn.init(jax.random.key(0), x)
    >>> rnn.apply(params, state, x)[0].shape
    (2, 5, 16)
    """
    arguments = locals()
    return over_time(simple_rnn(**arguments), **arguments)


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
    """Long short-term memory (Hochreiter and Schmidhuber, 1997). As in Keras.

    Inputs: sequences `(batch, time, features)`, float, and optionally the initial state `h` and `c`,
    `(batch, units)` each. The result is the last output `(batch, units)`, or all of them
    `(batch, time, units)`; with `return_state` the tuple `(output, h, c)`.

    Parameters: `kernel` `(features, 4 * units)`, `recurrent_kernel` `(units, 4 * units)`, drawn as one
    matrix, `bias` `(4 * units,)`, with the gates i, f, c, o side by side.

    Under a mask `(batch, time)` the state skips padding. Outputs of all steps keep the mask, in the order of
    the outputs (Keras does not reverse it with `go_backwards`).

    Args:
        units: size of the output and of the memory cell.
        activation: applied to the candidate and to the memory cell; None for none.
        recurrent_dropout: fraction of the state dropped in training where it feeds back; from 0 to 1. Above
            0, each gate has its own masks, also for the input.

    Raises:
        ValueError: an input that is not a sequence, a rate outside [0, 1], `units` below 1, or an initial
            state that does not fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> lstm = jl.LSTM(16, return_state=True)
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = lstm.init(jax.random.key(0), x)
    >>> (y, h, c), state = lstm.apply(params, state, x)
    >>> y.shape, h.shape, c.shape
    ((2, 16), (2, 16), (2, 16))
    >>> (y, h, c), state = lstm.apply(params, state, x, h, c)  # continues where it stopped
    """
    arguments = locals()
    return over_time(lstm(**arguments), **arguments)


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
    """Gated recurrent unit (Cho et al., 2014): `h = z * h + (1 - z) * candidate`. As in Keras.

    Inputs: sequences `(batch, time, features)`, float, and optionally the initial state `h` `(batch, units)`.
    The result is the last output `(batch, units)`, or all of them `(batch, time, units)`; with `return_state`
    the tuple `(output, h)`.

    Parameters: `kernel` `(features, 3 * units)`, `recurrent_kernel` `(units, 3 * units)`, drawn as one
    matrix, `bias` `(2, 3 * units)` for the input's and the recurrent product, or `(3 * units,)` without
    `reset_after`. The gates z, r, h lie side by side.

    Under a mask `(batch, time)` the state skips padding. Outputs of all steps keep the mask, in the order of
    the outputs (Keras does not reverse it with `go_backwards`).

    Args:
        units: size of the output.
        activation: applied to the candidate; None for none.
        recurrent_dropout: fraction of the state dropped in training where it feeds back; from 0 to 1. Above
            0, each gate has its own masks, also for the input.
        reset_after: apply the reset gate after the recurrent product, as cuDNN does, and not before it.

    Raises:
        ValueError: an input that is not a sequence, a rate outside [0, 1], `units` below 1, or an initial
            state that does not fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> gru = jl.GRU(16)
    >>> params, state = gru.init(jax.random.key(0), (2, 5, 8))
    >>> params["kernel"].shape, params["bias"].shape
    ((8, 48), (2, 48))
    """
    arguments = locals()
    return over_time(gru(**arguments), **arguments)
