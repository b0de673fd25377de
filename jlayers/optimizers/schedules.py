"""Learning rates: numbers, or schedules by optax's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import optax

from jlayers.core.errors import refused
from jlayers.core.registry import Kind, Registry
from jlayers.core.spelling import UNQUOTED, is_number

__all__ = ["ScheduleLike", "get_schedule", "join_schedules", "register_schedule", "schedules"]

ScheduleLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("schedule")]

schedules = Registry("schedule")
register_schedule = schedules.factory()


def get_schedule(value: Any) -> Any:
    """A learning rate: a number as it is, or a schedule from its name and arguments.

    Raises:
        ValueError: a number that is negative or not finite.

    >>> import jlayers as jl
    >>> schedule = jl.optimizers.get_schedule(
    ...     {"linear_schedule": {"init_value": 1.0, "end_value": 0.0, "transition_steps": 4}}
    ... )
    >>> float(schedule(1))
    0.75
    """
    if isinstance(value, str) and is_number(value):
        raise refused(ValueError, "expected a number or a schedule", instead=UNQUOTED, learning_rate=value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0.0 <= value < float("inf"):
            raise refused(ValueError, "expected a finite learning rate of at least 0", learning_rate=value)
        return float(value)
    if hasattr(value, "shape"):  # a scalar array
        return value
    return schedules.get(value)


@schedules.factory()
def join_schedules(schedules: list[float | ScheduleLike], boundaries: list[int]) -> Callable[[Any], Any]:
    """Schedules one after the other: each starts anew, at step 0, at its boundary (`optax.join_schedules`).

    >>> import jlayers as jl
    >>> schedule = jl.optimizers.join_schedules([0.5, 0.1], boundaries=[10])
    >>> float(schedule(9)), round(float(schedule(10)), 6)
    (0.5, 0.1)
    """
    members: list[Any] = [get_schedule(member) for member in schedules]
    members = [m if callable(m) else optax.constant_schedule(m) for m in members]  # a number is constant
    return optax.join_schedules(members, boundaries)
