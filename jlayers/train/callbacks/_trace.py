"""A summary of a trace of JAX's profiler: how long the device worked, and at which operations."""

from __future__ import annotations

import collections
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["operations_of"]

_MOST = 12  # operations that are told of

_Event = tuple[float, float, str, str]  # begin and end in nanoseconds, operation, program


def operations_of(trace: str | os.PathLike[str], seconds: float) -> dict[str, Any]:
    """The share of the time in which the device worked, and its longest operations.

    The time of an operation is its own: what runs inside a loop does not count for the loop. Operations that
    run beside each other count each.

    Args:
        trace: the path of an `.xplane.pb` file.
        seconds: how long the trace is.

    Returns:
        `busy`, a share in [0, 1]; `operations`, a list of dicts with `name`, `program`, `seconds`, `count`.
    """
    import jax

    lines: list[list[_Event]] = []
    with warnings.catch_warnings():  # the classes of JAX's reader do not say where they are from
        warnings.simplefilter("ignore", DeprecationWarning)
        for plane in jax.profiler.ProfileData.from_file(os.fspath(trace)).planes:
            lines += [list(_operations(line.events)) for line in plane.lines]
    totals: dict[tuple[str, str], float] = collections.defaultdict(float)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for line in lines:
        for name, program, own in _own_times(line):
            totals[name, program] += own
            counts[name, program] += 1
    worked = _covered((begin, end) for line in lines for begin, end, *_ in line)
    longest = [
        {"name": name, "program": program, "seconds": own / 1e9, "count": counts[name, program]}
        for (name, program), own in sorted(totals.items(), key=lambda item: -item[1])[:_MOST]
    ]
    return {"busy": min(1.0, worked / 1e9 / seconds) if seconds else 0.0, "operations": longest}


def _operations(events: Iterable[Any]) -> Iterator[_Event]:
    """The events that are operations of compiled programs."""
    for event in events:
        facts = dict(event.stats)
        if "hlo_op" in facts:
            begin = event.start_ns
            yield begin, begin + event.duration_ns, str(facts["hlo_op"]), str(facts.get("hlo_module", ""))


def _own_times(events: list[_Event]) -> Iterator[tuple[str, str, float]]:
    """Each operation of a line with its time, less that of those within it."""
    within: list[list[Any]] = []  # open operations: end, own time, name, program
    for begin, end, name, program in sorted(events, key=lambda event: (event[0], -event[1])):
        while within and within[-1][0] <= begin:
            _, own, *which = within.pop()
            yield *which, own
        if within:
            within[-1][1] -= end - begin
        within.append([end, end - begin, name, program])
    for _, own, *which in within:
        yield *which, max(0.0, own)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of some spans."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
