"""Does a training step of jlayers compile to what a hand-written JAX step compiles to?

For an MLP, a CNN and an LSTM, both steps do the same: forward pass, cross-entropy, gradient, Adam, and
running loss and accuracy on the device, over the same donated state. Each pair starts from the same weights
and is shown to compute the same numbers. The optimized programs are compared by the compiler's own count of
FLOPs and by their instructions, counted in all computations (inside fusions, too). Both CNNs convolve and
pool with `jlayers.ops`, and both LSTMs carry their state with it: its gradients are faster on CPUs than those
of the `lax` functions one would write.

The hand-written step has the same definitions of loss and metrics: a label out of range gives NaN, a mean
over nothing is 0, and each mean has a count of its own (samples may be weighted in one and not in the other).
The column "bare" is the step without these three, for information: it shows all that they cost.

    python benchmarks/step_parity.py

The exit code is 1 if FLOPs or instructions differ from those of the step with the same definitions.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jlayers as jl
from jlayers.ops.conv import conv
from jlayers.ops.cross_entropy import log_softmax_at
from jlayers.ops.pool import max_pool
from jlayers.ops.recurrent_cpu import LSTM, Weights, over_steps

CLASSES = 10


# --------------------------------------------------------------------------------- written by hand


class State(NamedTuple):
    params: Any
    opt_state: Any
    step: jax.Array
    totals: Any


def dense(p: Any, x: jax.Array) -> jax.Array:
    return x @ p["kernel"] + p["bias"]


def mlp(params: Any, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(dense(params["dense"], x))
    x = jax.nn.relu(dense(params["dense_1"], x))
    return dense(params["dense_2"], x)


def convolve(p: Any, x: jax.Array) -> jax.Array:
    y = conv(x, p["kernel"], (1, 1), "valid", (1, 1))
    return y + p["bias"]


def cnn(params: Any, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(convolve(params["conv2d"], x))
    x = max_pool(x, (2, 2), (2, 2), "valid")
    x = jax.nn.relu(convolve(params["conv2d_1"], x))
    x = x.reshape(x.shape[0], -1)
    return dense(params["dense"], x)


def lstm(params: Any, x: jax.Array) -> jax.Array:
    p = params["lstm"]

    def plain(weights: Weights, x: jax.Array, start: Any, _: None) -> tuple[jax.Array, Any]:
        kernel = jnp.concatenate([weights.kernel, weights.recurrent_kernel])

        def step(carry: Any, x_t: jax.Array) -> tuple[Any, None]:
            h, c = carry
            z = jnp.concatenate([x_t, h], axis=1) @ kernel + weights.bias
            i, f, g, o = jnp.split(z, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        last, _ = jax.lax.scan(step, start, x.swapaxes(0, 1))
        return last[0], last

    start = (jnp.zeros((x.shape[0], p["recurrent_kernel"].shape[0])),) * 2
    order = {"sequences": False, "backwards": False}
    h, _ = over_steps(LSTM, plain, Weights(**p), x, start, **order)
    return dense(params["dense"], h)


def by_hand(forward: Callable[..., Any], optimizer: Any) -> Callable[..., Any]:
    """The step with the same definitions as the one of jlayers."""

    def mean(total: dict[str, jax.Array]) -> jax.Array:
        some = total["count"] > 0
        return jnp.where(some, total["sum"] / jnp.where(some, total["count"], 1.0), 0.0)

    def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = forward(params, x)
            losses = -log_softmax_at(logits, y)
            return jnp.where((y >= 0) & (y < CLASSES), losses, jnp.nan).mean(), logits

        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        hits = (logits.argmax(-1) == y).astype(jnp.float32)
        sums = {"loss": loss * len(x), "accuracy": hits.sum()}
        totals = {
            name: {"sum": old["sum"] + sums[name], "count": old["count"] + len(x)}
            for name, old in state.totals.items()
        }
        logs = {name: mean(total) for name, total in totals.items()}
        return State(params, opt_state, state.step + 1, totals), logs

    return jax.jit(step, donate_argnums=0)


def bare(forward: Callable[..., Any], optimizer: Any) -> Callable[..., Any]:
    """The step without guards, and with one count for both means."""

    def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = forward(params, x)
            return -log_softmax_at(logits, y).mean(), logits

        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        hits = (logits.argmax(-1) == y).astype(jnp.float32)
        count = state.totals["count"] + len(x)
        sums = {
            "loss": state.totals["loss"] + loss * len(x),
            "accuracy": state.totals["accuracy"] + hits.sum(),
        }
        logs = {name: total / count for name, total in sums.items()}
        return State(params, opt_state, state.step + 1, {**sums, "count": count}), logs

    return jax.jit(step, donate_argnums=0)


# ---------------------------------------------------------------------------------- jlayers' models


def models() -> dict[str, tuple[jl.Layer, Callable[..., Any], tuple[int, ...]]]:
    """Per name the model, the forward pass by hand, and the shape of a batch."""
    return {
        "MLP": (
            jl.Sequential(
                jl.Dense(256, activation="relu"), jl.Dense(128, activation="relu"), jl.Dense(CLASSES)
            ),
            mlp,
            (64, 784),
        ),
        "CNN": (
            jl.Sequential(
                jl.Conv2D(32, (3, 3), activation="relu"),
                jl.MaxPooling2D((2, 2)),
                jl.Conv2D(64, (3, 3), activation="relu"),
                jl.Flatten(),
                jl.Dense(CLASSES),
            ),
            cnn,
            (64, 28, 28, 1),
        ),
        "LSTM": (jl.Sequential(jl.LSTM(64), jl.Dense(CLASSES)), lstm, (64, 30, 12)),
    }


def first_state(params: Any, optimizer: Any, totals: Any) -> State:
    params = jax.tree.map(jnp.copy, params)
    return State(params, optimizer.init(params), jnp.zeros((), jnp.int32), totals)


# --------------------------------------------------------------------------------------- comparison

INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (?:\([^=]*?\)|\S+) ([\w\-]+)\(", re.MULTILINE)


class Cost(NamedTuple):
    flops: float
    instructions: Counter[str]


def cost(lowered: Any) -> Cost:
    """FLOPs, and instructions by kind, of the optimized program. Parameters are no work and are left out."""
    compiled = lowered.compile()
    found = Counter(INSTRUCTION.findall(compiled.as_text()))
    del found["parameter"]
    return Cost(compiled.cost_analysis()["flops"], found)


def zeros(*names: str) -> dict[str, jax.Array]:
    return {name: jnp.zeros(()) for name in names}


def compare(name: str, model: jl.Layer, forward: Callable[..., Any], shape: tuple[int, ...]) -> bool:
    optimizer = optax.adam(1e-3)
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    step = jl.make_train_step(model, loss, optimizer, metrics=["accuracy"])
    hand_step = by_hand(forward, optimizer)

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    y = jnp.asarray(rng.integers(0, CLASSES, shape[0]), jnp.int32)
    ours = jl.TrainState.create(model, optimizer, jax.random.key(0), shape)
    means = {"loss": zeros("sum", "count"), "accuracy": zeros("sum", "count")}
    hand = first_state(ours.params, optimizer, means)
    plain = first_state(ours.params, optimizer, zeros("loss", "accuracy", "count"))

    costs = [
        cost(step.lower(ours, jl.Batch(x, y))),
        cost(hand_step.lower(hand, x, y)),
        cost(bare(forward, optimizer).lower(plain, x, y)),
    ]
    for _ in range(3):
        ours, logs = step(ours, jl.Batch(x, y))
        hand, hand_logs = hand_step(hand, x, y)
    for key in hand_logs:
        np.testing.assert_allclose(logs[key], hand_logs[key], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours.params, hand.params)

    counts = [c.instructions for c in costs]
    equal = costs[0].flops == costs[1].flops and counts[0].total() == counts[1].total()
    cells = [f"{c.flops:>15,.0f}" for c in costs] + [f"{c.total():>9,}" for c in counts]
    print(f"{name:<6}{''.join(cells)}   {'equal' if equal else 'DIFFERENT'}")
    for kind in sorted(counts[0] | counts[1]):
        if counts[0][kind] != counts[1][kind]:
            print(f"      {kind}: {counts[0][kind]}, by hand {counts[1][kind]}")
    return equal


def main() -> int:
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}")
    print(f"{'':6}{'FLOPs':>45}{'instructions':>27}")
    print(f"{'':6}" + "".join(f"{c:>15}" for c in COLUMNS) + "".join(f"{c:>9}" for c in COLUMNS))
    equal = [compare(name, *case) for name, case in models().items()]
    return 0 if all(equal) else 1


COLUMNS = ("jlayers", "by hand", "bare")

if __name__ == "__main__":
    sys.exit(main())
