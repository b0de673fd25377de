"""A run in use again: its saved weights evaluated, or applied to new inputs."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import jax

from jlayers import train
from jlayers.config import ConfigError, Experiment, load
from jlayers.core.layer import Layer
from jlayers.core.shapes import describe
from jlayers.core.state import with_new_carries, without_carries
from jlayers.data import Dataset, transform
from jlayers.data.gate import check_names, like_training
from jlayers.data.lazy import is_lazy
from jlayers.preprocessing.base import as_texts
from jlayers.runs.folder import Run
from jlayers.saving.weights import not_finite
from jlayers.train.seeds.estimate import Estimate, estimates
from jlayers.train.seeds.states import SeedStates

__all__ = [
    "RunWarning",
    "evaluate_run",
    "evaluate_seeds_run",
    "experiment_of_run",
    "experiment_to_resume",
    "predict_run",
    "weights_of",
    "with_fresh_carries",
]


class RunWarning(UserWarning):
    """A run is used in another way than it was trained, or its training did not end well."""


def evaluate_run(run: Run, seed: int | None = None) -> tuple[dict[str, float], Dataset]:
    """The saved weights on the held-out data, exactly as at the end of the training.

    Those of many seeds are evaluated as an ensemble; see `evaluate_seeds_run`.

    Whatever differs from the training is reported by a `RunWarning`: files of the run that were edited, other
    data, other versions, weights that are not finite, a training that did not end well.

    Args:
        run: made by training.
        seed: the number of one of its seeds, to evaluate that one only.

    Returns:
        results by name, and the data.

    Raises:
        ValueError: the data have nothing held out or other columns or classes, the weights do not fit, or the
            run has no such seed.
    """
    experiment, weights = _to_evaluate(run, seed)
    data, test = experiment.data, experiment.data.test or ()
    batch_size = experiment.settings.training.batch_size
    with experiment.located_layer():
        return train.evaluate(experiment.compile(), weights, *test, batch_size=batch_size), data


def evaluate_seeds_run(run: Run) -> tuple[dict[str, float], dict[str, Estimate]]:
    """The results of the ensemble of a run's seeds on the held-out data, and those of each seed.

    Differences from the training are told as `evaluate_run` tells them.

    Raises:
        ValueError: as `evaluate_run`; a run of one seed.
    """
    experiment, weights = _to_evaluate(run, None)
    if not isinstance(weights, SeedStates):
        raise ValueError(f"{run.path} has one seed: evaluate it without asking for seeds")
    trainer, test = experiment.compile(), experiment.data.test or ()
    batch_size = experiment.settings.training.batch_size
    with experiment.located_layer():
        each = train.evaluate_seeds(trainer, weights, *test, batch_size=batch_size)
        return train.evaluate(trainer, weights, *test, batch_size=batch_size), estimates(each)


def _to_evaluate(run: Run, seed: int | None) -> tuple[Experiment, Any]:
    """The experiment of a run, whose data have something held out, and the weights for it."""
    experiment = experiment_of_run(run)
    data = experiment.data
    if data.test is None:
        raise ValueError(
            f"{run.path}: nothing is held out: give the data a test set, or a test_fraction above 0, and "
            f"train again"
        )
    if data.fingerprint() != run.data().get("fingerprint"):
        _warn("the data have changed since this run was trained")
    _check_same(run, data)
    return experiment, weights_of(run, experiment, data.test[0], seed)


def _check_same(run: Run, data: Dataset) -> None:
    """Refuse data whose columns or classes are others, or stand in another order, than in training."""
    table, names = run.table(), run.data().get("class_names")
    if table is not None and data.table is not None and table.names != data.table.names:
        raise ValueError(
            f"{run.path} was trained on the columns {list(table.names)}, and the file has now "
            f"{list(data.table.names)}; restore their order, or train again"
        )
    if names is not None and data.class_names is not None and tuple(names) != data.class_names:
        raise ValueError(
            f"{run.path} was trained on the classes {names}, and the data have now "
            f"{list(data.class_names)}; train again"
        )


def predict_run(
    run: Run, x: Any, batch_size: int | None = None, seed: int | None = None, members: bool = False
) -> Any:
    """The model's outputs for x, by the saved weights; those of many seeds predict as an ensemble.

    Differences from the training are told as `evaluate_run` tells them.

    Args:
        run: made by training.
        x: an array, or a dict of arrays for a model of several inputs, as the training data were before the
            run's own preprocessing: raw texts, for one that preprocesses texts.
        batch_size: as in training if not given.
        seed: the number of one of the run's seeds, to predict by that one only.
        members: give the outputs by each seed instead of their mean, in a dict with names such as `seed_0`.

    Raises:
        ValueError: x has other names or shapes than the training data, or the run has no such seed.
    """
    experiment = experiment_of_run(run)
    x = transform(experiment.preprocess, _in_form_of(x, run.inputs(), run))
    batch_size = batch_size or experiment.settings.training.batch_size
    weights = weights_of(run, experiment, x, seed, batch_size)
    with experiment.located_layer():
        if not isinstance(weights, SeedStates):
            if members:
                raise ValueError(
                    f"{run.path}: expected a run of many seeds to predict by each, received one seed"
                )
            return train.predict(experiment.model, weights, x, batch_size=batch_size)
        if not members:
            return train.predict(experiment.compile(), weights, x, batch_size=batch_size)
        each = train.predict_seeds(experiment.compile(), weights, x, batch_size=batch_size)
        return {
            f"seed_{number}": jax.tree.map(lambda a, i=place: a[i], each)
            for place, number in enumerate(weights.seeds)
        }


def experiment_to_resume(run: Run) -> Experiment:
    """The experiment of a run that is to continue, as its folder holds it.

    Other versions are reported by a `RunWarning`.

    Raises:
        ValueError: the run keeps no checkpoints, or its data have changed.
    """
    if versions := run.other_versions():
        _warn(f"this run was begun with other versions, and numbers can differ: {'; '.join(versions)}")
    experiment = load(run.config)
    if experiment.settings.training.checkpoint is None:
        raise ValueError(
            f"{run.path} keeps no checkpoints to continue from: train anew, with a section such as "
            f"training.checkpoint: {{every_steps: 100}}"
        )
    try:
        known = run.data().get("fingerprint")
    except FileNotFoundError:  # it ended before it had noted its data, and before its first step
        known = None
    if known is not None and experiment.data.fingerprint() != known:
        raise ValueError(
            f"the data of {run.path} have changed since its training began: restore them, or train anew"
        )
    experiment.check()
    return experiment


def with_fresh_carries(model: Layer, weights: tuple[Any, Any], x: Any, batch_size: int) -> tuple[Any, Any]:
    """Parameters and state for the first batch of x: what batches hand on begins at zero, for its rows."""
    params, state = weights
    learned = without_carries(state)
    return params, with_new_carries(learned, _specs(model, x, batch_size)[1])


def _specs(model: Layer, x: Any, batch_size: int) -> tuple[Any, Any]:
    """The shapes and dtypes of parameters and state for batches of x."""
    rows = min(batch_size, len(jax.tree.leaves(x)[0]))
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), x)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), batch))


def experiment_of_run(run: Run) -> Experiment:
    """The run's configuration, with preprocessors as they were adapted then."""
    _tell(run)
    try:
        return dataclasses.replace(load(run.config), learned=run.preprocess())
    except ConfigError as error:
        if run.code:
            error.add_note(
                f"the run was trained with code of its own, {', '.join(run.code)}: import it first"
            )
        raise


