"""A run on disk: what was asked for, where, what came out, and the weights; never written over."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import pathlib
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.config.writer import to_yaml
from jlayers.core.layer import layers
from jlayers.core.registry import to_data
from jlayers.core.state import with_new_carries, without_carries
from jlayers.data import Dataset
from jlayers.data.dataset import Table
from jlayers.data.forms import form_of_data, form_to_data
from jlayers.data.pieces import pieces
from jlayers.inspect.summary import Summary
from jlayers.preprocessing import registry as preprocessors
from jlayers.runs.curves import draw_curves
from jlayers.runs.environment import environment, versions
from jlayers.runs.own_code import CODE, OwnCode
from jlayers.runs.process import has_ended, this_process
from jlayers.runs.requirements import requirements
from jlayers.saving.files import (
    damaged,
    is_locked,
    locked,
    naming,
    new_folder,
    overwrite,
    read_json,
    sha256,
    sweep,
    write_atomically,
)
from jlayers.saving.loading import load_weights
from jlayers.saving.weights import read_metadata, save_weights

__all__ = ["Run", "json_content", "preprocess_to_data"]

CONFIG = "config.yaml"
DATA = "data.json"
PREPROCESS = "preprocess.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
TIMES = "times.jsonl"
WEIGHTS = "weights.safetensors"
SUMMARY = "summary.txt"
MODEL = "model.json"
REQUIREMENTS = "requirements.txt"
CURVES = "curves.png"
CHECKPOINTS = "checkpoints"
RESULTS = "results.json"
HASHED = (CONFIG, DATA, PREPROCESS)  # with the weights, what an evaluation reads


SEEDS = "seeds"  # among the results of an epoch, those of each seed


class Run:
    """The folder of one training run.

    - `config.yaml`: the configuration with all defaults and absolute paths
    - `environment.json`: versions, device, flags and settings
    - `requirements.txt`: the exact versions of the packages that were loaded
    - `model.json`: how many parameters and FLOPs the model has
    - `data.json`: what the data were
    - `preprocess.json`: the preprocessors, if there are any, with what they learned, such as vocabularies
    - `code/`: copies of the files that `--use` named, for people to read; they never run from here
    - `metrics.jsonl`: one line per epoch, written as the epoch ends
    - `times.jsonl`: one line per epoch: how long it took, and how many samples it saw
    - `weights.safetensors`: the weights that the run would keep if it ended now, and their epoch
    - `checkpoints/`: what `jlayers train --resume` goes on from, if the configuration asks for them
    - `logs/`: what the callbacks of the configuration write
    - `summary.txt`, `curves.png`: for people
    - `outcomes.json`, `confusion.png`, `worst.png` and their like: what is predicted of the data held out
    - `results.json`: the status, the final results, the process that trains, hashes of the files

    The status is `running`, `completed`, `failed` or `interrupted`. A run that says `running` and whose
    process has ended, such as after a power failure, has the status `killed`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self._lock: Any = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        summary: str = "",
        code: Sequence[OwnCode] = (),
    ) -> Run:
        """A new folder with the configuration in it.

        Args:
            path: of the folder; those above it are made, too.
            config: plain data.
            summary: of the model, for people.
            code: the user's own files that the configuration needs.

        Raises:
            FileExistsError: there is something at `path` already; nothing is touched. Until all of the new
                folder is written it has another name, so that a run that was killed is whole or not there.
            NotADirectoryError: something above `path` is no folder, such as a link that leads nowhere.
        """
        contents = {
            CONFIG: to_yaml(config).encode(),
            ENVIRONMENT: json_content(environment()),
            REQUIREMENTS: requirements().encode(),
            **({SUMMARY: (summary.rstrip() + "\n").encode()} if summary else {}),
            **{f"{CODE}/{own.name}": own.content for own in code},
        }
        hashes = {own.name: own.sha256 for own in code}
        target = pathlib.Path(path)
        _make_folder(target.parent)
        with new_folder(target, "a run is never written over") as folder:
            run = cls(folder)
            if code:
                (folder / CODE).mkdir()
            for name, content in contents.items():
                write_atomically(folder / name, content)
            run._begin(**({"code": hashes} if code else {}))
        run.path = target
        return run

    def _begin(self, **known: Any) -> None:
        """Lock the folder and note that this process trains now."""
        self.lock()
        process = {**this_process(), "locked": self._lock is not None}
        began = self.results().get("began", _now())
        self.note(status="running", began=began, process=process, **known)

    def lock(self) -> None:
        """Let no other process train into the folder until `unlock`, or until this process ends.

        Raises:
            BlockingIOError: another process does.
        """
        if self._lock is None:
            handle = locked(self.config, f"{self.path} is still being trained by another process")
            self._lock = None if handle is None else weakref.finalize(self, os.close, handle)

    def unlock(self) -> None:
        """Let others train into the folder."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock()

    @classmethod
    def create_next(
        cls,
        parent: str | os.PathLike[str],
        name: str,
        config: Mapping[str, Any],
        summary: str = "",
        code: Sequence[OwnCode] = (),
    ) -> Run:
        """A new folder `<parent>/<name>-<n>`, with the first number that is free."""
        number = 1
        while True:
            try:
                return cls.create(pathlib.Path(parent) / f"{name}-{number}", config, summary, code)
            except FileExistsError:
                number += 1

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """A run that was made before.

        Raises:
            FileNotFoundError: no run there, or one without weights; with the run's status.
            ValueError: `results.json` is damaged.
        """
        run = cls(path)
        if not (run.path / CONFIG).is_file():
            raise FileNotFoundError(
                f"{path} is no run: expected a folder with {CONFIG}, as `jlayers train` makes it"
            )
        if run.status != "running":
            sweep(run.path)
        if not (run.path / WEIGHTS).is_file():
            reason = run.results().get("reason")
            because = f" ({reason})" if reason else ""
            raise FileNotFoundError(f"{path} holds no {WEIGHTS}: the run's status is {run.status!r}{because}")
        return run

    @classmethod
    def reopen(cls, path: str | os.PathLike[str]) -> Run:
        """A run to go on with, whatever ended it. Nothing is changed yet; see `begin_again`.

        Raises:
            FileNotFoundError: no run there, or one that ended before its configuration was written.
            ValueError: it is still being trained, or one of its files is damaged.
        """
        run = cls(path)
        if not (run.path / CONFIG).is_file():
            what = f"ended before its {CONFIG} was written" if (run.path / RESULTS).is_file() else "is no run"
            raise FileNotFoundError(f"{path} {what}: there is nothing to go on from; train into a new folder")
        if run.status == "running":
            raise ValueError(f"{path} is still being trained by another process: wait until it has ended")
        if CONFIG in run.changes():
            raise ValueError(
                f"{run.config} has changed since the training began, which would be another run: restore it, "
                f"or train into a new folder"
            )
        return run

    def begin_again(self) -> None:
        """Note that this process trains now, and sweep what the one before has left half written.

        Raises:
            BlockingIOError: another process trains into the folder.
        """
        self.lock()
        sweep(self.path)
        gone = ("reason", "ended", "files")
        known = {name: value for name, value in self.results().items() if name not in gone}
        self.write_json(RESULTS, known)
        self._begin()

    @property
    def checkpoints(self) -> pathlib.Path:
        """The path of the folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def status(self) -> str:
        """`running`, `completed`, `failed`, `interrupted` or `killed`; `unknown` for a run without one."""
        results = self.results()
        status, process = str(results.get("status", "unknown")), results.get("process")
        return "killed" if status == "running" and (has_ended(process) or self._let_go(process)) else status

    def _let_go(self, process: Any) -> bool:
        """True if a process, perhaps on another computer, has locked the folder and released it."""
        locks = isinstance(process, dict) and process.get("locked") is True
        return locks and self._lock is None and is_locked(self.config) is False

    @property
    def code(self) -> dict[str, str]:
        """The user's own files that the run was trained with, by name, with their SHA-256."""
        return dict(self.results().get("code", {}))

    def kept_code(self, name: str) -> pathlib.Path:
        """The path of the run's copy of one of those files."""
        return self.path / CODE / name

    def changes(self) -> list[str]:
        """The run's files that are no longer as the training left them."""
        hashes = self.results().get("files", {})
        return [name for name, known in hashes.items() if self._hash(name) != known]

    def _hash(self, name: str) -> str | None:
        path = self.path / name
        return sha256(path.read_bytes()) if path.is_file() else None

    def other_versions(self) -> list[str]:
        """The packages with another version than in the training, such as `jax 0.10.0, now 0.10.2`."""
        path = self.path / ENVIRONMENT
        then = read_json(path).get("versions", {}) if path.is_file() else {}
        now = versions()
        return [
            f"{name} {then[name]}, now {now[name]}" for name in now if then.get(name, now[name]) != now[name]
        ]

    @property
    def config(self) -> pathlib.Path:
        """The path of the configuration."""
        return self.path / CONFIG

    def log(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Add the results of one epoch; they are on disk when this returns."""
        self._add_line(METRICS, {"epoch": epoch, **_finite(logs)})

    def log_times(self, epoch: int, times: Mapping[str, float]) -> None:
        """Add how long an epoch took; apart from the results, which are equal on every machine."""
        self._add_line(TIMES, {"epoch": epoch, **times})

    def _add_line(self, name: str, entries: Mapping[str, Any]) -> None:
        path = self.path / name
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entries) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cut(self, epochs: int) -> None:
        """Leave the results of the first epochs only: a run that goes on writes the others anew."""
        for name in (METRICS, TIMES):
            path = self.path / name
            lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
            if len(lines) > epochs:
                write_atomically(path, b"".join(lines[:epochs]))

    def history(self) -> dict[str, list[float]]:
        """The results of all epochs, a list for each.

        A last line that was cut off, by a full disk or a power failure, is left out.

        Raises:
            ValueError: another line is damaged.
        """
        return self._lists(METRICS)

    def times(self) -> dict[str, list[float]]:
        """By epoch the `seconds` it took with its validation, those of `training`, those that were `waited`
        for data, and the `samples` that were seen. Empty for a run of an older version.

        Raises:
            ValueError: as `history` does.
        """
        return self._lists(TIMES)

    def _lists(self, name: str) -> dict[str, list[float]]:
        history: dict[str, list[float]] = {}
        path = self.path / name
        lines = path.read_bytes().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                logs = json.loads(line)
                values = {name: _number(value) for name, value in logs.items() if name != SEEDS}
            except (ValueError, TypeError, RecursionError) as error:
                if number == len(lines):
                    break
                raise damaged(path, f"line {number}: {error}") from None
            for name in values:
                if name != "epoch":
                    history.setdefault(name, []).append(values[name])
        return history

    def seeds_history(self) -> dict[str, np.ndarray]:
        """The history of several seeds: by name an array `(epochs, seeds)`, NaN after the end of a seed."""
        path = self.path / METRICS
        lines = path.read_bytes().splitlines() if path.is_file() else []
        epochs = len(next(iter(self.history().values()), []))
        found: dict[str, list[list[float]]] = {}
        for line in lines[:epochs]:
            for name, values in json.loads(line).get(SEEDS, {}).items():
                found.setdefault(name, []).append(list(map(_number, values)))
        return {name: np.array(rows) for name, rows in found.items()}

    @property
    def has_weights(self) -> bool:
        """True if it has saved weights."""
        return (self.path / WEIGHTS).is_file()

    @property
    def has_seeds(self) -> bool:
        """True for a run of many seeds."""
        return SEEDS in self.results()

    def write_data(self, data: Dataset, source: Dataset) -> None:
        """Note what the data are: what `predict` needs to know of them, and whether they changed.

        Args:
            data: as the model is given them.
            source: as they were before preprocessing.
        """
        train, test = data.sizes
        facts = {"name": data.name, "train": train, "test": test}
        parts = {"inputs": _facts(source.train[0]), "features": _facts(data.train[0])}
        known = {"class_names": data.class_names, "fingerprint": data.fingerprint(), "pieces": pieces(source)}
        table = {} if data.table is None else {"table": dataclasses.asdict(data.table)}
        form = {} if data.form is None else {"form": form_to_data(data.form)}
        self.write_json(DATA, {**facts, **parts, **known, **table, **form})

    def write_model(self, summary: Summary) -> None:
        """Keep the layers of the model, for people, and its size and cost, for comparisons."""
        write_atomically(self.path / SUMMARY, (str(summary).rstrip() + "\n").encode())
        facts = {"name": summary.rows[0].layer.spec.name, "parameters": summary.params}
        costs = {"trainable": summary.trainable, "state": summary.state, "flops": summary.flops}
        self.write_json(MODEL, {**facts, **costs, "bytes": summary.bytes})

    def model(self) -> dict[str, Any]:
        """The content of `model.json`; empty for a run of an older version."""
        path = self.path / MODEL
        return read_json(path) if path.is_file() else {}

    def write_preprocess(self, preprocess: Mapping[str, Any]) -> None:
        """Keep preprocessors with what they learned; no file if there are none."""
        if preprocess:
            self.write_json(PREPROCESS, preprocess_to_data(preprocess))

    def preprocess(self) -> dict[str, Any]:
        """The preprocessors of the run, as adapted then."""
        path = self.path / PREPROCESS
        registries = {"preprocessor": preprocessors, "layer": layers}
        found = read_json(path) if path.is_file() else {}
        try:
            return {name: registries[entry["kind"]].get(entry["made"]) for name, entry in found.items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise damaged(path, f"expected preprocessors: {error}") from None

    def data(self) -> dict[str, Any]:
        """The content of `data.json`: name, sizes, features, class names, fingerprint."""
        return read_json(self.path / DATA)

    def features(self) -> Any:
        """The model's input as `jax.ShapeDtypeStruct`s with a batch of 1; a dict for several inputs."""
        return self._specs("features")

    def inputs(self) -> Any:
        """As `features`, before preprocessing; text is an array of objects."""
        return self._specs("inputs" if "inputs" in self.data() else "features")

    def table(self) -> Table | None:
        """The rules by which the CSV file of the training data was read; None for other data."""
        found = self.data().get("table")
        try:
            return None if found is None else Table.of(found)
        except (KeyError, TypeError) as error:
            raise damaged(self.path / DATA, f"expected columns under 'table': {error}") from None

    def form(self) -> Any:
        """The rules by which the files of a folder were read; None for other data."""
        found = self.data().get("form")
        try:
            return None if found is None else form_of_data(found)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self.path / DATA, f"expected how files are read under 'form': {error}") from None

    def _specs(self, name: str) -> Any:
        try:
            return _specs(self.data()[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(self.path / DATA, f"expected shapes and dtypes under {name!r}: {error}") from None

    def save(self, params: Any, state: Any, epoch: int | None = None) -> None:
        """Keep these weights in place of earlier ones, and the number of their epoch, counted from 1.

        What the state hands from batch to batch is left out: it belongs to the data.
        """
        metadata = {} if epoch is None else {"epoch": str(epoch)}
        save_weights(self.path / WEIGHTS, params, without_carries(state), metadata)

    def kept_epoch(self) -> int | None:
        """The epoch of the saved weights, counted from 1, or None if the file does not say."""
        epoch = read_metadata(self.path / WEIGHTS).get("epoch", "")
        return int(epoch) if epoch.isdecimal() else None

    def finish(self, results: Mapping[str, Any]) -> None:
        """Keep the results of a run that was completed; its weights are saved already."""
        write_atomically(self.path / REQUIREMENTS, requirements().encode())  # more is loaded by now
        self.note(status="completed", ended=_now(), **results)

    def fail(self, error: BaseException) -> None:
        """Note why the run ended before its end; what it has saved stays as it is.

        A full disk or a folder that has gone does not raise: a note at `error` says that the status could
        not be written. The run's status is then `killed`, since its process has ended.
        """
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = str(error) if interrupted and str(error) else f"{type(error).__name__}: {error}".rstrip(": ")
        status = {"status": "interrupted" if interrupted else "failed", "ended": _now(), "reason": reason}
        try:
            self.note(**status)
        except Exception as second:
            status["reason"] = type(error).__name__
            for content in ({**self._known(), **status}, status):
                with contextlib.suppress(OSError):
                    overwrite(self.path / RESULTS, json_content(content))
                    return
            error.add_note(f"the run's status could not be written: {second}")

    def _known(self) -> dict[str, Any]:
        with contextlib.suppress(ValueError, OSError):
            return self.results()
        return {}

    def results(self) -> dict[str, Any]:
        """The content of `results.json`."""
        path = self.path / RESULTS
        try:
            return read_json(path) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{error}; or remove it: only the status and the results are lost") from None

    def note(self, **entries: Any) -> None:
        """Put entries into `results.json`, and the hashes of the run's files as they are now."""
        names = (*HASHED, *([] if entries.get("status") == "running" else [WEIGHTS]))
        known = {**self.results(), **entries}
        hashes = {name: digest for name in names if (digest := self._hash(name))}
        self.write_json(RESULTS, {**known, "files": {**hashes, **known.get("files", {})}})

    def weights(self, params: Any, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The saved weights, exactly those that are expected; see `load_weights`.

        Args:
            params: arrays or specs.
            state: the same. What it hands from batch to batch begins at zero.
        """
        params, found = load_weights(self.path / WEIGHTS, params, without_carries(state))
        return params, with_new_carries(found, state)

    def draw(self) -> bool:
        """Draw the learning curves; False without matplotlib."""
        return draw_curves(self.path / CURVES, self.history(), self.path.name)

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, json_content(data))


def preprocess_to_data(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessors as plain data, with what they learned."""
    return {name: {"kind": p.spec.kind, "made": to_data(p, name)} for name, p in preprocess.items()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def json_content(data: Mapping[str, Any]) -> bytes:
    """The content of a JSON file; a number that is not finite becomes null."""
    return (json.dumps(_finite(data), indent=2) + "\n").encode()


def _make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        what = "a link that leads nowhere" if path.is_symlink() else "no folder"
        raise NotADirectoryError(
            f"{path} is {what}, or lies in something that is none: remove it, or choose another place "
            f"with --run"
        ) from None


def _facts(x: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": ".".join(str(k.key) for k in path),
            "shape": list(array.shape[1:]),
            "dtype": "text" if array.dtype == object else str(array.dtype),
        }
        for path, array in jax.tree.leaves_with_path(x)
    ]


def _specs(facts: list[dict[str, Any]]) -> Any:
    def spec(shape: list[int], dtype: str) -> Any:
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"received the shape {shape!r}")
        if dtype == "text":
            return np.empty((1, *shape), object)
        return jax.ShapeDtypeStruct((1, *shape), np.dtype(dtype))

    specs = {fact["name"]: spec(fact["shape"], fact["dtype"]) for fact in facts}
    return specs[""] if list(specs) == [""] else specs


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
