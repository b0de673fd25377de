"""Check "balance": how often each class occurs, targets that never vary, and the order of the samples."""

from __future__ import annotations

import numpy as np

from jlayers.experiments.doctor.case import Case, Target
from jlayers.experiments.doctor.finding import Finding

__all__ = ["check_balance"]

MOST_RATIO = 50  # of the most frequent class to the rarest


def check_balance(case: Case) -> list[Finding]:
    """Findings about the sizes of the classes in each part of the data."""
    found = []
    for place, target in enumerate(case.targets):
        found += _constant_targets(target)
        if (labels := target.labels) is None or found:
            continue
        found += _rare(case, target, labels)
        found += _sorted_by_class(case, target, labels)
        for part, (_, y) in case.held_out.items():
            others = case.targets_of(y)[place].labels
            if others is not None:
                found += _unknown(case, f"{part}: {target.where}", np.setdiff1d(others, labels))
    return found


def _constant_targets(target: Target) -> list[Finding]:
    flat = target.y.reshape(len(target.y), -1)
    if len(flat) < 2 or (flat != flat[0]).any():
        return []
    return [
        Finding(
            "balance",
            "error",
            target.where,
            f"all {len(flat)} targets are the same, {flat[0][0]}: there is nothing to learn",
            "look at how the targets were read: the wrong column, or a filter that keeps one class only",
        )
    ]


def _label(case: Case, label: int) -> str:
    names = case.class_names
    return f"{label} ({names[label]})" if names and label < len(names) else str(label)


def _rare(case: Case, target: Target, labels: np.ndarray) -> list[Finding]:
    present, counts = np.unique(labels, return_counts=True)
    ratio = counts.max() / counts.min()
    values = {"counts": dict(zip(map(int, present), map(int, counts), strict=True))}
    if ratio < MOST_RATIO or case.weighed:
        share = counts.max() / counts.sum()
        text = f"{len(present)} classes; always saying the most frequent one would be right for {share:.1%}"
        return [Finding("balance", "note", target.where, text, values=values)]
    return [
        Finding(
            "balance",
            "warning",
            target.where,
            f"class {_label(case, int(present[counts.argmax()]))} has {counts.max()} samples and class "
            f"{_label(case, int(present[counts.argmin()]))} has {counts.min()}, {ratio:.0f} times fewer: the "
            f"loss hardly sees the rare one",
            "set class_weight to balanced, collect more of the rare class, and look at a metric by class, "
            "such as F1Score, instead of accuracy",
            values,
        )
    ]


def _sorted_by_class(case: Case, target: Target, labels: np.ndarray) -> list[Finding]:
    """Batches of one class each, when nothing shuffles."""
    size = case.batch_size
    if case.shuffle or len(labels) < 4 * size or size < 8:
        return []
    whole = labels[: len(labels) // size * size].reshape(-1, size)
    pure = float((whole == whole[:, :1]).all(1).mean())
    largest = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    if pure < 0.5 or largest > 0.9:
        return []
    return [
        Finding(
            "balance",
            "warning",
            target.where,
            f"the samples are sorted by class and not shuffled: {pure:.0%} of the batches hold one class "
            "only",
            "set shuffle to true",
            {"pure_batches": pure},
        )
    ]


def _unknown(case: Case, where: str, missing: np.ndarray) -> list[Finding]:
    """Classes of held-out samples that the training data lack."""
    if not len(missing):
        return []
    names = ", ".join(_label(case, int(label)) for label in missing[:5])
    return [
        Finding(
            "balance",
            "warning",
            where,
            f"the held-out data have classes that the training data lack: {names}",
            "split the samples so that each class is in both parts",
            {"missing": missing.tolist()},
        )
    ]
