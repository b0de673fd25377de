"""The log-probability of one class: picked, instead of multiplied out of all of them by a one-hot vector.

The one-hot product takes the logarithm of every class, and its gradient goes back through all of them. Here
one logit is picked, and the gradient is a softmax that one number per row is added to. The maximum is taken
off the picked logit and off the sum alike, so that large logits lose no digits, as they would in
`logsumexp(x) - x[i]`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

__all__ = ["log_softmax_at", "log_softmax_at_plain", "pick"]

Logits = Float[Array, "..."]
Numbers = Integer[Array, "..."]


def pick(x: Logits, numbers: Numbers, axis: int = -1) -> Logits:
    """The element of each row along `axis` that has this number; numbers out of range give any."""
    inside = jnp.clip(numbers, 0, x.shape[axis] - 1)
    found = jnp.take_along_axis(x, jnp.expand_dims(inside, axis), axis, mode="promise_in_bounds")
    return found.squeeze(axis)


def log_softmax_at(logits: Logits, numbers: Numbers, axis: int = -1) -> Logits:
    """`log_softmax(logits)` of one class per row."""
    top = jax.lax.stop_gradient(logits.max(axis, keepdims=True))
    total = jnp.exp(logits - top).sum(axis)
    return pick(logits, numbers, axis) - top.squeeze(axis) - jnp.log(total)


def log_softmax_at_plain(logits: Logits, numbers: Numbers, axis: int = -1) -> Logits:
    """The same by a one-hot product."""
    log_p = jax.nn.log_softmax(logits, axis)
    one_hot: Any = jax.nn.one_hot(numbers, logits.shape[axis], axis=axis, dtype=log_p.dtype)
    return (one_hot * log_p).sum(axis)
