"""A run's folder as one record: settings, results, history, times and costs, whatever its status."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jlayers.config.reader import read_file
from jlayers.runs import Run
from jlayers.runs.epochs import SEEDS
from jlayers.runs.files import CONFIG, ENVIRONMENT, METRICS, RESULTS, WEIGHTS

__all__ = ["RunRecord", "find_runs", "flattened", "read_run"]

Time = datetime.datetime


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The facts of one run, as its folder holds them now.

    Attributes:
        path: path of the folder.
        status: `running`, `completed`, `failed`, `interrupted`, `killed`, or `unknown`; `damaged` for a
            folder that cannot be read.
        reason: why it ended before its end, or why it cannot be read; else None.
        settings: the resolved configuration by path, `{"optimizer.adam.learning_rate": 0.01, ...}`.
        history: a list for each result, one value for each finished epoch.
        metrics: the results of the epoch whose weights are kept: `loss`, `val_loss`, and `test_loss` for the
            held-out data, and so on.
        spread: of a run of many seeds the standard deviations over them; `metrics` are then their means.
        better: "min" or "max", by name in `history`.
        epochs: how many are finished.
        planned: how many the configuration asks for.
        kept_epoch: the epoch of the saved weights, counted from 1.
        began: when the training began, in UTC.
        ended: when it ended; None while it runs, and for a run that was killed.
        seconds: seconds of training, so far.
        parameters: number of parameters of the model, trained or not; None for a run of an older version, as
            are the next two.
        trainable: those of them that are trained.
        flops: floating-point operations of a forward pass of one sample.
        size: size of the folder, in bytes.
    """

    path: pathlib.Path
    status: str
    reason: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    spread: Mapping[str, float] = dataclasses.field(default_factory=dict)
    better: Mapping[str, str] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    planned: int | None = None
    kept_epoch: int | None = None
    began: Time | None = None
    ended: Time | None = None
    seconds: float | None = None
    parameters: int | None = None
    trainable: int | None = None
    flops: int | None = None
    size: int = 0

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    def direction(self, metric: str) -> str:
        """Return "min" or "max", whichever is better for a metric; `test_loss` is treated as `loss`."""
        known = self.better.get(metric) or self.better.get(metric.removeprefix("test_"))
        # Runs of older versions do not say.
        return known or ("min" if "loss" in metric or "error" in metric else "max")

    @property
    def best(self) -> tuple[str, float] | None:
        """The metric to judge the run by, and its value for the weights that are kept.

        It is measured on the held-out data, else on the validation data, else on the training data. It is the
        metric that early stopping, the best checkpoint or a callback watches; else the first one that is not
        a loss; else the loss. A watched loss does not count if there are metrics: it decides when to stop,
        but users who ask for an accuracy judge by that. The losses of single outputs never count.
        """
        for prefix in ("test_", "val_", ""):
            names = [name for name in self.metrics if _is_of(name, prefix)]
            metrics = [name for name in names if not _is_loss(name)]
            watched = [name for name in (f"{prefix}{n}" for n in self._watched_metrics) if name in metrics]
            loss = [name for name in names if name == f"{prefix}loss"]
            if ordered := [*watched, *metrics, *loss, *names]:
                return ordered[0], self.metrics[ordered[0]]
        return None

    @property
    def _watched_metrics(self) -> list[str]:
        """The metrics that decide about the training, without the names of parts of the data."""
        training = "training."
        own = [f"{training}early_stopping.monitor", f"{training}checkpoint.best"]
        more = [p for p in self.settings if p.startswith(f"{training}callbacks.") and p.endswith(".monitor")]
        names = [self.settings.get(path) for path in (*own, *more)]
        return [name.removeprefix("val_") for name in names if isinstance(name, str)]


def _is_of(name: str, prefix: str) -> bool:
    return name.startswith(prefix) if prefix else not name.startswith(("test_", "val_"))


def _is_loss(name: str) -> bool:
    """True for the loss, and for that of one output."""
    return name.endswith("_loss") or name == "loss"


