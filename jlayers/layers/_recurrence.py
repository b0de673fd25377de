"""What recurrent layers share: their weights, checks, dropout masks and the walk through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import activations, initializers, regularizers
from jlayers.core import need_key
from jlayers.layers._arguments import fraction, need_floating, need_rank, positive
from jlayers.ops.recurrent import scan_time
from jlayers.shapes import describe, param_dtype, shape_text

__all__ = ["drop", "function", "joint", "recurrent"]


def function(activation: Any) -> Callable[..., Any]:
    """The activation by name or object; None is the identity."""
    return activations.get(activation) or (lambda x: x)


def joint(params: Any, masks: Any) -> tuple[Any, Any]:
    """Kernel and masks for the input beside the state: one product per step, whose gradient is one, too."""
    kernel = jnp.concatenate([params["kernel"], params["recurrent_kernel"]])
    return kernel, None if masks is None else jnp.concatenate(masks, axis=2)


def recurrent(
    type_name: str,
    cell: Callable[..., Any],
    *,
    units: int,
    gates: int,
    states: tuple[str, ...] = ("h",),
    initial_values: tuple[Any, Any, Any],
    penalties: tuple[Any, Any, Any],
    bias_shape: tuple[int, ...] | None,
    rates: tuple[float, float],
    return_state: bool,
    sequences: bool,
    backwards: bool,
    unroll: bool,
) -> tuple[Any, Any]:
    """The pair of a layer whose state a cell carries from step to step; the output is its first part.

    Args:
        type_name: of the layer, for errors.
        cell: `cell(params, masks) -> step`, `step(state, x_t) -> state`; `masks` is None or the dropout
            masks of the gates for the input and for the state.
        units: width of the state.
        gates: how many blocks of `units` columns the kernels have.
        states: names of the parts of the state.
        initial_values: initialisers of kernel, recurrent kernel and bias.
        penalties: regularisers of the same; looked up here to refuse a wrong name early.
        bias_shape: None for no bias.
        rates: of dropout on the input and on the state.
        return_state: the output is followed by the last state.
        sequences: outputs of all steps.
        backwards: begin at the last step.
        unroll: no loop in the compiled program.
    """
    positive(type_name, "units", units)
    for argument, rate in zip(("dropout", "recurrent_dropout"), rates, strict=True):
        fraction(type_name, argument, rate)
    kernel_init, recurrent_init, bias_init = map(initializers.get, initial_values)
    for regularizer in penalties:
        regularizers.get(regularizer)

    def check(x: Any, initial: tuple[Any, ...]) -> None:
        need_floating(type_name, x)
        need_rank(type_name, x, 3, "(batch, time, features)")
        if initial and [tuple(s.shape) for s in initial] != [(x.shape[0], units)] * len(states):
            raise ValueError(
                f"{type_name}: expected the initial state {', '.join(states)}, each of shape "
                f"(batch, units) = {shape_text((x.shape[0], units))}, received {describe(initial)}"
            )
        if unroll and not isinstance(x.shape[1], int):
            raise ValueError(
                f"{type_name}: expected a fixed number of time steps, received {describe(x)} with "
                f"unroll={unroll}; give jl.Input the number of steps, or set unroll=False"
            )

    def init(key: Any, x: Any, *initial: Any) -> dict[str, Any]:
        check(x, initial)
        keys, dtype = jax.random.split(key, 3), param_dtype(x)
        params = {
            "kernel": kernel_init(keys[0], (x.shape[2], gates * units), dtype),
            "recurrent_kernel": recurrent_init(keys[1], (units, gates * units), dtype),
        }
        if bias_shape:
            params["bias"] = bias_init(keys[2], bias_shape, dtype)
        return params

    def apply(
        params: dict[str, Array],
        x: Float[Array, "batch time features"],
        *initial: Float[Array, "batch units"],
        key: Any,
        train: bool,
    ) -> Any:
        check(x, initial)
        params = jax.tree.map(lambda p: p.astype(x.dtype), params)
        masks = None
        if train and any(rates):
            x, masks = drop(need_key(key), rates, gates, x, units)
        zeros = jnp.zeros((x.shape[0], units), x.dtype)
        start = tuple(s.astype(x.dtype) for s in initial) or (zeros,) * len(states)
        output, last = scan_time(
            cell(params, masks), start, x, backwards=backwards, sequences=sequences, unroll=unroll
        )
        return (output, *last) if return_state else output

    apply.draws = any(rates)  # type: ignore[attr-defined]
    return init, apply


def drop(key: Any, rates: tuple[float, float], gates: int, x: Any, units: int) -> tuple[Any, Any]:
    """The input under dropout, and the masks that are left for the steps; all are drawn once per call.

    As in Keras, each gate has masks of its own if the state is dropped, and shares one if it is not.
    """

    def mask(key: Any, rate: float, shape: tuple[int, ...]) -> Any:
        if rate == 1:
            return jnp.zeros(shape, x.dtype)
        return jax.random.bernoulli(key, 1 - rate, shape).astype(x.dtype) / (1 - rate)

    rate, recurrent_rate = rates
    keys = jax.random.split(key)
    batch, _, features = x.shape
    if not recurrent_rate:
        return x * mask(keys[0], rate, (batch, 1, features)), None
    return x, (
        mask(keys[0], rate, (gates, batch, features)),
        mask(keys[1], recurrent_rate, (gates, batch, units)),
    )
