"""Long short-term memory over sequences of series, images and volumes: convolutions in place of products."""

from __future__ import annotations

from typing import Literal

from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.layers._arguments import DataFormat
from jlayers.layers.recurrent._conv_recurrence import conv_lstm

__all__ = ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]


@layer
def ConvLSTM1D(
    filters: int,
    kernel_size: int | tuple[int],
    strides: int | tuple[int] = 1,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int] = 1,
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
):
    """Long short-term memory over sequences of series, by convolutions (Shi et al., 2015), as in Keras.

    Takes `(batch, time, steps, channels)` and optionally the initial state `h` and `c`, of the
    shape of an output each. Gives the last output `(batch, new_steps, filters)`, or all of them
    with a time axis; with `return_state` the tuple `(output, h, c)`. Parameters: `kernel` `(*kernel_size,
    channels, 4 * filters)`, `recurrent_kernel` `(*kernel_size, filters, 4 * filters)`, `bias`
    `(4 * filters,)`, with the gates i, f, c, o side by side. Under a mask `(batch, time)` the state passes
    over padding as if it were not there; outputs of all steps have the mask, too.

    Args:
        filters: channels of the output and of the memory cell.
        kernel_size: length of the window.
        strides: steps between windows, for the input alone: the state keeps its size.
        padding: "valid" for none, "same" for `ceil(size / strides)` outputs; of the input.
        data_format: "channels_last", which is the default, or "channels_first", with the channels after
            the time.
        dilation_rate: distance between the cells of the window, for the input alone.
        activation: of the candidate and of the cell; None for none.
        dropout: share of the input dropped in training, for each gate by a mask that is the same at every
            step; from 0 to 1.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a rate outside [0, 1], a window
            larger than the input, an input of another rank, or an initial state that does not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> conv = jl.ConvLSTM1D(4, 3, padding="same")
    >>> x = jax.numpy.ones((2, 5, 8, 3))
    >>> params, state = conv.init(jax.random.key(0), x)
    >>> conv.apply(params, state, x)[0].shape
    (2, 8, 4)
    """
    return conv_lstm(
        1,
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
        activation=activation,
        recurrent_activation=recurrent_activation,
        use_bias=use_bias,
        unit_forget_bias=unit_forget_bias,
        initial_values=(kernel_initializer, recurrent_initializer, bias_initializer),
        penalties=(kernel_regularizer, recurrent_regularizer, bias_regularizer),
        rates=(dropout, recurrent_dropout),
        sequences=return_sequences,
        return_state=return_state,
        backwards=go_backwards,
        stateful=stateful,
    )


@layer
def ConvLSTM2D(
    filters: int,
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = 1,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int] = 1,
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
):
    """Long short-term memory over sequences of images, by convolutions (Shi et al., 2015), as in Keras.

    Takes `(batch, time, height, width, channels)` and optionally the initial state `h` and `c`, of the
    shape of an output each. Gives the last output `(batch, new_height, new_width, filters)`, or all of them
    with a time axis; with `return_state` the tuple `(output, h, c)`. Parameters: `kernel` `(*kernel_size,
    channels, 4 * filters)`, `recurrent_kernel` `(*kernel_size, filters, 4 * filters)`, `bias`
    `(4 * filters,)`, with the gates i, f, c, o side by side. Under a mask `(batch, time)` the state passes
    over padding as if it were not there; outputs of all steps have the mask, too.

    Args:
        filters: channels of the output and of the memory cell.
        kernel_size: height and width of the window, or one number for both.
        strides: steps between windows, for the input alone: the state keeps its size.
        padding: "valid" for none, "same" for `ceil(size / strides)` outputs; of the input.
        data_format: "channels_last", which is the default, or "channels_first", with the channels after
            the time.
        dilation_rate: distance between the cells of the window, for the input alone.
        activation: of the candidate and of the cell; None for none.
        dropout: share of the input dropped in training, for each gate by a mask that is the same at every
            step; from 0 to 1.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a rate outside [0, 1], a window
            larger than the input, an input of another rank, or an initial state that does not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> conv = jl.ConvLSTM2D(4, 3, padding="same")
    >>> x = jax.numpy.ones((2, 5, 8, 8, 3))
    >>> params, state = conv.init(jax.random.key(0), x)
    >>> conv.apply(params, state, x)[0].shape
    (2, 8, 8, 4)
    """
    return conv_lstm(
        2,
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
        activation=activation,
        recurrent_activation=recurrent_activation,
        use_bias=use_bias,
        unit_forget_bias=unit_forget_bias,
        initial_values=(kernel_initializer, recurrent_initializer, bias_initializer),
        penalties=(kernel_regularizer, recurrent_regularizer, bias_regularizer),
        rates=(dropout, recurrent_dropout),
        sequences=return_sequences,
        return_state=return_state,
        backwards=go_backwards,
        stateful=stateful,
    )


@layer
def ConvLSTM3D(
    filters: int,
    kernel_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] = 1,
    padding: Literal["valid", "same"] = "valid",
    data_format: DataFormat | None = None,
    dilation_rate: int | tuple[int, int, int] = 1,
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
):
    """Long short-term memory over sequences of volumes, by convolutions (Shi et al., 2015), as in Keras.

    Takes `(batch, time, depth, height, width, channels)` and optionally the initial state `h` and `c`, of the
    shape of an output each. Gives the last output `(batch, new_depth, new_height, new_width, filters)`, or
    all of them with a time axis; with `return_state` the tuple `(output, h, c)`. Parameters: `kernel`
    `(*kernel_size, channels, 4 * filters)`, `recurrent_kernel` `(*kernel_size, filters, 4 * filters)`, `bias`
    `(4 * filters,)`, with the gates i, f, c, o side by side. Under a mask `(batch, time)` the state passes
    over padding as if it were not there; outputs of all steps have the mask, too.

    Args:
        filters: channels of the output and of the memory cell.
        kernel_size: depth, height and width of the window, or one number for all.
        strides: steps between windows, for the input alone: the state keeps its size.
        padding: "valid" for none, "same" for `ceil(size / strides)` outputs; of the input.
        data_format: "channels_last", which is the default, or "channels_first", with the channels after
            the time.
        dilation_rate: distance between the cells of the window, for the input alone.
        activation: of the candidate and of the cell; None for none.
        dropout: share of the input dropped in training, for each gate by a mask that is the same at every
            step; from 0 to 1.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a rate outside [0, 1], a window
            larger than the input, an input of another rank, or an initial state that does not fit.
        TypeError: whole numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> conv = jl.ConvLSTM3D(4, 3, padding="same")
    >>> x = jax.numpy.ones((2, 3, 4, 4, 4, 1))
    >>> params, state = conv.init(jax.random.key(0), x)
    >>> conv.apply(params, state, x)[0].shape
    (2, 4, 4, 4, 4)
    """
    return conv_lstm(
        3,
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
        activation=activation,
        recurrent_activation=recurrent_activation,
        use_bias=use_bias,
        unit_forget_bias=unit_forget_bias,
        initial_values=(kernel_initializer, recurrent_initializer, bias_initializer),
        penalties=(kernel_regularizer, recurrent_regularizer, bias_regularizer),
        rates=(dropout, recurrent_dropout),
        sequences=return_sequences,
        return_state=return_state,
        backwards=go_backwards,
        stateful=stateful,
    )