def read_run(path: str | os.PathLike[str]) -> RunRecord:
    """The record of a run, be it running, completed, failed, interrupted or killed. Nothing is changed.

    Raises:
        FileNotFoundError: no run there.
        ValueError: one of its files is damaged.
    """
    run = Run(path)
    if not is_run(run.path):
        raise FileNotFoundError(
            f"{path} is not a run: expected a folder with {CONFIG}, as `jlayers train` makes it"
        )
    status, results = run.status, run.results()
    kept = run.kept_epoch() if (run.path / WEIGHTS).is_file() else results.get("kept_epoch")
    history = run.history()  # after the weights: a resumed run logs an epoch before it saves them
    epochs = max((len(values) for values in history.values()), default=0)
    settings = flattened(read_file(run.config).data)
    began = _time(results.get("began")) or _time_of_change(run.path / ENVIRONMENT)
    ended = _time(results.get("ended"))
    model = run.model()
    return RunRecord(
        path=run.path,
        status=status,
        reason=results.get("reason"),
        settings=settings,
        history=history,
        metrics=_metrics(results, history, kept or epochs),
        spread={name: one["std"] for name, one in _by_name(results.get(SEEDS, {})).items()},
        better=results.get("better", {}),
        epochs=epochs,
        planned=settings.get("training.epochs"),
        kept_epoch=kept,
        began=began,
        ended=ended,
        seconds=results.get("seconds", _seconds(run.path, status, began, ended)),
        parameters=model.get("parameters"),
        trainable=model.get("trainable"),
        flops=model.get("flops"),
        size=_size(run.path),
    )


def find_runs(folder: str | os.PathLike[str] = "runs") -> list[RunRecord]:
    """The records of all runs in a folder and in the folders below it, the oldest first.

    A run that cannot be read has the status `damaged`.

    Raises:
        FileNotFoundError: no such folder.
    """
    top = pathlib.Path(folder)
    if not top.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder of runs: there is nothing there")
    records = [_read(path) for path in _runs_in(top)]
    return sorted(
        records, key=lambda record: (record.began or Time.max.replace(tzinfo=datetime.UTC), record.name)
    )


def is_run(path: pathlib.Path) -> bool:
    """True for the folder of a run."""
    return (path / CONFIG).is_file() and ((path / RESULTS).is_file() or (path / ENVIRONMENT).is_file())


def flattened(value: Any, path: str = "") -> dict[str, Any]:
    """Nested plain data as values by path; what is empty stays as it is.

    >>> flattened({"model": {"Sequential": [{"Dense": 10}, "Flatten"]}, "metrics": []})
    {'model.Sequential.0.Dense': 10, 'model.Sequential.1': 'Flatten', 'metrics': []}
    """
    if not value or not isinstance(value, (Mapping, list)):
        return {path: value}
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    flat: dict[str, Any] = {}
    for key, part in parts:
        flat |= flattened(part, f"{path}.{key}" if path else str(key))
    return flat


def _read(path: pathlib.Path) -> RunRecord:
    try:
        return read_run(path)
    except (ValueError, OSError) as error:
        return RunRecord(path, "damaged", str(error))


def _runs_in(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for at, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if is_run(path := pathlib.Path(at)):
            below.clear()
            yield path


def _metrics(
    results: Mapping[str, Any], history: Mapping[str, Sequence[float]], epoch: int
) -> dict[str, float]:
    """Of an epoch, and of the held-out data. Each of many seeds keeps its own epoch: results say all."""
    metrics = {name: values[epoch - 1] for name, values in history.items() if 0 < epoch <= len(values)}
    said = _by_name(results if SEEDS in results else {"test": results.get("test", {})})
    return {**metrics, **{name: math.nan if value is None else value for name, value in said.items()}}


def _by_name(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results of all parts of the data in one mapping, named as in `RunRecord.metrics`."""
    starts = {"train": "", "validation": "val_", "test": "test_"}
    return {
        f"{start}{name}": value
        for part, start in starts.items()
        for name, value in results.get(part, {}).items()
    }


def _seconds(path: pathlib.Path, status: str, began: Time | None, ended: Time | None) -> float | None:
    """From the beginning to the end; to now for a run that runs, to its last sign for one that was killed."""
    if status == "running":
        ended = Time.now(datetime.UTC)
    ended = ended or _time_of_change(path / METRICS)
    return None if began is None or ended is None else max(0.0, round((ended - began).total_seconds(), 3))


def _size(folder: pathlib.Path) -> int:
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # a run that is still trained replaces its files
                total += os.stat(os.path.join(at, name)).st_size
    return total


def _time_of_change(path: pathlib.Path) -> Time | None:
    return Time.fromtimestamp(path.stat().st_mtime, datetime.UTC) if path.is_file() else None


def _time(text: Any) -> Time | None:
    return Time.fromisoformat(text) if isinstance(text, str) else None
