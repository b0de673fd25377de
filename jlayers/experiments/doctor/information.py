"""Check "information": targets that the inputs say nothing about, as when one of them was shuffled.

The alarm is the statement that no predictor finds anything, so it must have looked well. Three are asked,
each on samples that it has not learned from: nearest neighbors, ridge regression, and the model itself after
a short training. Each one's correlation with the targets is compared with those of targets in random order.
The alarm is given only if none exceeds chance by `DEVIATIONS` deviations and if, at the same confidence, none
can explain more than `MOST` of the variance of the targets; with too few samples to say so there is none.

With targets that are truly independent each test is passed by chance with a probability below 0.001, so one
in 300 such data sets is missed. A data set whose targets do depend on its inputs is called shuffled only if
all three predictors explain less than `MOST` of them.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jlayers.core.masks import values_of
from jlayers.data.batches import Batch, map_arrays
from jlayers.experiments.doctor.case import Case, Target
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.probes import association, by_row, linear, neighbors_mean, plain_features
from jlayers.experiments.doctor.rate import Range
from jlayers.experiments.doctor.trial import trials_of
from jlayers.train.objective import Supervised
from jlayers.train.state import inputs_of

__all__ = ["check_information"]

DEVIATIONS = 3.1  # one side of a normal distribution beyond it: 0.001
MOST = 0.05
LEAST_ROWS = 100
ROWS = 2000
STEPS = 300


def check_information(case: Case, tested: Range | None) -> list[Finding]:
    """A finding if nothing predicts the targets better than chance, on samples that it has not seen."""
    sample = case.sample(ROWS)
    rows = len(jax.tree.leaves(sample.y)[0]) if sample.y is not None else 0
    if not isinstance(case.task, Supervised) or rows < LEAST_ROWS:
        return []
    found = []
    features = plain_features(case, sample)
    if features is not None:  # equal samples may share a target that says nothing
        kept = [group[0] for group in by_row(features).values()]
        features = features[kept]
        sample = Batch(*(map_arrays(lambda a: np.asarray(a)[kept], part) for part in sample[:2]))
    for place, target in enumerate(case.targets_of(sample.y)):
        matrix = _matrix(target)
        if matrix is None or len(matrix) < LEAST_ROWS:
            continue
        tried: dict[str, tuple[float, float]] = {}
        if features is not None:
            tried["nearest neighbors"] = association(neighbors_mean(features, matrix), matrix)
            if not _is_chance(*tried["nearest neighbors"]):
                continue
            tried["a linear model"] = association(linear(features, matrix), matrix)
            if not _is_chance(*tried["a linear model"]):
                continue
        if tested is None:
            continue
        tried["the model"] = _by_model(case, tested, sample, place)
        if not _is_chance(*tried["the model"]):
            continue
        said = ", ".join(
            f"{name} {r:.2f} (chance: up to {DEVIATIONS * d:.2f})" for name, (r, d) in tried.items()
        )
        most = max((max(r, 0) + DEVIATIONS * d) ** 2 for r, d in tried.values())
        found.append(
            Finding(
                "information",
                "error",
                target.where,
                f"the inputs say nothing about the targets: on samples not learned from, the correlation "
                "with "
                f"the targets is no more than chance for {said}; at most {most:.1%} of them can be explained",
                "look at whether inputs and targets are still in one order: were they sorted, shuffled, "
                "filtered or joined separately?",
                {name: {"correlation": r, "deviation": d} for name, (r, d) in tried.items()},
            )
        )
    return found


def _is_chance(correlation: float, deviation: float) -> bool:
    """No more than chance, and nothing of size can have been missed."""
    chance = DEVIATIONS * deviation
    return correlation <= chance and (max(correlation, 0.0) + chance) ** 2 <= MOST


def _matrix(target: Target) -> np.ndarray | None:
    """The targets as float32 `(samples, columns)`: classes one-hot, numbers in units of their deviation."""
    if target.labels is not None:
        labels = target.labels
        classes = np.unique(labels)
        return (labels[:, None] == classes).astype(np.float32) if len(classes) <= 256 else None
    flat = target.y.reshape(len(target.y), -1).astype(np.float32)
    if (target.classes is not None and target.y.dtype.kind in "iu") or flat.shape[1] > 64:
        return None  # a class for each position: rows are not samples of their own
    spread = flat.std(0)
    return flat / np.where(spread > 0, spread, 1)


def _by_model(case: Case, tested: Range, sample: Batch, place: int) -> tuple[float, float]:
    """Half of the samples to learn from, at the rate that learns best; the other half to predict."""
    trials = trials_of(case)
    rows = len(jax.tree.leaves(sample.y)[0])
    order = np.random.default_rng(case.seed).permutation(rows)
    seen, unseen = order[: rows // 2], order[rows // 2 :]
    steps = trials.steps_within(case.seconds, STEPS)
    draw = np.random.default_rng([case.seed, 1])
    batches = []
    for _ in range(steps):
        picked = draw.choice(seen, trials.size, replace=len(seen) < trials.size)
        batches.append(
            Batch(*(map_arrays(lambda a, at=picked: np.asarray(a)[at], part) for part in sample[:2]))
        )
    _, state = trials.train(batches, tested.suggested)
    task: Any = case.task
    target = case.targets_of(map_arrays(lambda a: np.asarray(a)[unseen], sample.y))[place]
    matrix = _matrix(target)
    assert matrix is not None
    predict = jax.jit(lambda params, state, x: task.model.keyed(params, state, *inputs_of(x))[0])
    outputs = []
    for start in range(0, len(unseen), trials.size):
        at = unseen[start : start + trials.size]
        if len(at) == trials.size:  # one form, one program
            made = predict(
                state.params, state.state, map_arrays(lambda a, at=at: np.asarray(a)[at], sample.x)
            )
            outputs.append(
                np.asarray(_link(target, jax.tree.leaves([values_of(v) for v in _list(made)])[place]))
            )
    output = np.concatenate(outputs).astype(np.float32)
    matrix = matrix[: len(output)]
    output = output.reshape(len(output), -1)
    if target.labels is not None and output.shape[1] == 1:
        output = np.concatenate([1 - output, output], 1)
    if target.labels is not None:
        output = output[:, np.unique(target.labels)]
    return association(output, matrix)


def _link(target: Target, output: Any) -> Any:
    return target.loss.link(output)


def _list(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
