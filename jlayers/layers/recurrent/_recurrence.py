"""The common part of recurrent layers and their cells: weights, checks, dropout masks, the loop over time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import activations, initializers
from jlayers.core.errors import refused
from jlayers.core.layer import Wiring, need_key
from jlayers.core.masks import Masked, refusal
from jlayers.core.pair import Pair
from jlayers.core.shapes import param_dtype, shape_text
from jlayers.layers._arguments import fraction, need_floating, need_rank, positive
from jlayers.layers.recurrent._stateful import stateful_wiring
from jlayers.ops.dropout import keep_mask
from jlayers.ops.recurrent import scan_time
from jlayers.ops.recurrent_cpu import Cell, Weights, over_steps

__all__ = [
    "Recurrence",
    "activation_function",
    "drop",
    "dropout_mask",
    "forgetting_bias",
    "joint_kernel",
    "masked_steps",
    "need_steps",
    "one_step",
    "over_time",
    "step_mask",
]


def activation_function(activation: Any) -> Callable[..., Any]:
    """The activation by name or object; None is the identity."""
    return activations.get(activation) or (lambda x: x)


def forgetting_bias(initializer: Any) -> Callable[..., Any]:
    """The initializer of an LSTM's bias whose forget gate, the second quarter, starts at 1."""
    values = initializers.get(initializer)

    def draw(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        units = shape[0] // 4
        return values(key, shape, dtype).at[units : 2 * units].set(1)

    return draw


def joint_kernel(params: Any, masks: Any) -> tuple[Any, Any]:
    """Kernel and masks for the input beside the state: one product per step, and one in its gradient."""
    kernel = jnp.concatenate([params["kernel"], params["recurrent_kernel"]])
    return kernel, None if masks is None else jnp.concatenate(masks, axis=2)


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """A kind of cell: its mathematics and its weights. `one_step` and `over_time` make layers of it.

    Attributes:
        units: width of the state.
        cell: `cell(params, masks) -> step`, `step(state, x_t) -> state`, whose first part is the output;
            `masks` is None or the dropout masks of the gates for the input and for the state.
        bias_shape: None for no bias.
        initial_values: initializers of kernel, recurrent kernel and bias.
        rates: rates of dropout on the input and on the state.
        gates: how many blocks of `units` columns the kernels have.
        states: names of the parts of the state.
        fast: the same cell for `ops.recurrent_cpu`, if it is there with these activations.
    """

    units: int
    cell: Callable[..., Any]
    bias_shape: tuple[int, ...] | None
    initial_values: tuple[Any, Any, Any]
    rates: tuple[float, float]
    gates: int = 1
    states: tuple[str, ...] = ("h",)
    fast: Cell | None = None

    def __post_init__(self) -> None:
        positive("units", self.units)
        for argument, rate in zip(("dropout", "recurrent_dropout"), self.rates, strict=True):
            fraction(argument, rate)
        for initializer in self.initial_values:
            initializers.get(initializer)

    def init(self, key: Any, x: Any) -> dict[str, Any]:
        kernel, recurrent, bias = map(initializers.get, self.initial_values)
        keys, dtype = jax.random.split(key, 3), param_dtype(x)
        params = {
            "kernel": kernel(keys[0], (x.shape[-1], self.gates * self.units), dtype),
            "recurrent_kernel": recurrent(keys[1], (self.units, self.gates * self.units), dtype),
        }
        if self.bias_shape:
            params["bias"] = bias(keys[2], self.bias_shape, dtype)
        return params

    def check(self, x: Any, rank: int, shape: str, initial: tuple[Any, ...]) -> None:
        need_floating(x)
        need_rank(x, rank, shape)
        expected = (x.shape[0], self.units)
        if initial and [tuple(s.shape) for s in initial] != [expected] * len(self.states):
            raise refused(
                ValueError,
                f"expected the initial state {', '.join(self.states)}, each of shape (batch, units) = "
                f"{shape_text(expected)}",
                initial,
            )

    def begin(
        self, params: Any, x: Any, initial: tuple[Any, ...], key: Any, train: bool
    ) -> tuple[Any, Any, tuple[Any, ...], Any]:
        """Weights and masks for the cell, the state before it, and the sequences to see: after dropout."""
        params = jax.tree.map(lambda p: p.astype(x.dtype), params)
        masks = None
        if train and any(self.rates):
            x, masks = drop(need_key(key), self.rates, self.gates, x, self.units)
        # Like `x`: inside `jax.shard_map` the state must differ from device to device where `x` does.
        zeros = jnp.zeros_like(x, shape=(x.shape[0], self.units))
        start = tuple(s.astype(x.dtype) for s in initial) or (zeros,) * len(self.states)
        return params, masks, start, x


def one_step(recurrence: Recurrence) -> Pair:
    """The pair of a cell: `apply(params, x, *states) -> (output, *new states)`; without states from zeros."""

    def init(key: Any, x: Any, *states: Any) -> dict[str, Any]:
        recurrence.check(x, 2, "(batch, features)", states)
        return recurrence.init(key, x)

    def apply(
        params: dict[str, Array],
        x: Float[Array, "batch features"],
        *states: Float[Array, "batch units"],
        key: Any,
        train: bool,
    ) -> Any:
        recurrence.check(x, 2, "(batch, features)", states)
        params, masks, start, steps = recurrence.begin(params, x[:, None], states, key, train)
        new = recurrence.cell(params, masks)(start, steps[:, 0])
        return (new[0], *new)

    return Pair(init, apply, draws=any(recurrence.rates))


def over_time(
    recurrence: Recurrence,
    *,
    return_sequences: bool,
    return_state: bool,
    go_backwards: bool,
    stateful: bool,
    unroll: bool,
    zero_output_for_mask: bool,
    **_: Any,
) -> Pair | Wiring:
    """The pair of a layer that runs over sequences, by the arguments of `LSTM`."""

    def check(x: Any, initial: tuple[Any, ...]) -> None:
        recurrence.check(x, 3, "(batch, time, features)", initial)
        need_steps(x, unroll)

    def init(key: Any, x: Any, *initial: Any) -> dict[str, Any]:
        check(x, initial)
        return recurrence.init(key, x)

    def apply(
        params: dict[str, Array],
        x: Float[Array, "batch time features"],
        *initial: Float[Array, "batch units"],
        key: Any,
        train: bool,
        mask: Any,
    ) -> Any:
        check(x, initial)
        real = step_mask(x, mask)
        params, masks, start, x = recurrence.begin(params, x, initial, key, train)
        options = {"sequences": return_sequences, "backwards": go_backwards}

        def plain(weights: Weights, x: Any, start: Any, mask: Any) -> Any:
            step = recurrence.cell(weights._asdict(), masks)
            return scan_time(step, start, x, unroll=unroll, mask=mask, zeros=zero_output_for_mask, **options)

        if (
            recurrence.fast
            and masks is None
            and not unroll
            and not (zero_output_for_mask and real is not None)
        ):
            output, last = over_steps(recurrence.fast, plain, Weights(**params), x, start, real, **options)
        else:
            output, last = plain(Weights(**params), x, start, real)
        output = masked_steps(output, real, **options)
        return (output, *last) if return_state or stateful else output

    pair = Pair(init, apply, draws=any(recurrence.rates))
    if stateful:
        return stateful_wiring(lambda _: pair, return_state=return_state, names=recurrence.states)
    return pair


def step_mask(x: Any, masks: Any) -> Any:
    """The mask `(batch, time)` of the sequences `x` out of those of all inputs, or None."""
    mask, *others = masks
    if mask is not None and mask.ndim != 2:
        raise refusal(Masked(x, mask), "but takes only a mask (batch, time)")
    if any(m is not None for m in jax.tree.leaves(others)):
        raise refusal(x, "with masks on its initial states, which have no steps")
    return mask


def masked_steps(output: Any, mask: Any, *, sequences: bool, backwards: bool) -> Any:
    """Outputs of all steps with their mask, in the order of processing; a last output has none."""
    if mask is None or not sequences:
        return output
    return Masked(output, jnp.flip(mask, axis=1) if backwards else mask)


def need_steps(x: Any, unroll: bool) -> None:
    """Without a loop the program holds each time step, so their number is fixed."""
    if unroll and not isinstance(x.shape[1], int):
        raise refused(
            ValueError,
            "expected a fixed number of time steps",
            x,
            instead="give jl.Input the number of steps, or set unroll=False",
            unroll=unroll,
        )


def drop(key: Any, rates: tuple[float, float], gates: int, x: Any, units: int) -> tuple[Any, Any]:
    """The input under dropout, and the masks that are left for the steps; all are drawn once per call.

    As in Keras, each gate has masks of its own if the state is dropped, and shares one if it is not.
    """
    rate, recurrent_rate = rates
    keys = jax.random.split(key)
    batch, _, features = x.shape
    if not recurrent_rate:
        return x * dropout_mask(keys[0], rate, (batch, 1, features), x.dtype), None
    return x, (
        dropout_mask(keys[0], rate, (gates, batch, features), x.dtype),
        dropout_mask(keys[1], recurrent_rate, (gates, batch, units), x.dtype),
    )


def dropout_mask(key: Any, rate: float, shape: tuple[Any, ...], dtype: Any) -> Any:
    """Zeros with probability `rate`, else what keeps the mean."""
    if rate == 1:
        return jnp.zeros(shape, dtype)
    return keep_mask(key, 1 - rate, shape).astype(dtype) / (1 - rate)
