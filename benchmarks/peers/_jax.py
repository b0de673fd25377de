"""What all peers on JAX share: the loop over a compiled step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.peers import Program
from benchmarks.workloads import ADAM

__all__ = ["adam", "count", "cross_entropy", "jax_program"]


def adam() -> optax.GradientTransformation:
    return optax.adam(**ADAM)


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def jax_program(
    step: Any,
    predict: Callable[[Any, jax.Array], jax.Array],
    carry: Any,
    x: Any,
    y: Any,
    parameters: int,
    lower: Callable[..., Any] | None = None,
) -> Program:
    """A program from pure compiled functions.

    Args:
        step: `step(carry, x, y) -> (carry, loss)`, jitted; it donates `carry`.
        predict: `predict(carry, x) -> logits`, jitted.
        carry: parameters, optimizer state and whatever else a step moves.
        x: the batch, in the library's layout.
        y: its labels.
        parameters: how many numbers are trained.
        lower: the step's `lower`, where `step` itself has none.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    held = [carry]

    def train(steps: int) -> float:
        carry, loss = held[0], jnp.nan
        for _ in range(steps):
            carry, loss = step(carry, x, y)
        held[0] = jax.block_until_ready(carry)
        return float(loss)

    def run(calls: int) -> jax.Array:
        logits = x
        for _ in range(calls):
            logits = predict(held[0], x)
        return jax.block_until_ready(logits)

    def memory() -> int:
        used = (lower or step.lower)(held[0], x, y).compile().memory_analysis()
        moved = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
        return moved + used.temp_size_in_bytes

    return Program(train, run, parameters, memory)
