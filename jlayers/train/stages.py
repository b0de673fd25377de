"""Layers that are frozen for the first epochs: a trainer for each part of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jlayers.core.errors import concerning, refused
from jlayers.core.layer import Layer
from jlayers.transform.freeze import unfreeze

__all__ = ["models_by_epoch"]


def models_by_epoch(model: Any, schedule: Mapping[int, Any] | None) -> list[tuple[int, Any]]:
    """The model and its versions with fewer frozen layers, each with the number of epochs before it.

    Args:
        model: with the layers frozen that are not trained at first.
        schedule: by a number of epochs, patterns of the layers that are trained from then on.

    Raises:
        TypeError: a schedule for tasks, or one that is not a mapping.
        ValueError: a number below 1, a pattern that matches no layer, or no frozen one.

    >>> import jlayers as jl
    >>> model = jl.freeze(jl.Sequential(jl.Dense(2, name="base"), jl.Dense(1, name="head")), "base")
    >>> [(epochs, sorted(model.frozen)) for epochs, model in models_by_epoch(model, {3: "base"})]
    [(0, ['base']), (3, [])]
    """
    found = [(0, model)]
    if not schedule:
        return found
    if not isinstance(model, Layer) or not isinstance(schedule, Mapping):
        raise refused(
            TypeError,
            "expected a model and a mapping from epochs to patterns, such as {3: 'base/**'}",
            raised_by="compile",
            unfreeze=schedule,
        )
    for epochs in schedule:
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise refused(
                ValueError,
                "expected a number of epochs of at least 1, after which layers are trained",
                instead="leave layers that are trained from the beginning out of jl.freeze",
                raised_by="compile",
                unfreeze=schedule,
            )
    for epochs, patterns in sorted(schedule.items()):
        before = model
        with concerning(epochs, unfreeze=schedule):
            model = unfreeze(model, *([patterns] if isinstance(patterns, str) else patterns))
        if model.frozen == before.frozen:
            raise refused(
                ValueError,
                f"expected a frozen layer for {patterns!r}; all of them are trained already",
                instead="freeze them first: jl.freeze(model, 'base/**')",
                raised_by="compile",
                unfreeze=schedule,
            )
        found.append((epochs, model))
    return found
