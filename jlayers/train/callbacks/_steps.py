"""The argument `every` of callbacks that listen to steps, too."""

from __future__ import annotations

from jlayers.core.errors import refused

__all__ = ["steps_between"]


def steps_between(every: int | None) -> int | None:
    """The number of steps between two calls; None for no calls."""
    whole = isinstance(every, int) and not isinstance(every, bool) and every >= 1
    if every is not None and not whole:
        raise refused(ValueError, "expected a number of steps of at least 1, or None", every=every)
    return every
