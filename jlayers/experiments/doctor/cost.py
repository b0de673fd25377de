"""Check "cost": memory and time of a step, as XLA predicts the one and a few steps measure the other."""

from __future__ import annotations

import math
import os
from typing import Any

import jax

from jlayers.core.tree import nbytes
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.trial import trials_of

__all__ = ["check_cost", "time_of"]


def check_cost(case: Case) -> list[Finding]:
    """The compiled step's own account of its memory and work, and the time that a step takes."""
    trials = trials_of(case)
    memory = trials.compiled.memory_analysis()
    cost = trials.compiled.cost_analysis() or {}
    taken = None
    if memory is not None:
        taken = int(
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
    flops = float(cost.get("flops", math.nan))
    cut = case.cut
    seconds = trials.step_seconds * case.steps + (cut.seconds if cut else 0.0)
    values = {
        "step_seconds": trials.step_seconds,
        "steps": case.steps,
        "seconds": seconds,
        "step_bytes": taken,
        "state_bytes": nbytes(case.state),
        "step_flops": flops,
    }
    if cut is not None:
        values |= {"feature_seconds": cut.seconds, "feature_rows": cut.rows}
    text = (
        f"a step takes about {time_of(trials.step_seconds)}"
        + (f" and {_bytes(taken)} of memory" if taken is not None else "")
        + f"; {case.steps} steps"
        + (f" on kept features, which take about {time_of(cut.seconds)} once" if cut else "")
        + f", about {time_of(seconds)}, without evaluation"
    )
    there = _memory(jax.devices()[0])
    if taken is not None and there is not None and taken > there:
        return [
            Finding(
                "cost",
                "error",
                "",
                f"a step needs {_bytes(taken)} of memory, and the device has {_bytes(there)}",
                "use a smaller batch_size, accumulate micro-batches (accumulate: 4), precision: "
                "mixed_bfloat16, or jl.Remat around blocks of layers",
                {**values, "device_bytes": there},
            )
        ]
    return [Finding("cost", "note", "", text, values=values)]


def _memory(device: Any) -> int | None:
    """The bytes that a device has, or the machine for a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"


def time_of(seconds: float) -> str:
    """A duration as a text for people."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
