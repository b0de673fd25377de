"""Logs for MLflow."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pathlib
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from jlayers.core.errors import refused
from jlayers.train.callbacks._places import inside, required
from jlayers.train.callbacks._steps import steps_between
from jlayers.train.callbacks.base import Callback, Logs, Run, described, register
from jlayers.train.state import TrainState

__all__ = ["MLflow"]


@register
class MLflow(Callback):
    """Keep a run's options and logs with MLflow, in a local database or where MLflow's own settings say.

    Needs `pip install 'jlayers[mlflow]'`. The model and the options of `jl.compile` become parameters, the
    logs of each epoch metrics, by the number of the step. A run resumed from a checkpoint continues in the
    same run of MLflow. Each value is there once, also where a step ends an epoch, and where steps were taken
    again after a checkpoint.

    Args:
        experiment: the name of MLflow's experiment, which is made if there is none.
        run_name: name of the run; MLflow makes one up if not given.
        folder: of a local database `mlflow.db`; look at it with `mlflow ui --backend-store-uri
            sqlite:///FOLDER/mlflow.db` of the package mlflow. In a configuration it is in the folder `logs`
            of the run. None for the store that `MLFLOW_TRACKING_URI` or `mlflow.set_tracking_uri` names.
        every: log at each multiple of this number of steps, too.

    Raises:
        ImportError: MLflow is not installed.
        ValueError: `every` below 1; a path that leaves the run's folder.

    >>> import jlayers as jl
    >>> jl.callbacks.MLflow("digits", every=50)
    MLflow(experiment='digits', every=50)
    """

    def __init__(
        self,
        experiment: str = "jlayers",
        run_name: str | None = None,
        folder: str | None = "mlflow",
        every: int | None = None,
    ):
        if not experiment:
            raise refused(ValueError, "expected the name of an experiment", experiment=experiment)
        self.experiment, self.run_name, self.folder = experiment, run_name, folder
        self.path = None if folder is None else pathlib.Path(folder)
        self.every = steps_between(every)
        self._client: Any = None
        self._id: str | None = None

    def place(self, folder: str | os.PathLike[str]) -> None:
        self.path = None if self.folder is None else inside(folder, folder=self.folder)

    def check(self, run: Run) -> None:
        required("mlflow", "mlflow", "MLflow")
        if self.path is not None:
            required("alembic", "mlflow", "MLflow")

    def on_fit_begin(self, run: Run) -> None:
        self._run, self._client, self._id, self._status = run, None, None, "FINISHED"
        self._logged: dict[str, int] = {}
        self._continued = False

    def on_step(self, step: int, logs: Logs, state: TrainState) -> None:
        self._log(step, logs)

    def on_epoch_end(self, epoch: int, logs: Logs, state: TrainState) -> None:
        self._log(int(state.step), logs)

    def on_error(self, error: BaseException) -> None:
        self._status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"

    def on_fit_end(self, state: TrainState) -> None:
        if self._client is not None:
            self._client.set_terminated(self._id, self._status)
            self._client = None

    def state(self) -> dict[str, Any]:
        self._begin()
        return {"run_id": self._id}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._id = state["run_id"]

    def _log(self, step: int, logs: Logs) -> None:
        self._begin()
        entities, now = importlib.import_module("mlflow.entities"), int(1000 * time.time())
        new = {name: value for name, value in logs.items() if step > self._last_step(name)}
        self._client.log_batch(self._id, [entities.Metric(name, new[name], now, step) for name in new])
        self._logged.update(dict.fromkeys(new, step))

    def _last_step(self, name: str) -> int:
        """The last step for which MLflow has this value; -1 for none."""
        if name not in self._logged:
            history = self._client.get_metric_history(self._id, name) if self._continued else ()
            self._logged[name] = max((metric.step for metric in history), default=-1)
        return self._logged[name]

    def _store(self) -> str | None:
        if self.path is None:
            return None
        self.path.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{(self.path / 'mlflow.db').absolute()}"

    def _begin(self) -> None:
        """Opens the run at its first use: by then a resumed run has restored its number."""
        if self._client is not None:
            return
        mlflow = required("mlflow", "mlflow", "MLflow")
        with _quiet():
            self._client = mlflow.MlflowClient(self._store())
        if self._id is not None:
            self._client.update_run(self._id, status="RUNNING")
            self._continued = True
            return
        found = self._client.get_experiment_by_name(self.experiment)
        artifacts = None if self.path is None else (self.path / "artifacts").absolute().as_uri()
        number = (
            self._client.create_experiment(self.experiment, artifact_location=artifacts)
            if found is None
            else found.experiment_id
        )
        self._id = self._client.create_run(number, run_name=self.run_name).info.run_id
        for name, value in described(self._run).items():
            self._client.log_param(self._id, name, value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within, MLflow does not tell how it makes the tables of a new database."""
    logger = logging.getLogger("mlflow.store.db.utils")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
