"""The case behind its frozen layers: features in the place of samples, for the checks that train."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from jlayers.data.batches import map_arrays
from jlayers.data.lazy import is_lazy
from jlayers.experiments.doctor.case import Case, Cut
from jlayers.train.features import trainer_of_head
from jlayers.train.inference import predict

__all__ = ["behind_frozen"]

ROWS = 2000  # that have features


def behind_frozen(case: Case) -> Case:
    """The case as the training sees it that keeps features; any other case stays as it is.

    Features are computed of samples in a random order until there are enough of them, or until the time is
    up that a check may take.

    Raises:
        ValueError: the model has no frozen layers at its beginning, as `fit` says it.
    """
    if not case.cache_features:
        return case
    trainer, split = trainer_of_head(case.trainer, case.x)
    weights = case.state.params, case.state.state
    order = np.random.default_rng([case.seed, 11]).permutation(case.rows)[:ROWS]
    size = min(case.batch_size, len(order))
    starts = range(0, len(order) - size + 1, size)  # of whole batches: one form, one program

    def features(start: int) -> Any:
        x = map_arrays(lambda array: _rows(array, order[start : start + size]), case.x)
        return predict(split.base, weights, x, batch_size=size)

    features(0)  # compiles
    begun, taken, made = time.perf_counter(), 0.0, []
    for start in starts:
        made.append(features(start))
        taken = time.perf_counter() - begun
        if taken > case.seconds:
            break
    rows = size * len(made)
    x = jax.tree.map(lambda *parts: np.concatenate(parts), *made)
    y = map_arrays(lambda array: _rows(array, order[:rows]), case.y)
    cut = Cut(case.steps, rows, taken / rows * case.rows)
    behind = dataclasses.replace(
        case, trainer=trainer, x=x, y=y, held_out={}, given=case.state, cache_features=False, cut=cut
    )
    vars(behind)["fresh"] = case.fresh  # of the whole model
    return behind


def _rows(array: Any, which: np.ndarray) -> Any:
    return array.take(which) if is_lazy(array) else np.asarray(array)[which]
