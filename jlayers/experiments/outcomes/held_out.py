"""One pass of a run's weights over the held-out data, kept in the run's folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax

from jlayers import train
from jlayers.config import Experiment
from jlayers.core.lifting import MissingKeyError
from jlayers.experiments.outcomes.judge import judge
from jlayers.experiments.outcomes.kinds import Example, Outcomes
from jlayers.experiments.outcomes.samples import file_of, shown
from jlayers.runs import Run
from jlayers.runs.files import WEIGHTS
from jlayers.runs.restored import experiment_of_run, weights_of
from jlayers.saving.files import damaged, sha256, write_atomically
from jlayers.train.objective import Supervised

__all__ = ["OUTCOMES", "find_outcomes", "read_outcomes"]

OUTCOMES = "outcomes.json"


def find_outcomes(run: Run, experiment: Experiment | None = None) -> Outcomes:
    """The outcomes of a run's weights on the held-out data, or on the validation data if none are held out.

    It is computed by one pass over these data, and kept in the run's folder for the next time.

    Args:
        run: made by training.
        experiment: experiment of the run, with its data, if it exists already.

    Raises:
        ValueError: no data were held out, or what was trained is not a model with a loss.
    """
    known = read_outcomes(run)
    if known is not None:
        return known
    experiment = experiment_of_run(run) if experiment is None else experiment
    found = _pass_over(run, experiment)
    content = json.dumps(dataclasses.asdict(found), indent=1) + "\n"
    write_atomically(run.path / OUTCOMES, content.encode())
    return found


def read_outcomes(run: Run) -> Outcomes | None:
    """The outcomes that were kept before; None if there are none, or if the weights have changed since.

    Raises:
        ValueError: the file is damaged.
    """
    path = run.path / OUTCOMES
    if not path.is_file():
        return None
    import pydantic

    try:
        found = pydantic.TypeAdapter(Outcomes).validate_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error).splitlines()[0]) from None
    return found if found.weights == _weights_hash(run) else None


def _weights_hash(run: Run) -> str:
    path = run.path / WEIGHTS
    return sha256(path.read_bytes()) if path.is_file() else ""


def _pass_over(run: Run, experiment: Experiment) -> Outcomes:
    data, source = experiment.data, experiment.source
    if data.test is not None and source.test is not None:
        which, (x, y), (original, _) = "held out", data.test, source.test
    elif (validation := experiment.parts[1]) is not None:
        which, (x, y), (original, _) = "validation", validation, experiment.source_parts[1]
    else:
        raise ValueError("no data were held out, neither for a test nor to validate on")
    (task, *others) = [update.task for update in experiment.compile().updates]
    if others or not isinstance(task, Supervised):
        raise ValueError("what was trained is not one model with a loss")
    digest = _weights_hash(run)
    batch_size = experiment.settings.training.batch_size
    weights = weights_of(run, experiment, x, batch_size=batch_size)
    with experiment.located_layer():
        outputs = _predictions(experiment.compile(), weights, x, batch_size)
    judged = task.judged(outputs, y)
    columns: Sequence[str] = () if source.table is None else source.table.names
    samples = len(jax.tree.leaves(y)[0])

    def show(row: int, loss: float | None, true: str, predicted: str) -> Example:
        return Example(row, loss, true, predicted, file_of(original, row), shown(original, row, columns))

    found = [
        judge(name, loss, target, output, _names(data, target), show) for name, loss, target, output in judged
    ]
    return Outcomes(which, samples, digest, found, len(experiment.seeds))


def _predictions(model: Any, weights: Any, x: Any, batch_size: int) -> Any:
    try:
        return train.predict(model, weights, x, batch_size=batch_size)
    except MissingKeyError:  # a layer that samples in inference, too
        return train.predict(model, weights, x, batch_size=batch_size, key=jax.random.key(0))


def _names(data: Any, target: Any) -> Sequence[str] | None:
    """The names of the classes; or those of the target columns of a table."""
    if data.class_names is not None:
        return data.class_names
    return None if data.table is None else data.table.targets
