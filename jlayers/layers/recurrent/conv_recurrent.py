"""LSTMs over sequences of series, images and volumes, with convolutions in place of products."""

from __future__ import annotations

from typing import Literal

from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.layers._arguments import DataFormat
from jlayers.layers.recurrent._conv_recurrence import conv_lstm

__all__ = ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]


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
    """LSTM over sequences of images, with convolutions in place of products (Shi et al., 2015). As in Keras.

    Inputs: sequences `(batch, time, height, width, channels)` and optionally the initial state `h` and `c`,
    each of the shape of an output. The result is the last output `(batch, new_height, new_width, filters)`,
    or all of them with a time axis; with `return_state` the tuple `(output, h, c)`.

    Parameters: `kernel` `(*kernel_size, channels, 4 * filters)`, `recurrent_kernel`
    `(*kernel_size, filters, 4 * filters)`, `bias` `(4 * filters,)`, with the gates i, f, c, o side by side.

    Under a mask `(batch, time)` the state skips padding. Outputs of all steps keep the mask.

    Args:
        filters: number of channels of the output and of the memory cell.
        strides: distance between windows in the input; the state keeps its size.
        padding: padding of the input: "valid" for none, "same" for `ceil(size / strides)` outputs.
        data_format: "channels_last", the default, or "channels_first", with the channels after the time.
        dilation_rate: distance between the cells of the window in the input.
        activation: applied to the candidate and to the memory cell; None for none.
        dropout: fraction of the input dropped in training, with one mask per gate for all steps; from 0 to 1.

    Raises:
        ValueError: sizes below 1, unknown padding, strides with dilation, a rate outside [0, 1], a window
            larger than the input, an input of another rank, or an initial state that does not fit.
        TypeError: complex numbers as input.
        MissingKeyError: dropout in training without a key.

    >>> import jax, jlayers as jl
    >>> conv = jl.ConvLSTM2D(4, 3, padding="same")
    >>> x = jax.numpy.ones((2, 5, 8, 8, 3))
    >>> params, state = conv.init(jax.random.key(0), x)
    >>> conv.apply(params, state, x)[0].shape
    (2, 8, 8, 4)
    """
    return conv_lstm(2, **locals())


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
    """LSTM over sequences of series, by convolutions. As `ConvLSTM2D`, over one axis.

    Inputs: sequences `(batch, time, steps, channels)`. The last output is `(batch, new_steps, filters)`.

    >>> import jax, jlayers as jl
    >>> conv = jl.ConvLSTM1D(4, 3, padding="same")
    >>> x = jax.numpy.ones((2, 5, 8, 3))
    >>> params, state = conv.init(jax.random.key(0), x)
    >>> conv.apply(params, state, x)[0].shape
    (2, 8, 4)
    """
    return conv_lstm(1, **locals())


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
    """LSTM over sequences of volumes, by convolutions. As `ConvLSTM2D`, over three axes.

    Inputs: sequences `(batch, time, depth, height, width, channels)`. The last output is
    `(batch, new_depth, new_height, new_width, filters)`.

    >>> import jax, jlayers as jl
    >>> conv = jl.ConvLSTM3D(4, 3, padding="same")
    >>> x = jax.numpy.ones((1, 2, 4, 4, 4, 3))
    >>> params, state = conv.init(jax.random.key(0), x)
    >>> conv.apply(params, state, x)[0].shape
    (1, 4, 4, 4, 4)
    """
    return conv_lstm(3, **locals())
