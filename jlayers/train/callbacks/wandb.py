"""Logs for Weights & Biases."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from jlayers.core.errors import refused
from jlayers.train.callbacks._places import inside, required
from jlayers.train.callbacks._steps import steps_between
from jlayers.train.callbacks.base import Callback, Logs, Run, described, register
from jlayers.train.state import TrainState

__all__ = ["WandB"]


@register
class WandB(Callback):
    """Keep a run's options and logs with Weights & Biases; by default on this machine only.

    Needs `pip install 'jlayers[wandb]'`. An offline run is sent later by `wandb sync FOLDER`. A run that goes
    on from a checkpoint has the same id. Nothing but options and logs is kept: no code, no output of the
    terminal, no measurements of the machine.

    Args:
        project: the name of the project.
        name: name of the run; W&B makes one up if not given.
        mode: "offline"; or "online", which needs an account (`wandb login`).
        folder: of the files. In a configuration it is in the folder `logs` of the run.
        every: log at each multiple of this number of steps, too.

    Raises:
        ImportError: wandb is not installed.
        ValueError: another mode; `every` below 1; a path that leaves the run's folder.

    >>> import jlayers as jl
    >>> jl.callbacks.WandB("digits", every=50)
    WandB(project='digits', every=50)
    """

    def __init__(
        self,
        project: str = "jlayers",
        name: str | None = None,
        mode: Literal["offline", "online"] = "offline",
        folder: str = ".",
        every: int | None = None,
    ):
        if mode not in ("offline", "online"):
            raise refused(ValueError, "expected mode 'offline' or 'online'", mode=mode)
        self.project, self.name, self.mode, self.folder = project, name, mode, folder
        self.path = pathlib.Path(folder)
        self.every = steps_between(every)
        self._logged: Any = None
        self._id: str | None = None

    def place(self, folder: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(folder) if self.folder == "." else inside(folder, folder=self.folder)

    def check(self, run: Run) -> None:
        required("wandb", "wandb", "WandB")

    def on_fit_begin(self, run: Run) -> None:
        self._run, self._logged, self._id, self._code = run, None, None, 0

    def on_step(self, step: int, logs: Logs, state: TrainState) -> None:
        self._begin().log(dict(logs), step=step)

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> None:
        self._begin().log({"epoch": epoch, **logs}, step=int(state.step))

    def on_error(self, error: BaseException) -> None:
        self._code = 1

    def on_fit_end(self, state: TrainState) -> None:
        if self._logged is not None:
            self._logged.finish(exit_code=self._code)
            self._logged = None

    def state(self) -> dict[str, Any]:
        return {"run_id": self._begin().id}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._id = state["run_id"]

    def _begin(self) -> Any:
        """The run, opened at its first use: by then a resumed run has restored its id."""
        if self._logged is None:
            wandb = required("wandb", "wandb", "WandB")
            self.path.mkdir(parents=True, exist_ok=True)
            quiet = wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
            )
            self._logged = wandb.init(
                project=self.project,
                name=self.name,
                mode=self.mode,
                dir=str(self.path),
                id=self._id,
                resume="allow" if self._id else None,
                config=described(self._run),
                settings=quiet,
                reinit="create_new",
            )
        return self._logged
