"""A finding of a check, and all findings together as a report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

__all__ = ["Finding", "Report"]

Severity = Literal["error", "warning", "note"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a check has seen.

    Attributes:
        check: the name of the check.
        severity: "error" for what stops the training or makes it useless, "warning" for what makes it worse,
            "note" for a fact that is good to know and needs no change.
        where: the place: the path of a layer, `x[12, 3]`, `y`, a part of the data; or "".
        message: one or two sentences with the numbers.
        advice: what to change; "" in a note.
        values: the numbers, as plain data.
    """

    check: str
    severity: Severity
    where: str
    message: str
    advice: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Plain data, as JSON holds it; what is not finite is a text."""
        return _plain(dataclasses.asdict(self))

    def __str__(self) -> str:
        place = f", {self.where}" if self.where else ""
        advice = f"\n    {self.advice}" if self.advice else ""
        return f"{self.severity} ({self.check}{place}): {self.message}{advice}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `jl.doctor`.

    Attributes:
        findings: what should be changed, the causes before their consequences.
        notes: facts: predicted memory and time, good learning rates.
        checks: the names of the checks that ran.
        skipped: why others did not, by their names.
        curves: curves of the test of learning rates, for `draw`: by rate, the loss after each step.
        seconds: how long it took.

    >>> report = Report([Finding("labels", "error", "y", "labels from 1 to 10", "subtract 1")])
    >>> report.healthy, report.to_data()["findings"][0]["advice"]
    (False, 'subtract 1')
    >>> print(report)
    error (labels, y): labels from 1 to 10
        subtract 1
    """

    findings: Sequence[Finding] = ()
    notes: Sequence[Finding] = ()
    checks: Sequence[str] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def healthy(self) -> bool:
        """True if nothing was found."""
        return not self.findings

    def of(self, check: str) -> list[Finding]:
        """The findings of one check."""
        return [finding for finding in self.findings if finding.check == check]

    @property
    def unseen(self) -> dict[str, list[str]]:
        """The checks that did not run, by the reason."""
        reasons: dict[str, list[str]] = {}
        for name, why in self.skipped.items():
            reasons.setdefault(why, []).append(name)
        return reasons

    def to_data(self) -> dict[str, Any]:
        """Plain data, as `jlayers doctor --json` prints them."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_data() for finding in self.findings],
            "notes": [note.to_data() for note in self.notes],
            "checks": list(self.checks),
            "skipped": dict(self.skipped),
            "seconds": round(self.seconds, 3),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_data(), indent=2, ensure_ascii=False, allow_nan=False)

    def draw(self, path: Any) -> bool:
        """Write the test of learning rates as a picture; False, and no file, if there is none to draw.

        Args:
            path: path of the file, in a format that matplotlib knows (extra `plot`).
        """
        from jlayers.experiments.doctor.picture import draw_rates

        return draw_rates(path, self.curves)

    def __str__(self) -> str:
        lines = [str(finding) for finding in [*self.findings, *self.notes]]
        lines += [f"not looked at ({', '.join(names)}): {why}" for why, names in self.unseen.items()]
        return "\n".join(lines) or "nothing found"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
