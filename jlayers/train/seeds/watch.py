"""A look at the health of a training with several seeds, at steps that the device has finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.train.callbacks import Callback
from jlayers.train.scaling import FLOOR
from jlayers.train.step import Ended
from jlayers.train.tasks import Review
from jlayers.train.watch import HALF, LARGE, Watch

__all__ = ["Means", "SeedsWatch", "read_each"]


def read_each(logs: Mapping[str, Any], review: Review) -> dict[str, np.ndarray]:
    """Logs on the host, in their order, each an array over the seeds."""
    values = jax.device_get(dict(logs))
    names = [key for key in [*review.directions, "loss_scale"] if key in values]
    return {key: np.asarray(values[key], np.float64) for key in names}


class Means(dict[str, float]):
    """Logs for callbacks that hear of all seeds together: means over the seeds that still train.

    Attributes:
        each: by name an array over all seeds, NaN where a seed has ended.
    """

    def __init__(self, values: Mapping[str, np.ndarray], training: np.ndarray):
        super().__init__({name: float(value[training].mean()) for name, value in values.items()})
        self.each = {name: np.where(training, value, np.nan) for name, value in values.items()}


class SeedsWatch(Watch):
    """As `Watch`, over many seeds; progress shows means over those that still train.

    Args:
        seeds: their numbers.
        training: returns which of them still train; the others are ignored.
        forgiven: called with the place of a seed and its error; True if that seed ends and the others
            continue.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        review: Review,
        epoch: int,
        done: int,
        seeds: Sequence[int],
        training: Callable[[], np.ndarray],
        forgiven: Callable[[int, FloatingPointError], bool],
    ):
        super().__init__(callbacks, review, epoch, done)
        self.seeds, self.training, self.forgiven = seeds, training, forgiven
        self.values: dict[str, np.ndarray] = {}

    def _read(self, step: int, logs: Mapping[str, Any]) -> None:
        values = read_each(logs, self.review)
        self.require(np.isfinite(values["loss"]), "the loss became NaN or infinite", step, LARGE)
        scale = values.pop("loss_scale", np.full(len(self.seeds), FLOOR))
        self.require(
            scale >= FLOOR, f"gradients overflowed float16 even at a loss scale of {FLOOR:g}", step, HALF
        )
        self.healthy, self.values, self.latest = step, values, Means(values, self.training())

    def finish_each(self, ended: Ended) -> dict[str, np.ndarray]:
        """Waits for the device; the logs of the epoch by seed, if all seeds that train are healthy."""
        self._read(self.last, ended.logs)
        counted, whole = np.asarray(ended.counted), np.asarray(ended.finite)
        self.require(counted, "the loss was not finite in any batch", self.last, HALF)
        self.require(whole, "parameters became NaN or infinite", self.last, LARGE)
        return dict(self.values)

    def require(self, good: np.ndarray, what: str, step: int, fix: str) -> None:
        """Raises a FloatingPointError that names the first seed for which this does not hold."""
        for place in np.flatnonzero(self.training() & ~good).tolist():
            error = self.failed(f"seed {self.seeds[place]}: {what}", step, fix)
            if not self.forgiven(place, error):
                raise error
