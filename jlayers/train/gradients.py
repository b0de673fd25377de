"""Gradients of a task: over a batch at once, or over micro-batches one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jlayers.core.shapes import wide_dtype
from jlayers.data.batches import Batch
from jlayers.train.scaling import scaled, unscaled
from jlayers.train.task import LossValue
from jlayers.train.update import Update, join_params

__all__ = ["Gradients", "gradients_of"]

Observe = Callable[[Any, LossValue, Batch], Any]


class Gradients(NamedTuple):
    """The results of a backward pass.

    Attributes:
        values: in the structure of the trained parameters.
        loss: the mean over the batch.
        state: of the models, after it.
        metrics: the accumulators with this batch.
    """

    values: Any
    loss: jax.Array
    state: Any
    metrics: Any


def gradients_of(
    update: Update,
    params: Any,
    state: Any,
    metrics: Any,
    batch: Batch,
    key: Any,
    *,
    observe: Observe,
    accumulate: int = 1,
    factor: Any = None,
) -> Gradients:
    """The gradients of the loss for the parameters that the task trains.

    Args:
        update: the task.
        params: all parameters.
        state: of the models.
        metrics: accumulators.
        batch: arrays with the rows first.
        key: of the step, or None.
        observe: `observe(metrics, loss, batch)`, which adds a batch to the accumulators.
        accumulate: how many micro-batches the batch is cut into. Their gradients are added up in float32 or
            wider, weighed by what each loss is a mean of, so that they are those of the whole batch, up to
            rounding. The state moves with each of them.
        factor: of the loss while its gradient is taken.
    """
    trained, frozen = update.split(params)

    def total(trained: Any, state: Any, batch: Batch, key: Any) -> tuple[jax.Array, Any]:
        loss, moved = update.task.loss(join_params(trained, frozen), state, batch, key, True)
        return scaled(loss.total, factor), (loss, moved)

    differentiate = jax.value_and_grad(total, has_aux=True)
    rows = jax.tree.leaves((batch.x, batch.y))[0].shape[0]
    size = -(-rows // accumulate)
    if size == rows:
        (_, (loss, moved)), values = differentiate(trained, state, batch, key)
        return Gradients(unscaled(values, factor), loss.total, moved, observe(metrics, loss, batch))

    def micro(carry: Any, part: tuple[Any, Batch]) -> tuple[Any, None]:
        sums, weighed, count, state, metrics = carry
        number, batch = part
        own = None if key is None else jax.random.fold_in(key, number)
        (_, (loss, state)), values = differentiate(trained, state, batch, own)
        weight = jnp.asarray(loss.count, jnp.float32)
        sums = jax.tree.map(lambda s, v: s + v.astype(s.dtype) * weight.astype(s.dtype), sums, values)
        weighed = weighed + loss.total * weight.astype(loss.total.dtype)
        return (sums, weighed, count + weight, state, observe(metrics, loss, batch)), None

    whole = rows // size
    first = jax.eval_shape(total, trained, state, jax.tree.map(lambda a: a[:size], batch), key)[0]
    carry = (
        jax.tree.map(lambda p: jnp.zeros(p.shape, wide_dtype(p.dtype)), trained),
        jnp.zeros((), first.dtype),
        jnp.zeros((), jnp.float32),
        state,
        metrics,
    )
    stacked = jax.tree.map(lambda a: a[: whole * size].reshape(whole, size, *a.shape[1:]), batch)
    carry, _ = jax.lax.scan(micro, carry, (jnp.arange(whole), stacked))
    if rows % size:
        carry, _ = micro(carry, (whole, jax.tree.map(lambda a: a[whole * size :], batch)))
    sums, weighed, count, state, metrics = carry
    count = jnp.where(count > 0, count, 1.0)
    values = jax.tree.map(lambda s, p: (s / count.astype(s.dtype)).astype(p.dtype), sums, trained)
    return Gradients(unscaled(values, factor), weighed / count.astype(weighed.dtype), state, metrics)