def weights_of(
    run: Run, experiment: Experiment, x: Any, seed: int | None = None, batch_size: int | None = None
) -> Any:
    """The saved weights for batches of x: a pair, or the states of many seeds."""
    specs = _specs(experiment.model, x, batch_size or experiment.settings.training.batch_size)
    seeds = experiment.seeds
    if seed is not None and seed not in seeds:
        known = " to ".join(map(str, dict.fromkeys((min(seeds), max(seeds)))))
        raise ValueError(f"{run.path}: expected one of the run's seeds, {known}, received seed={seed}")
    if len(seeds) > 1:
        specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct((len(seeds), *a.shape), a.dtype), specs)
    with_zeros = run.weights(*specs)
    if bad := not_finite(*with_zeros):
        _warn(f"{run.path} holds weights that are not finite: {', '.join(bad[:3])}")
    if len(seeds) == 1:
        return with_zeros
    states = SeedStates.of(*with_zeros, seeds)
    if seed is None:
        return states
    one = states[seeds.index(seed)]
    return one.params, one.state


def _tell(run: Run) -> None:
    """Warn of what differs from the training, or of a training that did not end well."""
    status, epoch = run.status, run.kept_epoch()
    if status != "completed":
        of_epoch = "the last that were saved" if epoch is None else f"of epoch {epoch}"
        _warn(f"the run's status is {status!r}: these are its weights {of_epoch}")
    for name in run.changes():
        _warn(f"{run.path / name} has changed since this run was trained")
    if versions := run.other_versions():
        _warn(f"this run was trained with other versions, and numbers can differ: {'; '.join(versions)}")


def _warn(text: str) -> None:
    warnings.warn(text, RunWarning, stacklevel=4)


def _in_form_of(x: Any, features: Any, run: Run) -> Any:
    if isinstance(features, dict) and len(features) == 1 and not isinstance(x, dict):
        x = {next(iter(features)): x}
    if isinstance(features, dict):
        if not isinstance(x, dict):
            raise ValueError(f"{run.path} was trained on the inputs {sorted(features)}, received one array")
        if unknown := check_names(str(run.path), x, list(features), "input"):
            raise ValueError(
                f"{run.path} was trained on the inputs {sorted(features)}, received {unknown} besides"
            )
        return {name: _cast(x[name], spec, f"input {name!r}") for name, spec in features.items()}
    if isinstance(x, dict):
        if len(x) != 1:
            raise ValueError(f"{run.path} was trained on one input, received the arrays {sorted(x)}")
        (x,) = x.values()
    return _cast(x, features, "input")


def _cast(x: Any, spec: Any, where: str) -> Any:
    if is_lazy(x):
        if x.dtype != spec.dtype or x.shape[1:] != spec.shape[1:]:
            raise ValueError(f"{where}: expected {describe(spec)}, received {describe(x)}")
        return x
    if spec.dtype == object:
        return as_texts(where, x)
    if x.shape == spec.shape[1:]:
        x = x[None]
    if x.shape[1:] != spec.shape[1:] and x.ndim == 2 and x.shape[1] == math.prod(spec.shape[1:]):
        x = x.reshape(-1, *spec.shape[1:])  # rows of a CSV file are flat
    if x.shape[1:] != spec.shape[1:]:
        raise ValueError(f"{where}: expected samples of shape {spec.shape[1:]}, received shape {x.shape}")
    return like_training(where, x, spec.dtype)
