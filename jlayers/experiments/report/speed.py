"""The part of a report on time: epochs, samples per second, waiting for data, and a profile."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator

from jlayers.experiments.record import RunRecord
from jlayers.experiments.report.html import Element, element, table
from jlayers.runs.folder import Run

__all__ = ["profiles", "speed"]


def speed(run: Run, record: RunRecord) -> Iterator[Element]:
    """The elements of the section."""
    times = run.times()
    rows: list[list[str]] = []
    if record.seconds is not None:
        rows.append(["training, in all", duration(record.seconds)])
    if times.get("seconds"):
        first, *later = times["seconds"]
        rows.append(["first epoch, with compiling", duration(first)])
        if later:
            rows.append(["later epochs, median", duration(statistics.median(later))])
        rates = [s / t for s, t in zip(times["samples"], times["training"], strict=False) if t > 0]
        if rates:
            usual = statistics.median(rates[1:] or rates)
            rows.append(["samples per second, median", f"{usual:,.0f}" if usual >= 10 else f"{usual:.2g}"])
        passed, waited = sum(times["training"]), sum(times["waited"])
        if passed > 0:
            rows.append(["waited for data", f"{waited / passed:.1%} of the time in epochs"])
    if record.flops:
        rows.append(["one forward pass of a sample", f"{record.flops:,} FLOPs"])
    if rows:
        yield table([], rows)
    else:
        yield element("p", "Nothing is known of it yet.", class_="dim")


def profiles(run: Run) -> Iterator[Element]:
    """The summaries of what `Profile` has recorded; nothing if there are none."""
    for path in sorted(run.path.glob("logs/**/steps-*.json")):
        try:
            found = json.loads(path.read_bytes())
            first, last = (int(step) for step in found["steps"])
            seconds, busy = float(found["seconds"]), float(found["busy"])
            rows = [
                [
                    str(one["name"]),
                    str(one["program"]),
                    duration(float(one["seconds"])),
                    str(int(one["count"])),
                ]
                for one in found["operations"]
            ]
        except (ValueError, TypeError, KeyError, RecursionError):
            yield element("p", f"{path.relative_to(run.path)} is damaged.", class_="note")
            continue
        steps = last - first + 1
        folder = path.parent.relative_to(run.path).as_posix()
        yield element(
            "p",
            f"Steps {first:,} to {last:,} took {duration(seconds)}, {duration(seconds / max(1, steps))} "
            f"each. The device worked {busy:.0%} of that time. The trace is in {folder}; open it with "
            f"TensorBoard or Perfetto. These operations took longest:",
        )
        yield table(["operation", "program", "time", "calls"], rows)


def duration(seconds: float) -> str:
    """A time for people.

    >>> [duration(t) for t in (0.00012, 0.25, 61.5, 7300)]
    ['120 µs', '250 ms', '1 min 2 s', '2 h 1 min']
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "–"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
