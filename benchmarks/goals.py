"""What jlayers promises to be against the others, and what a run says of it.

Results are plain data, as in the JSON file: `results["workloads"][workload][library][measure]` is a list of
numbers, one per round (or start). A ratio is the median of the rounds' ratios: what slowed a machine in one
round slowed both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.peers import HAND, JAX_PEERS, LIBRARIES, OURS, TORCH

Results = Mapping[str, Any]
FASTEST = "fastest JAX peer"
SINGLE = "jl.fit, 1 step a call"


def median(numbers: Any) -> float:
    return statistics.median(numbers)


def ratio(ours: list[float], theirs: list[float]) -> float:
    return median([a / b for a, b in zip(ours, theirs, strict=True)])


def fastest_peer(measured: Mapping[str, Any], measure: str = "train") -> str | None:
    """The JAX peer, hand-written JAX among them, with the least median."""
    there = [name for name in JAX_PEERS if measured.get(name, {}).get(measure)]
    return min(there, key=lambda name: median(measured[name][measure]), default=None)


def against(results: Results, workload: str, measure: str, other: str) -> float | None:
    """Ours by theirs; None if the run did not measure one of them.

    The fastest JAX peer is the fastest in `measure` if that is a time, else the fastest in training steps.
    """
    measured = results["workloads"].get(workload, {})
    if other == FASTEST:
        other = fastest_peer(measured, "train" if measure == "program" else measure) or ""
    ours, theirs = (measured.get(name, {}).get(measure) for name in (OURS, other))
    return ratio(ours, theirs) if ours and theirs else None


def loops(results: Results, ours: str, theirs: str) -> float | None:
    measured = results.get("loops", {})
    return ratio(measured[ours], measured[theirs]) if ours in measured and theirs in measured else None


class Goal(NamedTuple):
    """Attributes:
    text: what is measured against what.
    limit: the most that the ratio may be.
    measured: the ratio, from results; None if they lack it.
    """

    text: str
    limit: float
    measured: Callable[[Results], float | None]


def _step(workload: str, other: str, limit: float, measure: str = "train") -> Goal:
    text = f"{workload}: step / {LIBRARIES.get(other, other)}"
    return Goal(text, limit, lambda results: against(results, workload, measure, other))


def _memory(workload: str) -> Goal:
    text = f"{workload}: memory of the compiled step / {FASTEST}"
    return Goal(text, 1.0, lambda results: against(results, workload, "program", FASTEST))


GOALS = (
    _step("cnn", FASTEST, 0.30),
    _step("cnn", TORCH, 0.8),
    _step("mobilenet", FASTEST, 0.15),
    _step("mobilenet", TORCH, 2.0),
    _step("resnet20", FASTEST, 0.55),
    _step("resnet20", TORCH, 2.0),
    _step("lstm", FASTEST, 0.5),
    _step("lstm", TORCH, 1.1),
    _step("gru", FASTEST, 0.5),
    _step("gru", TORCH, 1.1),
    _step("transformer", FASTEST, 0.9),
    _step("mlp", HAND, 1.02, "fresh"),  # in several pairs of processes; see STARTS in `compare.py`
    Goal("mlp: time to first step / hand-written JAX", 1.10, lambda r: against(r, "mlp", "first_step", HAND)),
    Goal("tiny_mlp: fit / bare jitted loop", 1.05, lambda r: loops(r, SINGLE, "bare loop")),
    Goal("tiny_mlp: fit, steps scanned / bare jitted loop", 0.4, lambda r: loops(r, "jl.fit", "bare loop")),
    *map(_memory, ("cnn", "mlp", "resnet20", "mobilenet", "lstm", "gru", "transformer", "tiny_mlp")),
)  # fmt: skip


def verdict(goal: Goal, results: Results) -> tuple[float | None, str]:
    """The ratio to the two digits that the goals have, and "hit", "miss" or "not measured"."""
    found = goal.measured(results)
    if found is None:
        return None, "not measured"
    found = round(found, 2)
    return found, "hit" if found <= goal.limit else "miss"
