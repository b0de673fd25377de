"""Optuna: asked for values with the results so far, and given a store that its own tools open.

Optuna chooses out of a study in memory that is made anew for every trial, from the ledger. So what it chooses
is a function of the seed, the trial's number and the results, in whatever process and order they came.
"""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.config.sweep import Range
from jlayers.experiments.sweep.trial import Trial

__all__ = ["STORE", "asked", "keep", "require_optuna", "tpe_sampler"]

STORE = "study.db"


def require_optuna() -> Any:
    """The module, or an ImportError that says how to install it."""
    try:
        import optuna
    except ImportError:
        raise ImportError("this method needs Optuna: pip install 'jlayers[optuna]'") from None
    return optuna


def tpe_sampler(seed: int, **options: Any) -> Any:
    optuna = require_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, **options)


def asked(
    sampler: Any,
    space: Mapping[str, Sequence[Any] | Range],
    direction: str,
    known: Sequence[Trial],
    pending: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The values that an Optuna sampler chooses next."""
    optuna = require_optuna()
    study = _quiet(lambda: optuna.create_study(sampler=sampler, direction=f"{direction}imize"))
    for trial in known:
        study.add_trial(_frozen(trial, space))
    for values in pending:
        running = optuna.trial.TrialState.RUNNING
        study.add_trial(optuna.trial.create_trial(state=running, **_chosen(values, space)))
    chosen = _quiet(lambda: study.ask(fixed_distributions=_distributions(space))).params
    return {path: _meant(chosen[path], given) for path, given in space.items()}


def keep(
    folder: pathlib.Path, space: Mapping[str, Sequence[Any] | Range], direction: str, trials: Sequence[Trial]
) -> None:
    """Bring the store up to the ledger: an SQLite file for Optuna's own tools, such as its dashboard.

    Nothing is ever read from it but how many trials it holds.
    """
    optuna = require_optuna()
    storage = _quiet(lambda: optuna.storages.RDBStorage(f"sqlite:///{folder / STORE}"))
    try:
        study = _quiet(
            lambda: optuna.create_study(
                storage=storage, study_name="sweep", direction=f"{direction}imize", load_if_exists=True
            )
        )
        for trial in trials[len(study.get_trials(deepcopy=False)) :]:
            study.add_trial(_frozen(trial, space))
    finally:  # Optuna itself leaves its connections open
        storage.remove_session()
        storage.engine.dispose()


def _quiet(make: Any) -> Any:
    """Optuna logs to standard error; only the command line tells anything here."""
    optuna = require_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return make()
    finally:
        optuna.logging.set_verbosity(before)


def _frozen(trial: Trial, space: Mapping[str, Any]) -> Any:
    optuna = require_optuna()
    states = {"completed": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[states[trial.status]],
        value=None if trial.status == "failed" else trial.value,
        intermediate_values={epoch: value for epoch, value in enumerate(trial.curve, 1) if value is not None},
        user_attrs={"folder": trial.name},
        **_chosen(trial.values, space),
    )


def _chosen(values: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    params = {p: v if isinstance(space[p], Range) else _label(v) for p, v in values.items()}
    return {"params": params, "distributions": _distributions(space)}


def _distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    optuna = require_optuna()

    def distribution(given: Any) -> Any:
        if not isinstance(given, Range):
            return optuna.distributions.CategoricalDistribution([_label(value) for value in given])
        high = given.high if given.count is None else given.at(given.count - 1)
        if given.whole:
            return optuna.distributions.IntDistribution(given.low, high, given.log, given.step or 1)
        return optuna.distributions.FloatDistribution(given.low, high, given.log, given.step)

    return {path: distribution(given) for path, given in space.items()}


def _label(value: Any) -> Any:
    """A choice as Optuna's store holds it: lists and mappings as text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)


def _meant(chosen: Any, given: Any) -> Any:
    if isinstance(given, Range):
        return chosen
    return next(v for v in given if _label(v) == chosen and type(_label(v)) is type(chosen))
