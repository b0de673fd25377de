"""Simple predictors on plain features: nearest neighbors and a linear one, and equal rows."""

from __future__ import annotations

import math

import numpy as np

from jlayers.data.batches import Batch
from jlayers.experiments.doctor.case import Case

__all__ = ["association", "by_row", "linear", "neighbors", "neighbors_mean", "plain_features"]

WIDEST = 1024  # features; more are mixed by a random projection, which keeps distances


def plain_features(case: Case, sample: Batch) -> np.ndarray | None:
    """The inputs as one float32 row for each sample; None if they are not plain numbers.

    Numbers that go into a table of vectors (tokens, categories) are counted: how often each occurs.
    """
    columns = []
    for name, array in case.arrays_by_name(sample.x, "x").items():
        if array.dtype.kind not in "biuf":
            return None
        rows = len(array)
        if name in case.review.lookups:
            flat = array.reshape(rows, -1)
            made = np.zeros((rows, WIDEST), np.float32)
            np.add.at(made, (np.arange(rows)[:, None], flat % WIDEST), 1.0)
        else:
            made = array.reshape(rows, -1).astype(np.float32)
            if made.shape[1] > WIDEST:
                draw = np.random.default_rng(0).standard_normal((made.shape[1], WIDEST), np.float32)
                made = made @ draw / np.float32(math.sqrt(WIDEST))
        columns.append(made)
    return np.concatenate(columns, 1) if columns else None


def by_row(features: np.ndarray) -> dict[bytes, list[int]]:
    """The numbers of equal rows, by their bytes."""
    groups: dict[bytes, list[int]] = {}
    for i, row in enumerate(np.ascontiguousarray(features)):
        groups.setdefault(row.tobytes(), []).append(i)
    return groups


def standardized(features: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1; constant ones become 0."""
    spread = features.std(0)
    return (features - features.mean(0)) / np.where(spread > 0, spread, np.inf)


def neighbors(features: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the nearest other rows, `(rows, count)`."""
    x = standardized(features)
    square = np.square(x).sum(1)
    distance = square[:, None] + square[None] - 2 * (x @ x.T)
    np.fill_diagonal(distance, np.inf)
    return np.argpartition(distance, count, 1)[:, :count]


def neighbors_mean(features: np.ndarray, targets: np.ndarray, count: int = 10) -> np.ndarray:
    """The mean target of the nearest other rows."""
    return targets[neighbors(features, count)].mean(1)


def linear(features: np.ndarray, targets: np.ndarray, folds: int = 5) -> np.ndarray:
    """Predictions of ridge regression for rows that it has not seen, by cross-validation."""
    x = standardized(features)
    made = np.zeros_like(targets)
    kernel = x @ x.T
    strength = 0.1 * float(np.trace(kernel)) / len(x)
    for fold in range(folds):
        out = np.arange(len(x)) % folds == fold
        mean = targets[~out].mean(0)
        system = kernel[np.ix_(~out, ~out)] + strength * np.eye((~out).sum(), dtype=x.dtype)
        made[out] = mean + kernel[np.ix_(out, ~out)] @ np.linalg.solve(system, targets[~out] - mean)
    return made


def association(predicted: np.ndarray, targets: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The correlation of predictions with targets, and its deviation where there is none.

    Both are matrices `(rows, columns)`, centered by column. The deviation is that of the correlation when the
    targets are put in random orders, so it holds for any distribution.
    """
    p, t = predicted - predicted.mean(0), targets - targets.mean(0)
    size = float(np.linalg.norm(p) * np.linalg.norm(t))
    if not size:
        return 0.0, 1.0 / math.sqrt(max(len(t), 1))
    draw = np.random.default_rng(seed)
    chance = [float((p * t[draw.permutation(len(t))]).sum()) / size for _ in range(100)]
    return float((p * t).sum()) / size, float(np.std(chance))
