"""The training loop written by hand, over the public step: all that `jl.fit` does for you, in plain sight.

The step is one pure, compiled function from a state and a batch to the next state and the running results.
Whatever happens between two calls is yours: here the order of the data, and weights averaged on the way.

    python examples/own_loop.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import jax
import numpy as np
import optax

import jlayers as jl


def batches(x: np.ndarray, y: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[jl.Batch]:
    """Batches of one size for ever, in a new order each time round."""
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield jl.Batch(x[rows], y[rows])


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train on handwritten digits in a hand-written loop.")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    model = jl.Sequential([
        jl.Conv2D(32, 3, activation="relu"),
        jl.BatchNormalization(momentum=0.9),
        jl.Flatten(),
        jl.Dropout(0.3),
        jl.Dense(10),
    ])  # fmt: skip
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    schedule = optax.cosine_decay_schedule(3e-3, arguments.steps)
    optimizer = optax.adamw(schedule, weight_decay=1e-3)  # any optax transformation will do

    step = jl.make_train_step(model, loss, optimizer, metrics=["accuracy"])
    state = jl.TrainState.create(model, optimizer, jax.random.key(0), (arguments.batch_size, 8, 8, 1))
    average = state.copy().params  # the step donates the state: keep copies only
    blend = jax.jit(lambda old, new: optax.incremental_update(new, old, 0.02))

    every = max(1, arguments.steps // 10)
    stream = batches(*digits.train, arguments.batch_size, np.random.default_rng(0))
    for number, batch in zip(range(1, arguments.steps + 1), stream, strict=False):
        state, logs = step(state, batch)
        average = blend(average, state.params)
        if number % every == 0:  # only here does the host wait for the device
            print(f"step {number:5}: " + ", ".join(f"{k} {float(v):.4f}" for k, v in logs.items()))
            state = state.replace(metrics={})  # begin a new mean

    test_step = jl.make_eval_step(model, loss, metrics=["accuracy"])
    results = {}
    for name, params in {"last": state.params, "average": average}.items():
        _, logs = test_step(params, state.state, None, jl.Batch(*digits.test))
        results[name] = float(logs["accuracy"])
        print(f"{name} weights: accuracy {results[name]:.2%} on {len(digits.test[0])} digits held out")
    return results


if __name__ == "__main__":
    main()
