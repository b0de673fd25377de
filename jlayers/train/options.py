"""The options of a training, in one record that `jl.compile`, the trainer and configurations share."""

from __future__ import annotations

import dataclasses
from typing import Any

from jlayers.train.scaling import LossScaleLike

__all__ = ["Options"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Options:
    """The arguments of `jl.compile` besides the model, which says what each of them means.

    Each field is an argument of `jl.compile`, an attribute of the trainer and a section of a configuration.

    >>> Options(loss="mse").optimizer
    'adam'
    """

    optimizer: Any = "adam"
    loss: Any = None
    metrics: Any = ()
    loss_weights: Any = None
    weighted_metrics: Any = ()
    augment: Any = None
    loss_scale: LossScaleLike = "auto"
    accumulate: int = 1
    ema: float | None = None
    unfreeze: Any = None
