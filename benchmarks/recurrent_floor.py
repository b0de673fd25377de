"""What the products of a recurrent layer's training step take by themselves: the floor of `lstm` and `gru`.

    python -m benchmarks.recurrent_floor [--rounds 15]

Each product runs alone, those of single steps in a scan, in turns with the layer's forward pass and
gradients. No form of the layer with these products is faster than their sum, whatever it does between them.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.goals import median
from benchmarks.ops import GRU, LSTM, SCALE, programs, take_turns
from benchmarks.report import number, seconds, table
from benchmarks.workloads import WORKLOADS

Array = jax.Array


def array(*shape: int) -> Array:
    return jnp.asarray(SCALE * np.random.default_rng(0).normal(size=shape), jnp.float32)


@jax.jit
def forward(kernel: Array, recurrent_kernel: Array, x: Array) -> Array:
    """Both products of each step, `x` being `(time, features, batch)`; their first rows are the state."""

    def step(h: Array, x_t: Array) -> tuple[Array, None]:
        return (kernel @ x_t + recurrent_kernel @ h)[: len(h)], None

    return jax.lax.scan(step, jnp.zeros((recurrent_kernel.shape[1], x.shape[2])), x)[0]


@jax.jit
def forward_joint(kernel: Array, x: Array) -> Array:
    """The same as one product of the two kernels side by side."""
    units = kernel.shape[1] - x.shape[1]

    def step(h: Array, x_t: Array) -> tuple[Array, None]:
        return (kernel @ jnp.concatenate([x_t, h]))[:units], None

    return jax.lax.scan(step, jnp.zeros((units, x.shape[2])), x)[0]


@jax.jit
def backward(recurrent_kernel: Array, d_gates: Array) -> Array:
    """The product of each step, `d_gates` being `(time, gates, batch)` without what a step adds to them."""

    def step(d_h: Array, d_z: Array) -> tuple[Array, None]:
        return recurrent_kernel @ (d_z + d_h[:1]), None

    return jax.lax.scan(step, jnp.zeros((len(recurrent_kernel), d_gates.shape[2])), d_gates)[0]


@jax.jit
def products(*pairs: tuple[Array, Array]) -> list[Array]:
    return [a @ b for a, b in pairs]


def parts(gates: int, joint: bool) -> dict[str, Any]:
    """The products of a layer with so many gates; `joint`: the input's and the state's are one."""
    lstm: Any = WORKLOADS["lstm"]
    batch, (time,), features, units = lstm.batch, lstm.shape, lstm.features, lstm.units
    wide, rows = gates * units, batch * time
    x, d = array(time, features, batch), array(rows, wide)
    ahead = (
        functools.partial(forward_joint, array(wide, features + units), x)
        if joint
        else functools.partial(forward, array(wide, features), array(wide, units), x)
    )
    weights = [(array(features + units, rows), d)]
    inputs = [(d, array(wide, features))]
    if not joint:  # a GRU's last third has a gradient of its own for the input
        last = array(rows, units)
        weights = [(array(features, rows), d), (array(features, rows), last), (array(units, rows), d)]
        inputs = [*inputs, (last, array(units, features))]
    return {
        "forward, step by step": ahead,
        "back, step by step": functools.partial(backward, array(units, wide), array(time, wide, batch)),
        "gradients of the kernels": functools.partial(products, *weights),
        "gradient of the input": functools.partial(products, *inputs),
    }


def whole(layer: Any, gates: int, biases: tuple[int, ...]) -> Any:
    """The layer's forward pass and all of its gradients."""
    lstm: Any = WORKLOADS["lstm"]
    wide = gates * lstm.units
    shapes = (
        (lstm.batch, *lstm.shape, lstm.features),
        (lstm.features, wide),
        (lstm.units, wide),
        (*biases, wide),
    )
    inputs = [array(*shape) for shape in shapes]
    return functools.partial(programs(layer, inputs)[1], *inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = []
    for name, layer, gates, biases in (("LSTM", LSTM[0], 4, ()), ("GRU", GRU[0], 3, (2,))):
        functions = {**parts(gates, joint=name == "LSTM"), "the layer": whole(layer, gates, biases)}
        times = take_turns(functions, [], options.rounds)
        found = {part: median(values) for part, values in times.items()}
        all_of_it = found.pop("the layer")
        found["all products"] = sum(found.values())
        rows += [(name, part, seconds(t), number(t / all_of_it)) for part, t in found.items()]
        rows.append((name, "the layer", seconds(all_of_it), number(1.0)))
    print(table(("", "", "time", "of the layer's"), rows))


if __name__ == "__main__":
    main()
