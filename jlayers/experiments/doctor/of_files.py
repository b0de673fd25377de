"""The doctor for a configuration, and for a run that was trained: from files to a case."""

from __future__ import annotations

import dataclasses
import pathlib

from jlayers.config import ConfigError, Experiment, load
from jlayers.core.errors import told_apart
from jlayers.experiments.doctor.activations import check_activations
from jlayers.experiments.doctor.case import Case, as_held
from jlayers.experiments.doctor.examine import examine
from jlayers.experiments.doctor.failed import failed_step
from jlayers.experiments.doctor.finding import Finding, Report
from jlayers.runs import Run
from jlayers.runs.files import WEIGHTS

__all__ = ["doctor_experiment", "doctor_run"]


def doctor_experiment(experiment: Experiment, seconds: float = 10.0) -> Report:
    """`jl.doctor` for a configuration: its data, its model, its training.

    Args:
        experiment: from `jlayers.config.load`.
        seconds: the most that each check takes that trains.

    Raises:
        ConfigError: the configuration itself is wrong; wrong values in the data are findings.
    """
    made = _case(experiment, seconds)
    return made if isinstance(made, Report) else examine(made)


def doctor_run(run: Run, seconds: float = 10.0) -> Report:
    """The same for a run: before all, how it ended.

    A run whose loss or weights became NaN or infinite is trained again from its last checkpoint up to the
    step that failed, and this step is looked at layer by layer. The run's folder is not changed.

    Args:
        run: its folder.
        seconds: the most that each check takes that trains.

    Raises:
        FileNotFoundError: there is no run.
    """
    if not run.config.is_file():
        raise FileNotFoundError(f"{run.path} is not a run: expected a folder with {run.config.name}")
    experiment = dataclasses.replace(load(run.config), learned=run.preprocess() or None)
    made = _case(experiment, seconds)
    if isinstance(made, Report):
        return made
    found = _ending(run)
    with experiment.located_layer():
        if run.status == "failed" and _broke(run):
            found += failed_step(experiment, run, made)
        found += _dead_units(run, made)
    return examine(made, found)


def _case(experiment: Experiment, seconds: float) -> Case | Report:
    """The experiment as a case; or a report where its data cannot even be read."""
    try:
        (x, y), validation = experiment.parts
        test, weighed = experiment.data.test, experiment.class_weight is not None
    except ConfigError as error:
        if isinstance(error.__cause__, (OSError, ImportError, KeyError, TypeError, type(None))):
            raise
        message, advice = told_apart(error)
        return Report([Finding("values", "error", "", message, advice)], checks=["values"])
    trainer = experiment.compile()
    settings = experiment.settings
    held_out = {"validation": validation, "test": test}
    case = Case(
        trainer=trainer,
        x=as_held(x),
        y=as_held(y),
        held_out={n: (as_held(p[0]), as_held(p[1])) for n, p in held_out.items() if p is not None},
        batch_size=settings.training.batch_size,
        epochs=settings.training.epochs,
        shuffle=settings.training.shuffle,
        seed=settings.seed,
        weighed=weighed,
        class_names=experiment.data.class_names,
        cache_features=settings.training.cache_features is not False,
        seconds=seconds,
    )
    if not settings.weights:
        return case
    return dataclasses.replace(case, given=experiment.start(trainer)[0])


def _ending(run: Run) -> list[Finding]:
    results = run.results()
    status, reason = run.status, results.get("reason")
    because = f": {reason}" if reason else ""
    return [Finding("run", "note", str(run.path), f"the run's status is {status}{because}")]


def _broke(run: Run) -> bool:
    """True if a number was to blame."""
    return run.results().get("error") in ("FloatingPointError", "OverflowError")


def _dead_units(run: Run, case: Case) -> list[Finding]:
    """Units that the training has killed, by the weights that the run keeps."""
    if not (pathlib.Path(run.path) / WEIGHTS).is_file():
        return []
    params, state = run.weights(case.fresh.params, case.fresh.state)
    kept = dataclasses.replace(case, given=case.fresh.replace(params=params, state=state))
    return [
        dataclasses.replace(finding, message=f"with the weights that the run keeps, {finding.message}")
        for finding in check_activations(kept)
    ]
