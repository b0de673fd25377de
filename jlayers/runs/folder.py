"""A run on disk: what was asked for, where, what came out, and the weights; never written over."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jlayers.config.writer import to_yaml
from jlayers.core.layer import layers
from jlayers.core.registry import to_data
from jlayers.data import Dataset
from jlayers.data.dataset import Table
from jlayers.preprocessing import registry as preprocessors
from jlayers.runs.curves import draw_curves
from jlayers.runs.environment import environment
from jlayers.runs.weights import load_weights, save_weights, write_atomically

__all__ = ["Run"]

CONFIG = "config.yaml"
DATA = "data.json"
PREPROCESS = "preprocess.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
WEIGHTS = "weights.safetensors"
SUMMARY = "summary.txt"
CURVES = "curves.png"
RESULTS = "results.json"


class Run:
    """The folder of one training run.

    `config.yaml` is the configuration with all defaults and absolute paths; `environment.json` versions and
    settings; `data.json` what the data were; `preprocess.json` the preprocessors, if there are any, with what
    they learned, such as vocabularies; `metrics.jsonl` one line per epoch, written as it ends;
    `weights.safetensors` the weights, of the last epoch until the training ends; `summary.txt`; `curves.png`;
    and `results.json` the status (`running`, `completed`, `failed`, `interrupted`) and the final results.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Mapping[str, Any], summary: str = "") -> Run:
        """A new folder with the configuration in it.

        Raises:
            FileExistsError: there is something at `path` already; nothing is touched.
        """
        run = cls(path)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            raise FileExistsError(
                f"{path} is there already, and a run is never written over: choose another folder"
            ) from None
        write_atomically(run.path / CONFIG, to_yaml(config).encode())
        run.write_json(ENVIRONMENT, environment())
        if summary:
            write_atomically(run.path / SUMMARY, (summary.rstrip() + "\n").encode())
        run.write_json(RESULTS, {"status": "running"})
        return run

    @classmethod
    def create_next(
        cls, parent: str | os.PathLike[str], name: str, config: Mapping[str, Any], summary: str = ""
    ) -> Run:
        """A new folder `<parent>/<name>-<n>`, with the first number that is free."""
        number = 1
        while True:
            try:
                return cls.create(pathlib.Path(parent) / f"{name}-{number}", config, summary)
            except FileExistsError:
                number += 1

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """A run that was made before.

        Raises:
            FileNotFoundError: no run there, or one without weights; with the run's status.
        """
        run = cls(path)
        if not (run.path / CONFIG).is_file():
            raise FileNotFoundError(
                f"{path} is no run: expected a folder with {CONFIG}, as `jlayers train` makes it"
            )
        if not (run.path / WEIGHTS).is_file():
            status = run.results().get("status", "unknown")
            raise FileNotFoundError(f"{path} holds no {WEIGHTS}: the run's status is {status!r}")
        return run

    @property
    def config(self) -> pathlib.Path:
        """The path of the configuration."""
        return self.path / CONFIG

    def log(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add the results of one epoch; they are on disk when this returns."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, **_finite(logs)}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def history(self) -> dict[str, list[float]]:
        """The results of all epochs, a list for each."""
        history: dict[str, list[float]] = {}
        path = self.path / METRICS
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            for name, value in json.loads(line).items():
                if name != "epoch":
                    history.setdefault(name, []).append(math.nan if value is None else value)
        return history

    def write_data(self, data: Dataset, source: Dataset) -> None:
        """Note what the data are: what `predict` needs to know of them, and whether they changed.

        Args:
            data: as the model is given them.
            source: as they were before preprocessing.
        """
        train, test = data.sizes
        facts = {"name": data.name, "train": train, "test": test}
        parts = {"inputs": _facts(source.train[0]), "features": _facts(data.train[0])}
        known = {"class_names": data.class_names, "fingerprint": data.fingerprint()}
        table = {} if data.table is None else {"table": dataclasses.asdict(data.table)}
        self.write_json(DATA, {**facts, **parts, **known, **table})

    def write_preprocess(self, preprocess: Mapping[str, Any]) -> None:
        """Keep preprocessors with what they learned; no file if there are none."""
        if preprocess:
            kept = {name: {"kind": p.spec.kind, "made": to_data(p, name)} for name, p in preprocess.items()}
            self.write_json(PREPROCESS, kept)

    def preprocess(self) -> dict[str, Any]:
        """The preprocessors of the run, as adapted then."""
        path = self.path / PREPROCESS
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        registries = {"preprocessor": preprocessors, "layer": layers}
        try:
            return {name: registries[entry["kind"]].get(entry["made"]) for name, entry in found.items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: expected preprocessors as a run writes them ({error})") from None

    def data(self) -> dict[str, Any]:
        """What `data.json` holds: name, sizes, features, class names, fingerprint."""
        return json.loads((self.path / DATA).read_text(encoding="utf-8"))

    def features(self) -> Any:
        """The model's input as `jax.ShapeDtypeStruct`s with a batch of 1; a dict for several inputs."""
        return _specs(self.data()["features"])

    def inputs(self) -> Any:
        """As `features`, before preprocessing; text is an array of objects."""
        data = self.data()
        return _specs(data.get("inputs", data["features"]))

    def table(self) -> Table | None:
        """How the CSV file of the training data was read; None for other data."""
        found: dict[str, Any] | None = self.data().get("table")
        if found is None:
            return None
        for name in ("names", "places", "targets", "text"):
            found[name] = tuple(found[name])
        return Table(**found)

    def save(self, params: Any, state: Any) -> None:
        """Keep these weights in place of earlier ones."""
        save_weights(self.path / WEIGHTS, params, state)

    def finish(self, results: Mapping[str, Any], params: Any, state: Any) -> None:
        """Keep the weights and the results of a run that was completed."""
        self.save(params, state)
        self.write_json(RESULTS, {"status": "completed", **results})

    def fail(self, status: str, reason: str) -> None:
        """Note why the run ended before its end; what it has saved stays as it is."""
        self.write_json(RESULTS, {**self.results(), "status": status, "reason": reason})

    def results(self) -> dict[str, Any]:
        """What `results.json` holds."""
        path = self.path / RESULTS
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def weights(self, params: Any, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The saved weights, exactly those that are expected; see `load_weights`."""
        return load_weights(self.path / WEIGHTS, params, state)

    def draw(self) -> bool:
        """Draw the learning curves; False without matplotlib."""
        return draw_curves(self.path / CURVES, self.history(), self.path.name)

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, (json.dumps(_finite(data), indent=2) + "\n").encode())


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
