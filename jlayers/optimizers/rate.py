"""The learning rate of an optimizer: what it is at a step, and the same optimizer with a multiple of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jlayers.optimizers.base import chain, lenient, registry

__all__ = ["learning_rates", "rates_at", "with_rate_factor", "with_rates"]


def with_rate_factor(optimizer: Any, factor: Any) -> Any:
    """The optimizer with its learning rate multiplied; its state keeps its form, so that it can continue.

    The factor goes to the place of the learning rate, which in some optimizers (ftrl, lars, schedule-free
    ones) is more than a factor of the update. The updates of an optimizer that has no argument
    `learning_rate`, such as one from outside, are multiplied themselves.

    Args:
        optimizer: any `optax.GradientTransformation`.
        factor: a scalar array; it may be traced.

    Raises:
        ValueError: when it updates: a schedule-free optimizer from outside.

    >>> import jax, jlayers as jl
    >>> half = with_rate_factor(jl.optimizers.sgd(1.0), jax.numpy.float32(0.5))
    >>> updates, _ = half.update(jax.numpy.float32(1.0), half.init(jax.numpy.float32(0.0)))
    >>> float(updates)
    -0.5
    """
    return with_rates(
        optimizer, lambda rate: _scaled(rate, factor), lambda other: _with_scaled_updates(other, factor)
    )


def with_rates(
    optimizer: Any, change: Callable[[Any], Any], otherwise: Callable[[Any], Any] = lambda other: other
) -> Any:
    """The optimizer with what `change` makes of each learning rate, a number or a schedule.

    Args:
        optimizer: any `optax.GradientTransformation`.
        change: from a rate to the one in its place.
        otherwise: what is made of an optimizer that does not tell its rates; it stays if not given.

    >>> import jlayers as jl
    >>> with_rates(jl.optimizers.sgd(0.5), lambda rate: 2 * rate)
    sgd(learning_rate=1.0)
    """
    if not learning_rates(optimizer):
        return otherwise(optimizer)
    if optimizer.members:
        return chain(
            [with_rates(m, change, otherwise) if learning_rates(m) else m for m in optimizer.members]
        )
    name, arguments = optimizer.spec.name, optimizer.spec.arguments
    if optimizer.groups:
        changed = {p: with_rates(member, change, otherwise) for p, member in optimizer.groups.items()}
        return registry.build(name, {"default": changed.pop("", None), "optimizers": changed})
    return registry.build(name, {**arguments, **{n: change(rate) for n, rate in optimizer.rates.items()}})


def _scaled(rate: Any, factor: Any) -> Any:
    if callable(rate):
        schedule: Callable[[Any], Any] = rate
        return lambda count: schedule(count) * factor
    return jnp.asarray(rate, factor.dtype) * factor


def _with_scaled_updates(optimizer: Any, factor: Any) -> Any:
    inner = optax.with_extra_args_support(optimizer)

    def update(gradients: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if any(map(_schedule_free, jax.tree.leaves(state, is_leaf=_schedule_free))):
            raise ValueError(
                "expected an optimizer whose learning rate can be changed, received a schedule-free one from "
                "outside; use jl.optimizers.schedule_free_adamw"
            )
        updates, state = inner.update(gradients, state, params, **extra)
        return jax.tree.map(lambda u: u * factor.astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)  # type: ignore[arg-type]


def _schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


def learning_rates(optimizer: Any) -> dict[str, Any]:
    """Numbers or schedules by their names in the logs; empty for an optimizer that does not tell them.

    >>> import jlayers as jl
    >>> learning_rates(jl.optimizers.adam(0.01))
    {'learning_rate': 0.01}
    >>> learning_rates(jl.optimizers.multi_optimizer({"encoder/**": "sgd"}, default="adam"))
    {'learning_rate_encoder': 0.01, 'learning_rate': 0.001}
    """
    return {name: rate for name, rate, _ in _walk(optimizer)}


def rates_at(optimizer: Any, opt_state: Any, factor: Any = None) -> dict[str, jax.Array]:
    """The learning rates that the next step takes; float32 scalars.

    Args:
        optimizer: as for `learning_rates`.
        opt_state: its state, which counts the steps for schedules.
        factor: by which they are multiplied; None for 1.
    """
    found = {}
    for name, rate, state in _walk(optimizer, opt_state):
        with lenient():
            value = jnp.asarray(rate(_count(state)) if callable(rate) else rate, jnp.float32)
        found[name] = value if factor is None else value * factor
    return found


def _count(state: Any) -> Any:
    """The number of steps by which a schedule goes."""
    scheduled = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    own = [node.count for node in jax.tree.leaves(state, is_leaf=scheduled) if scheduled(node)]
    own += [count for _, count in optax.tree_utils.tree_get_all_with_path(state, "count")]
    return own[0]


def _walk(optimizer: Any, state: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Each learning rate with a name of its own, and the part of the state that belongs to it."""
    taken: set[str] = set()
    for label, rate, part in _rates(optimizer, state, ""):
        stem = "_".join(filter(None, ("learning_rate", re.sub(r"[^\w.]+", "_", label).strip("_"))))
        name, number = stem, 0
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        yield name, rate, part


def _rates(optimizer: Any, state: Any, label: str) -> Iterator[tuple[str, Any, Any]]:
    if members := getattr(optimizer, "members", ()):
        parts = [None] * len(members) if state is None else state
        for member, part in zip(members, parts, strict=True):
            yield from _rates(member, part, label)
    for pattern, member in getattr(optimizer, "groups", {}).items():
        part = None if state is None else state.inner_states[pattern].inner_state
        yield from _rates(member, part, f"{label}/{pattern}" if pattern else label)
    for rate in list(getattr(optimizer, "rates", {}).values())[:1]:  # others of one optimizer follow it
        yield label, rate, state
