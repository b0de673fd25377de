"""Experiments carried out: train into a run's folder, and evaluate and predict from it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jlayers import train
from jlayers.config import Experiment, load
from jlayers.data import Dataset, transform
from jlayers.preprocessing.base import as_texts
from jlayers.runs.folder import Run
from jlayers.train.callbacks import Callback

__all__ = ["Recorder", "evaluate_run", "predict_run", "train_run"]


class Recorder(Callback):
    """Writes each epoch's results, and the weights after it, into a run's folder."""

    def __init__(self, run: Run):
        self.run = run

    def on_epoch_end(self, epoch: int, logs: Any, state: Any) -> None:
        self.run.log(epoch + 1, logs)
        self.run.save(state.params, state.state)


def train_run(experiment: Experiment, run: Run, callbacks: Sequence[Any] = ()) -> dict[str, Any]:
    """Train as the experiment says, into the folder of `run`.

    Args:
        experiment: a configuration made into objects.
        run: its folder.
        callbacks: more listeners, such as a progress bar.

    Returns:
        what `results.json` then holds: how many epochs, the one whose weights are kept, seconds, the results
        of that epoch in training and validation, and those on the data held out.

    Raises:
        FloatingPointError: the loss became NaN or infinite; the weights of the last healthy epoch are kept.
            Whatever ends the training is noted in the run.
    """
    try:
        return _train(experiment, run, callbacks)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run.fail(status, f"{type(error).__name__}: {error}".rstrip(": "))
        raise


def _train(experiment: Experiment, run: Run, callbacks: Sequence[Any]) -> dict[str, Any]:
    settings, data = experiment.settings.training, experiment.data
    run.write_data(data, experiment.source)
    run.write_preprocess(experiment.preprocess)
    trainer = experiment.compile()
    (x, y), validation = experiment.parts
    listeners = [*callbacks, Recorder(run)]
    if settings.early_stopping is not None:
        listeners.append(settings.early_stopping)
    started = time.perf_counter()
    with experiment.located_layer():
        state, history = train.fit(
            trainer,
            x,
            y,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            validation_data=validation,
            shuffle=settings.shuffle,
            seed=experiment.settings.seed,
            class_weight=experiment.class_weight,
            callbacks=listeners,
            steps_per_call=settings.steps_per_call,
        )
    kept = len(history["loss"]) - 1
    stopping = settings.early_stopping
    if stopping is not None and stopping.restore_best_weights and stopping.best_epoch is not None:
        kept = stopping.best_epoch
    results: dict[str, Any] = {
        "epochs": len(history["loss"]),
        "kept_epoch": kept + 1,
        "seconds": round(time.perf_counter() - started, 3),
        "train": {k: v[kept] for k, v in history.items() if not k.startswith("val_")},
    }
    if validation is not None:
        results["validation"] = {k[4:]: v[kept] for k, v in history.items() if k.startswith("val_")}
    if data.test is not None:
        results["test"] = train.evaluate(trainer, state, *data.test, batch_size=settings.batch_size)
    run.finish(results, state.params, state.state)
    run.draw()
    return run.results()


def _opened(run: Run) -> Experiment:
    """The run's configuration, with preprocessors as they were adapted then."""
    return dataclasses.replace(load(run.config), learned=run.preprocess())


def _restored(run: Run, experiment: Experiment) -> tuple[Any, Any]:
    features = run.features()
    params, state = jax.eval_shape(lambda: experiment.model.init(jax.random.key(0), features))
    return run.weights(params, state)


def evaluate_run(run: Run) -> tuple[dict[str, float], Dataset]:
    """The saved weights on the data held out, exactly as at the end of the training.

    Returns:
        results by name, and the data. (`data.fingerprint()` against `run.data()["fingerprint"]` tells
        whether the data are still the same.)

    Raises:
        ValueError: the data have nothing held out, or the weights do not fit the model.
    """
    experiment = _opened(run)
    data = experiment.data
    if data.test is None:
        raise ValueError(
            f"{run.path}: nothing is held out: give the data a test set, or a test_fraction above 0, and "
            f"train again"
        )
    params, state = _restored(run, experiment)
    trainer = experiment.compile()
    state = trainer.init(jax.random.key(0), run.features(), params=params, state=state)
    batch_size = experiment.settings.training.batch_size
    return train.evaluate(trainer, state, *data.test, batch_size=batch_size), data


def predict_run(run: Run, x: Any, batch_size: int | None = None) -> Any:
    """The model's outputs for x, by the saved weights.

    Args:
        run: made by training.
        x: an array, or a dict of arrays for a model of several inputs, as the training data were before the
            run's own preprocessing: raw texts, for one that preprocesses texts.
        batch_size: as in training if not given.

    Raises:
        ValueError: x has other names or shapes than the training data.
    """
    experiment = _opened(run)
    x = transform(experiment.preprocess, _fitting(x, run.inputs(), run))
    weights = _restored(run, experiment)
    batch_size = batch_size or experiment.settings.training.batch_size
    return train.predict(experiment.model, weights, x, batch_size=batch_size)


def _fitting(x: Any, features: Any, run: Run) -> Any:
    if isinstance(features, dict) and len(features) == 1 and not isinstance(x, dict):
        x = {next(iter(features)): x}
    if isinstance(features, dict):
        if not isinstance(x, dict) or set(x) != set(features):
            given = sorted(x) if isinstance(x, dict) else "one array"
            raise ValueError(f"{run.path} was trained on the inputs {sorted(features)}, received {given}")
        return {name: _cast(x[name], spec, f"input {name!r}") for name, spec in features.items()}
    if isinstance(x, dict):
        if len(x) != 1:
            raise ValueError(f"{run.path} was trained on one input, received the arrays {sorted(x)}")
        (x,) = x.values()
    return _cast(x, features, "input")


def _cast(x: Any, spec: Any, where: str) -> np.ndarray:
    if spec.dtype == object:
        return as_texts(where, x)
    if x.shape == spec.shape[1:]:
        x = x[None]
    if x.shape[1:] != spec.shape[1:] and x.ndim == 2 and x.shape[1] == math.prod(spec.shape[1:]):
        x = x.reshape(-1, *spec.shape[1:])  # rows of a CSV file are flat
    if x.shape[1:] != spec.shape[1:]:
        raise ValueError(f"{where}: expected samples of shape {spec.shape[1:]}, received shape {x.shape}")
    if x.dtype.kind == "f" and np.dtype(spec.dtype).kind in "iu":
        if not np.array_equal(x, np.round(x)):
            raise ValueError(
                f"{where}: expected whole numbers, {spec.dtype}, received {x.dtype} with fractions"
            )
    elif x.dtype.kind in "iu" and np.dtype(spec.dtype).kind == "f":
        raise ValueError(
            f"{where}: expected {spec.dtype} prepared as the training data were, received {x.dtype}; scale "
            f"and convert it as they were"
        )
    return x.astype(spec.dtype)
