"""Check "labels": numbers out of range, numbers shifted by one, equal samples and neighbors that disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.core.errors import told_apart
from jlayers.experiments.doctor.case import Case, Target
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.probes import by_row, neighbors, plain_features

__all__ = ["check_labels"]

NEIGHBORS = 10
AGREE = 8  # of them that must agree to call a label doubtful
LEAST_SHARE = 0.03  # of labels that are doubtful
ROWS = 2000


def check_labels(case: Case) -> list[Finding]:
    """Targets against what their losses can use, and against each other."""
    found = _one_per_output([
        finding
        for part, (_, y) in case.parts.items()
        for target in case.targets_of(y)
        for finding in _range(part, target)
    ])  # fmt: skip
    for target in [] if found else case.targets:
        found += _labels_from_one(target) or _doubtful(case, target)
    return found


def _one_per_output(findings: list[Finding]) -> list[Finding]:
    """One finding for each output: what is wrong in one part of the data is mostly wrong in all."""
    first: dict[str, Finding] = {}
    for finding in findings:
        known = first.setdefault(finding.where, finding)
        if known is not finding:
            more = [*known.values.get("also", []), finding.values["part"]]
            first[finding.where] = dataclasses.replace(known, values={**known.values, "also": more})
    return [
        dataclasses.replace(f, message=f"{f.message}; also in the {' and '.join(f.values['also'])} data")
        if "also" in f.values
        else f
        for f in first.values()
    ]


def _range(part: str, target: Target) -> list[Finding]:
    """Findings for labels that the loss refuses."""
    if target.loss.check is None:
        return []
    try:
        target.loss.check(target.y, target.output)
    except ValueError as error:
        values: dict[str, Any] = {"part": part, "least": target.y.min(), "most": target.y.max()}
        text, advice = told_apart(error)
        classes = target.classes
        if classes is not None and target.y.dtype.kind in "iu":
            outside = (target.y < 0) | (target.y >= classes)
            row = int(np.argwhere(outside)[0][0])
            values |= {"classes": classes, "outside": int(outside.sum()), "first_row": row}
            text = (
                f"class numbers from {target.y.min()} to {target.y.max()} for {classes} outputs, which stand "
                f"for 0 to {classes - 1}: {int(outside.sum())} of {target.y.size} are out of range, the "
                f"first in row {row} of the {part} data"
            )
            if target.y.min() == 1 and target.y.max() == classes:
                advice = "the classes are numbered from 1: subtract 1"
        return [Finding("labels", "error", target.where, text, advice, values)]
    return []


def _labels_from_one(target: Target) -> list[Finding]:
    """Class numbers from 1: no sample is of class 0, and all others are there."""
    labels, classes = target.labels, target.classes
    if labels is None or classes is None or target.y.ndim > 1 or classes < 3 or len(labels) < 5 * classes:
        return []
    present = np.unique(labels)
    if present[0] != 1 or not np.array_equal(present, np.arange(1, classes)):
        return []
    return [
        Finding(
            "labels",
            "warning",
            target.where,
            f"the classes are numbered 1 to {classes - 1}, and the model has {classes} outputs: the first of "
            f"them stands for class 0, which no sample has",
            "subtract 1 from the class numbers and give the last layer one unit less",
            {"classes": classes, "least": 1, "most": int(present[-1])},
        )
    ]


def _doubtful(case: Case, target: Target) -> list[Finding]:
    """Labels against which nearly all neighbors speak, where neighbors are otherwise right.

    Classes that overlap look different: there most samples whose neighbors err have neighbors that differ
    among themselves. Wrong labels among clean classes have neighbors that agree.
    """
    if target.labels is None or case.rows < 200:
        return []
    sample = case.sample(ROWS)
    features = plain_features(case, sample)
    labels = case.targets_of(sample.y)[_place(case, target)].labels
    if features is None or labels is None:
        return []
    found = _contradictions(target, features, labels)
    classes, labels = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        return found
    nearest = neighbors(features, NEIGHBORS)
    votes = np.stack([(labels[nearest] == c).sum(1) for c in range(len(classes))], 1)
    best = votes.argmax(1)
    wrong = best != labels
    doubtful = wrong & (votes.max(1) >= AGREE)
    recalls = [float((~wrong)[labels == c].mean()) for c in range(len(classes)) if (labels == c).sum() >= 10]
    share = float(doubtful.mean())
    if share < LEAST_SHARE or doubtful.sum() < 0.5 * wrong.sum() or min(recalls, default=0) < 0.6:
        return found
    rows = np.flatnonzero(doubtful)[:20].tolist() if len(labels) == case.rows else []
    return [
        *found,
        Finding(
            "labels",
            "warning",
            target.where,
            f"{share:.0%} of {len(labels)} labels look wrong: at least {AGREE} of the {NEIGHBORS} nearest "
            f"samples have one other label, while the nearest samples agree with {1 - wrong.mean():.0%} of "
            "all" + (f"; rows {', '.join(map(str, rows[:5]))}, ..." if rows else ""),
            "look at these samples and correct their labels; label_smoothing in the loss makes a model bear "
            "those that remain",
            {"share": share, "rows": rows},
        ),
    ]


def _contradictions(target: Target, features: np.ndarray, labels: np.ndarray) -> list[Finding]:
    """Samples that are equal and have different labels."""
    groups: Mapping[bytes, list[int]] = by_row(features)
    odd = [rows for rows in groups.values() if len(set(labels[rows].tolist())) > 1]
    count = sum(map(len, odd))
    if count < max(2, 0.01 * len(labels)) or len(groups) < 0.5 * len(labels):
        return []  # few, or data that repeat themselves by nature
    return [
        Finding(
            "labels",
            "warning",
            target.where,
            f"{count} of {len(labels)} samples are equal to another sample that has another label, such as "
            f"the rows {odd[0][0]} and {odd[0][1]} of those looked at",
            "no model can tell them apart: keep one of each, or add inputs that tell them apart",
            {"count": count},
        )
    ]


def _place(case: Case, target: Target) -> int:
    return [other.where for other in case.targets].index(target.where)
