"""The files of a run's folder by name, and JSON as a run writes it."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jlayers.saving.files import write_atomically

__all__ = ["Files", "finite", "json_content"]

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


class Files:
    """The files in the folder of a run."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)

    @property
    def config(self) -> pathlib.Path:
        """The path of the configuration."""
        return self.path / CONFIG

    @property
    def checkpoints(self) -> pathlib.Path:
        """The path of the folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def has_weights(self) -> bool:
        """True if it has saved weights."""
        return (self.path / WEIGHTS).is_file()

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, json_content(data))


def json_content(data: Mapping[str, Any]) -> bytes:
    """The content of a JSON file; a number that is not finite becomes null."""
    return (json.dumps(finite(data), indent=2) + "\n").encode()


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
