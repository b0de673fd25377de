"""The logs of each epoch, and of steps in between, as lines of JSON."""

from __future__ import annotations

import json
import math

from jlayers.train.callbacks._log_file import LogFile
from jlayers.train.callbacks._steps import steps_between
from jlayers.train.callbacks.base import Logs, register
from jlayers.train.state import TrainState

__all__ = ["JSONLinesLogger"]


@register
class JSONLinesLogger(LogFile):
    r"""Write logs as lines of JSON: `{"epoch": 0, "step": 57, "loss": 0.7}`.

    A line without `epoch` is one within an epoch; its values are those of the epoch so far. A run that goes
    on from a checkpoint cuts the file back to it, so that no line is there twice.

    Args:
        filename: name of the file. In a configuration it is in the folder `logs` of the run.
        every: write a line at each multiple of this number of steps, too.
        append: add to a file that exists already, instead of writing a new one.

    Raises:
        ValueError: `every` below 1; a path that leaves the run's folder.

    >>> import numpy as np, pathlib, tempfile, jlayers as jl
    >>> x = np.zeros((8, 2), np.float32)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> trainer = jl.compile(jl.Dense(1, use_bias=False), loss="mse")
    >>> _ = jl.fit(trainer, x, x[:, :1], epochs=1, callbacks=[jl.callbacks.JSONLinesLogger(str(path))])
    >>> path.read_text()
    '{"epoch": 0, "step": 1, "loss": 0.0}\n'
    """

    def __init__(self, filename: str = "log.jsonl", every: int | None = None, append: bool = False):
        super().__init__(filename, append)
        self.every = steps_between(every)

    def on_step(self, step: int, logs: Logs, state: TrainState) -> None:
        self.write(_line({"step": step}, logs))

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> None:
        self.write(_line({"epoch": epoch, "step": int(state.step)}, logs))


def _line(place: dict[str, int], logs: Logs) -> str:
    """JSON has no NaN and no infinity: they become null."""
    values = {name: value if math.isfinite(value) else None for name, value in logs.items()}
    return json.dumps({**place, **values})
