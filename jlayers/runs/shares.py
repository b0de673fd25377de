"""Predictions as probabilities of classes, where the loss that they were trained with says that they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from jlayers.config import load
from jlayers.core.masks import Masked
from jlayers.runs.folder import Run
from jlayers.runs.outputs import named_outputs
from jlayers.train.objective import Supervised

__all__ = ["class_shares"]


Shares = tuple[np.ndarray, list[str]]


def class_shares(run: Run, outputs: Any, members: bool = False) -> dict[str, Shares]:
    """The probabilities `(samples, classes)` of outputs that mean classes, and the names of the classes.

    Logits become probabilities. A single probability is one of two classes. Outputs of another kind, such as
    numbers, several labels or a class for each position, are left out.

    Args:
        run: that made the predictions.
        outputs: as `predict_run` returns them.
        members: as it was given to `predict_run`.
    """
    (task, *others) = [update.task for update in load(run.config).compile().updates]
    if others or not isinstance(task, Supervised):
        return {}
    names = run.data().get("class_names")
    if members:
        found: dict[str, Shares] = {}
        for member, part in outputs.items():
            places = dict(zip(named_outputs(part), named_outputs({member: part}), strict=True))
            found |= {places[name]: shares for name, shares in _shares(task, part, names).items()}
        return found
    return _shares(task, outputs, names)


def _shares(task: Supervised, outputs: Any, names: Any) -> dict[str, Shares]:
    """The same of one model, or of what several seeds predict together."""
    named, losses = named_outputs(outputs), task.judges(outputs)[1]
    if len(losses) != len(named):
        return {}
    found: dict[str, Shares] = {}
    for (name, output), loss in zip(named.items(), losses, strict=True):
        if loss is None or loss.from_logits is None or isinstance(output, Masked):
            continue
        shares = np.asarray(loss.link(np.asarray(output, np.float32)))
        if loss.binary:
            shares = shares[:, None] if shares.ndim == 1 else shares
            shares = np.concatenate([1 - shares, shares], 1) if shares.shape[1:] == (1,) else shares[:0]
        if shares.ndim != 2 or len(shares) != len(output) or shares.shape[1] < 2:
            continue
        known = names if names is not None and len(names) == shares.shape[1] else None
        found[name] = shares, list(known or map(str, range(shares.shape[1])))
    return found
