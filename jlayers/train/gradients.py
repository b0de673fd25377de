"""Gradients of a task: over a batch at once, or over micro-batches one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jlayers.core.shapes import wide_dtype
from jlayers.data.batches import Batch
from jlayers.train.scaling import scaled, unscaled
from jlayers.train.task import LossValue, Part
from jlayers.train.update import Update, join_params

__all__ = ["Gradients", "gradients_of"]

Observe = Callable[[Any, LossValue, Batch], Any]


class Gradients(NamedTuple):
    """The results of a backward pass.

    Attributes:
        values: in the structure of the trained parameters.
        loss: the mean over the batch.
        state: state of the models, after it.
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
        state: state of the models.
        metrics: accumulators.
        batch: arrays with the rows first.
        key: key of the step, or None.
        observe: `observe(metrics, loss, batch)`, which adds a batch to the accumulators.
        accumulate: how many micro-batches the batch is cut into. Their gradients are added up in float32 or
            wider, each part of the loss weighed by what it is a mean of, so that they are those of the whole
            batch, up to rounding. The state moves with each of them.
        factor: factor of the loss while its gradient is taken.
    """
    trained, frozen = update.split(params)
    rows = jax.tree.leaves((batch.x, batch.y))[0].shape[0]
    size = -(-rows // accumulate)
    times = rows / size  # gradients of micro-batches keep their magnitude, which half precision needs

    def total(
        trained: Any, state: Any, batch: Batch, key: Any, counts: Any = None, share: float = 1.0
    ) -> tuple[jax.Array, Any]:
        loss, moved = update.task.loss(join_params(trained, frozen), state, batch, key, True)
        value = loss.total if counts is None else times * _of_the_whole(loss, counts, share)
        return scaled(value, factor), (loss, moved)

    differentiate = jax.value_and_grad(total, has_aux=True)
    if size == rows:
        (_, (loss, moved)), values = differentiate(trained, state, batch, key)
        return Gradients(unscaled(values, factor), loss.total, moved, observe(metrics, loss, batch))

    def counted(part: tuple[Any, Batch]) -> dict[str, jax.Array]:
        """The number of terms in the mean of each part of the loss; XLA computes nothing else."""
        loss, _ = update.task.loss(params, state, part[1], _own(key, part[0]), True)
        return {name: jnp.asarray(part.count, jnp.float32) for name, part in _shares(loss).items()}

    whole = rows // size
    stacked = jax.tree.map(lambda a: a[: whole * size].reshape(whole, size, *a.shape[1:]), batch)
    last = jax.tree.map(lambda a: a[whole * size :], batch)
    counts = jax.tree.map(lambda each: each.sum(0), jax.lax.map(counted, (jnp.arange(whole), stacked)))
    if rows % size:
        counts = jax.tree.map(jnp.add, counts, counted((whole, last)))

    def micro(carry: Any, part: tuple[Any, Batch]) -> tuple[Any, None]:
        sums, value, state, metrics = carry
        number, batch = part
        share = jax.tree.leaves((batch.x, batch.y))[0].shape[0] / rows
        (_, (loss, state)), values = differentiate(trained, state, batch, _own(key, number), counts, share)
        sums = jax.tree.map(lambda s, v: s + v.astype(s.dtype), sums, values)
        value = value + _of_the_whole(loss, counts, share)
        return (sums, value, state, observe(metrics, loss, batch)), None

    first = jax.eval_shape(total, trained, state, jax.tree.map(lambda a: a[:size], batch), key)[0]
    carry = (
        jax.tree.map(lambda p: jnp.zeros(p.shape, wide_dtype(p.dtype)), trained),
        jnp.zeros((), first.dtype),
        state,
        metrics,
    )
    carry, _ = jax.lax.scan(micro, carry, (jnp.arange(whole), stacked))
    if rows % size:
        carry, _ = micro(carry, (whole, last))
    sums, value, state, metrics = carry
    values = jax.tree.map(lambda s, p: (s / times).astype(p.dtype), sums, trained)
    return Gradients(unscaled(values, factor), value, state, metrics)


def _own(key: Any, number: Any) -> Any:
    return None if key is None else jax.random.fold_in(key, number)


def _shares(loss: LossValue) -> dict[str, Part]:
    """The parts that make up the loss."""
    return {n: part for n, part in loss.parts.items() if isinstance(part, Part) and part.factor}


def _of_the_whole(loss: LossValue, counts: Mapping[str, jax.Array], share: float) -> jax.Array:
    """A micro-batch's share of the loss of its batch.

    Args:
        loss: loss of the micro-batch.
        counts: the number of terms of each part in the whole batch.
        share: the micro-batch's share of the rows, for the rest of the loss.
    """
    total, rest = jnp.zeros((), loss.total.dtype), loss.total
    for name, part in _shares(loss).items():
        own, all_of_it = jnp.asarray(part.count, jnp.float32), counts[name]
        added = jnp.asarray(part.factor * part.total, total.dtype)
        total = total + added / jnp.where(all_of_it > 0, all_of_it, 1.0).astype(total.dtype)
        rest = rest - added / jnp.where(own > 0, own, 1.0).astype(total.dtype)
    return total + share * rest
