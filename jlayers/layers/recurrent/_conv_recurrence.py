"""An LSTM with convolutions in place of products, over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import Wiring, need_key
from jlayers.core.pair import Pair
from jlayers.core.shapes import param_dtype, shape_text
from jlayers.layers._arguments import (
    choice,
    fraction,
    need_features,
    need_floating,
    need_rank,
    positive,
    reshaped_to,
    spatial_shape,
)
from jlayers.layers.convolution.convolution import (
    checked_window,
    dimension_numbers,
    need_room,
    window_extent,
)
from jlayers.layers.recurrent._recurrence import (
    activation_function,
    dropout_mask,
    forgetting_bias,
    masked_steps,
    step_mask,
)
from jlayers.layers.recurrent._stateful import stateful_wiring
from jlayers.ops.recurrent import lstm_step, scan_time

__all__ = ["conv_lstm"]

GATES = 4


def conv_lstm(
    rank: int,
    *,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    data_format: str | None,
    dilation_rate: int | Sequence[int],
    activation: Any,
    recurrent_activation: Any,
    use_bias: bool,
    kernel_initializer: Any,
    recurrent_initializer: Any,
    bias_initializer: Any,
    unit_forget_bias: bool,
    dropout: float,
    recurrent_dropout: float,
    return_sequences: bool,
    return_state: bool,
    go_backwards: bool,
    stateful: bool,
    **_: Any,
) -> Pair | Wiring:
    """The pair of `ConvLSTM1D`, `ConvLSTM2D` or `ConvLSTM3D`, by their arguments.

    The convolution of the inputs does not depend on the state, so one convolution takes all time steps. The
    convolution of the state keeps its size: no strides, padding "same", no dilation, as in Keras.
    """
    positive("filters", filters)
    choice("padding", padding, ("valid", "same"))
    window, steps, dilation = checked_window(rank, kernel_size, strides, dilation_rate, data_format)
    rates = fraction("dropout", dropout), fraction("recurrent_dropout", recurrent_dropout)
    initial_values = kernel_initializer, recurrent_initializer, bias_initializer
    make_kernel, make_recurrent, make_bias = map(initializers.get, initial_values)
    if unit_forget_bias:
        make_bias = forgetting_bias(make_bias)
    activate, activate_gate = activation_function(activation), activation_function(recurrent_activation)
    channel_axis = 1 if data_format == "channels_first" else -1
    layout = dimension_numbers(rank, data_format)
    extent = window_extent(window, dilation)

    def convolve(x: Any, kernel: Any, masks: Any, **options: Any) -> Any:
        """The convolution, in which each gate may see `x` under its own mask."""
        if masks is None:
            return lax.conv_general_dilated(x, kernel, dimension_numbers=layout, **options)
        blocks = zip(masks, jnp.split(kernel, GATES, axis=-1), strict=True)
        return jnp.concatenate(
            [convolve(x * mask, block, None, **options) for mask, block in blocks], axis=channel_axis
        )

    def check(x: Any) -> None:
        need_floating(x)
        need_rank(x, rank + 3, spatial_shape(rank, data_format).replace("(batch, ", "(batch, time, "))
        frame = jax.ShapeDtypeStruct((x.shape[0], *x.shape[2:]), x.dtype)
        need_room(frame, data_format, extent, padding)

    def init(key: Any, x: Any, *initial: Any) -> dict[str, Any]:
        check(x)
        keys, dtype = jax.random.split(key, 3), param_dtype(x)
        channels = x.shape[2 if data_format == "channels_first" else -1]
        params = {
            "kernel": make_kernel(keys[0], (*window, channels, GATES * filters), dtype),
            "recurrent_kernel": make_recurrent(keys[1], (*window, filters, GATES * filters), dtype),
        }
        if use_bias:
            params["bias"] = make_bias(keys[2], (GATES * filters,), dtype)
        return params

    def apply(params: Any, x: jax.Array, *initial: jax.Array, key: Any, train: bool, mask: Any) -> Any:
        check(x)
        real = step_mask(x, mask)
        channels = params["kernel"].shape[-2]
        need_features(x, 2 if data_format == "channels_first" else -1, channels, "channels")
        params = jax.tree.map(lambda p: p.astype(x.dtype), params)
        keys = jax.random.split(need_key(key)) if train and any(rates) else (None, None)
        batch, time, *frame = x.shape

        masks_x = None
        if train and rates[0]:
            masks_x = dropout_mask(keys[0], rates[0], (GATES, batch, 1, *frame), x.dtype)
            masks_x = jnp.broadcast_to(masks_x, (GATES, *x.shape)).reshape(GATES, batch * time, *frame)
        options = {"window_strides": steps, "padding": padding.upper(), "rhs_dilation": dilation}
        z = convolve(x.reshape(batch * time, *frame), params["kernel"], masks_x, **options)
        if use_bias:
            z = z + reshaped_to(z, params["bias"], [channel_axis])
        z = z.reshape(batch, time, *z.shape[1:])

        shape = [batch, *z.shape[2:]]
        shape[channel_axis] = filters
        masks_h = None
        if train and rates[1]:
            masks_h = dropout_mask(keys[1], rates[1], (GATES, *shape), x.dtype)

        def step(state: Any, z_t: Any) -> Any:
            h, c = state
            same = {"window_strides": (1,) * rank, "padding": "SAME"}
            gates = z_t + convolve(h, params["recurrent_kernel"], masks_h, **same)
            return lstm_step(
                gates, c, activation=activate, recurrent_activation=activate_gate, axis=channel_axis
            )

        start = _start(tuple(shape), initial, x.dtype)
        order = {"sequences": return_sequences, "backwards": go_backwards}
        output, last = scan_time(step, start, z, unroll=False, mask=real, **order)
        output = masked_steps(output, real, **order)
        return (output, *last) if return_state or stateful else output

    pair = Pair(init, apply, draws=any(rates))
    if stateful:
        return stateful_wiring(lambda _: pair, return_state=return_state, names=("h", "c"))
    return pair


def _start(shape: tuple[Any, ...], initial: tuple[Any, ...], dtype: Any) -> Any:
    if not initial:
        return (jnp.zeros(shape, dtype),) * 2
    if [tuple(s.shape) for s in initial] != [shape] * 2:
        raise refused(
            ValueError,
            f"expected the initial state h, c, each of the shape of an output, {shape_text(shape)}",
            initial,
        )
    return tuple(s.astype(dtype) for s in initial)
