"""The linear recurrence `h_t = a_t * h_(t-1) + b_t`, step by step or in logarithmic depth.

CPUs, which have few cores, do least by taking the steps as they come: in parallel, where each level of the
scan is written to memory, the gradient takes 1.4 to 3.3 times as long for 4 to 64 rows of 32 to 2048 steps
(0.75 for a single row of 4096). Other devices would wait for the steps, and idle.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from jlayers.ops.platform import by_platform

__all__ = ["linear_recurrence", "linear_recurrence_by_steps", "linear_recurrence_in_parallel"]

Factors = Inexact[Array, "#batch time units"]
Sequences = Inexact[Array, "batch time units"]


def linear_recurrence(a: Factors, b: Sequences, start: Any = None) -> Sequences:
    """All `h_t` of `h_t = a_t * h_(t-1) + b_t`.

    Where the number of steps is unknown, as in a trace of a graph, they are taken one after the other.

    Args:
        a: factors, `(batch, time, units)`; a batch of 1 stands for all.
        b: what is added.
        start: `h` before the first step, `(batch, units)`; zeros if None.

    >>> import jax.numpy as jnp
    >>> linear_recurrence(jnp.full((1, 3, 1), 0.5), jnp.ones((1, 3, 1))).ravel().tolist()
    [1.0, 1.5, 1.75]
    """
    if not isinstance(b.shape[1], int):
        return linear_recurrence_by_steps(a, b, start)
    arrays = (a, b) if start is None else (a, b, start)
    return by_platform(linear_recurrence_by_steps, linear_recurrence_in_parallel, *arrays)


def linear_recurrence_by_steps(a: Factors, b: Sequences, start: Any = None) -> Sequences:
    """`linear_recurrence`, one step after the other."""

    def step(h: Any, each: Any) -> tuple[Any, Any]:
        h = each[0] * h + each[1]
        return h, h

    first = jnp.zeros_like(b[:, 0]) if start is None else start
    return jnp.swapaxes(jax.lax.scan(step, first, (jnp.swapaxes(a, 0, 1), jnp.swapaxes(b, 0, 1)))[1], 0, 1)


def linear_recurrence_in_parallel(a: Factors, b: Sequences, start: Any = None) -> Sequences:
    """`linear_recurrence` by `jax.lax.associative_scan` (Blelloch, 1990).

    Two steps in a row are one step, with `a_2 * a_1` and `a_2 * b_1 + b_2`; so they may be joined in any
    grouping, in parallel. Nothing is divided: with `|a| <= 1` no value grows beyond those of the recurrence.
    It takes `O(log(time))` dependent operations and, for the gradient, a few times the memory of `b`.
    """

    def join(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
        return second[0] * first[0], second[0] * first[1] + second[1]

    if start is not None:
        b = b.at[:, 0].add(a[:, 0] * start)
    return jax.lax.associative_scan(join, (a, b), axis=1)[1]
