"""Logs for TensorBoard."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Literal

from jlayers.core.errors import refused
from jlayers.train.callbacks._places import inside, required
from jlayers.train.callbacks.base import Callback, Logs, Run, register
from jlayers.train.state import TrainState

__all__ = ["TensorBoard"]


@register
class TensorBoard(Callback):
    """Write the logs of each epoch for TensorBoard, in the folders `train` and `validation`.

    Needs `pip install 'jlayers[tensorboard]'`, which brings tensorboardX to write the files; look at them
    with `tensorboard --logdir DIR` of the package tensorboard. The axis is the number of the step. After a
    checkpoint from which a run continues, TensorBoard shows only what was written the second time.

    Args:
        log_dir: the folder. In a configuration it is in the folder `logs` of the run.
        update_freq: "epoch", or a number of steps, or "batch" for 1, at whose multiples the logs of the epoch
            so far are written, too, as `batch_loss` and so on.

    Raises:
        ImportError: tensorboardX is not installed.
        ValueError: another `update_freq`; a path that leaves the run's folder.

    >>> import jlayers as jl
    >>> jl.callbacks.TensorBoard("runs/first", update_freq=20)
    TensorBoard(log_dir='runs/first', update_freq=20)
    """

    def __init__(self, log_dir: str = "tensorboard", update_freq: int | Literal["batch", "epoch"] = "epoch"):
        whole = isinstance(update_freq, int) and not isinstance(update_freq, bool) and update_freq >= 1
        if not whole and update_freq not in ("batch", "epoch"):
            raise refused(
                ValueError, "expected 'epoch', 'batch' or a number of steps", update_freq=update_freq
            )
        if not log_dir or "\0" in log_dir:
            raise refused(ValueError, "expected the name of a folder", log_dir=log_dir)
        self.log_dir, self.path = log_dir, pathlib.Path(log_dir)
        self.every = {"epoch": None, "batch": 1}.get(update_freq, update_freq)  # type: ignore[arg-type]
        self._writers: dict[str, Any] = {}

    def place(self, folder: str | os.PathLike[str]) -> None:
        self.path = inside(folder, log_dir=self.log_dir)

    def check(self, run: Run) -> None:
        required("tensorboardX", "tensorboard", "TensorBoard")

    def on_fit_begin(self, run: Run) -> None:
        self._after = run.step + 1 if run.resumed else None

    def on_step(self, step: int, logs: Logs, state: TrainState) -> None:
        self._write(step, logs, "batch_")

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> None:
        self._write(int(state.step), logs)

    def on_fit_end(self, state: TrainState) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write(self, step: int, logs: Logs, prefix: str = "") -> None:
        for name, value in logs.items():
            part = "validation" if name.startswith("val_") else "train"
            self._writer(part).add_scalar(prefix + name.removeprefix("val_"), value, step)
        for writer in self._writers.values():
            writer.flush()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            module = required("tensorboardX", "tensorboard", "TensorBoard")
            self._writers[part] = module.SummaryWriter(str(self.path / part), purge_step=self._after)
        return self._writers[part]
