"""Reads what the device has finished: logs for the progress bar, and whether a run is still healthy."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jlayers.train.callbacks import Callback
from jlayers.train.scaling import FLOOR
from jlayers.train.step import Ended
from jlayers.train.tasks import Review

__all__ = ["LARGE", "Watch", "read"]

HALF = (
    "compute in bfloat16 (precision 'mixed_bfloat16'), keep the layers that overflow in float32 by their "
    "paths, or lower the learning rate"
)
LARGE = (
    "look in the data for extreme values and for numbers outside of an embedding's table, lower the learning "
    "rate, or clip the gradients (clip_by_global_norm)"
)


class Watch:
    """Reads logs that the device has finished, and never makes it do anything."""

    PERIOD = 0.1  # seconds between two looks
    MARKS = 64  # dispatches whose logs are kept until the device has finished them

    def __init__(self, callbacks: Sequence[Callback], review: Review, epoch: int, done: int):
        self.callbacks, self.review, self.epoch = callbacks, review, epoch
        self.due = time.monotonic() + self.PERIOD
        self.healthy = self.last = done  # steps of the epoch that are known to be good, and dispatched
        self.pending: collections.deque[tuple[int, Mapping[str, Any]]] = collections.deque()
        self.newest: tuple[int, Mapping[str, Any]] | None = None
        self.count, self.stride = 0, 1
        self.latest: dict[str, float] = {}

    def add(self, step: int, logs: Mapping[str, Any] | None) -> None:
        """`step` batches of the epoch are dispatched; these are the logs that they will have, or None."""
        self.last = step
        if logs is None:
            return
        self.newest = (step, logs)
        self.count += 1
        if self.count % self.stride == 0:
            self.pending.append(self.newest)
            if len(self.pending) > self.MARKS:  # small steps: mark fewer of them, and wait for the oldest
                jax.block_until_ready(self.pending[0][1])
                self.stride *= 2
                self.pending = collections.deque(list(self.pending)[1::2])
        if time.monotonic() >= self.due:
            self._look()

    def _look(self) -> None:
        ready = None
        while self.pending and all(value.is_ready() for value in self.pending[0][1].values()):
            ready = self.pending.popleft()
        if ready is not None:
            self._read(*ready)
        for callback in self.callbacks:
            callback.on_progress(self.epoch, self.healthy, self.latest)
        self.due = time.monotonic() + self.PERIOD

    def read_all(self) -> dict[str, float]:
        """Waits for the device, and gives the newest logs."""
        self.pending.clear()
        if self.newest is not None:
            newest, self.newest = self.newest, None
            self._read(*newest)
        return dict(self.latest)

    def _read(self, step: int, logs: Mapping[str, Any]) -> None:
        values = read(logs, self.review)
        if not math.isfinite(values["loss"]):
            raise self.failed(f"the loss became {values['loss']}", step, LARGE)
        if values.pop("loss_scale", FLOOR) < FLOOR:
            raise self.failed(f"gradients overflowed float16 even at a loss scale of {FLOOR:g}", step, HALF)
        self.healthy, self.latest = step, values

    def finish(self, ended: Ended) -> dict[str, float]:
        """Waits for the device; the logs of the epoch, if the run is healthy.

        Under a dynamic loss scale a batch of infinite loss counts in no metric; not all may be such.
        """
        self._read(self.last, ended.logs)
        if not ended.counted:
            raise self.failed("the loss was not finite in any batch", self.last, HALF)
        if not ended.finite:
            raise self.failed("parameters became NaN or infinite", self.last, LARGE)
        return dict(self.latest)

    def failed(self, what: str, step: int, fix: str) -> FloatingPointError:
        first = min(self.healthy + 1, step)
        steps = f"in step {step}" if first == step else f"between its steps {first} and {step}"
        return FloatingPointError(f"{what} in epoch {self.epoch + 1}, {steps}; {fix}")


def read(logs: Mapping[str, Any], review: Review) -> dict[str, float]:
    """Logs on the host, in their order."""
    values = jax.device_get(dict(logs))
    return {key: float(values[key]) for key in [*review.directions, "loss_scale"] if key in values}
