"""The contents of a run: its data, its preprocessors with what they learned, its model, its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jlayers.core.layer import layers
from jlayers.core.spec import to_data
from jlayers.core.state import with_new_carries, without_carries
from jlayers.data import Dataset
from jlayers.data.dataset import Table
from jlayers.data.forms import form_of_data, form_to_data
from jlayers.data.pieces import pieces
from jlayers.inspect.summary import Summary
from jlayers.preprocessing import registry as preprocessors
from jlayers.runs.files import DATA, MODEL, PREPROCESS, SUMMARY, WEIGHTS, Files
from jlayers.saving.files import damaged, read_json, write_atomically
from jlayers.saving.loading import load_weights
from jlayers.saving.weights import read_metadata, save_weights

__all__ = ["Contents", "preprocess_to_data"]


class Contents(Files):
    """The data, preprocessors, model and weights of a run."""

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

    def weights(self, params: Any, state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The saved weights, exactly those that are expected; see `load_weights`.

        Args:
            params: arrays or specs.
            state: the same. What it hands from batch to batch begins at zero.
        """
        params, found = load_weights(self.path / WEIGHTS, params, without_carries(state))
        return params, with_new_carries(found, state)


def preprocess_to_data(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Preprocessors and what they have learned, as plain data."""
    return {name: {"kind": p.spec.kind, "made": to_data(p, name)} for name, p in preprocess.items()}


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
