"""Optuna in a sweep: a study in memory, brought forward out of the ledger, and a store for its own tools.

The study is made anew in whatever process needs it, and goes through one fixed order of events. So what a
sampler chooses and where a pruner ends a trial follow from the seed, the trial's number and the results, and
neither from the clock nor from a kill.
"""

from __future__ import annotations

import importlib.util
import json
import math
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jlayers.config.sweep import Range
from jlayers.experiments.sweep.trial import Trial

__all__ = ["Judge", "Study", "keep", "made", "require_optuna"]

STORE = "study.db"
NAME = "sweep"  # of the study; Hyperband deals out its brackets by it
_NEEDS = {"CmaEsSampler": "cmaes"}


def require_optuna() -> Any:
    """The module, or an ImportError that says how to install it."""
    try:
        import optuna
    except ImportError:
        raise ImportError("this needs Optuna: pip install 'jlayers[optuna]'") from None
    return optuna


def made(cls: str, **options: Any) -> Any:
    """A sampler or pruner of Optuna's, from the name of its class and its arguments.

    Raises:
        ImportError: Optuna, or a package that the class needs, is not installed.
        ValueError: Optuna refuses an argument.
    """
    optuna = require_optuna()
    if (needed := _NEEDS.get(cls)) and importlib.util.find_spec(needed) is None:
        raise ImportError(f"{cls} needs {needed}: pip install 'jlayers[optuna]'")
    module = optuna.samplers if cls.endswith("Sampler") else optuna.pruners
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return getattr(module, cls)(**options)


class Judge:
    """Optuna's pruner, asked after each epoch of one trial.

    >>> study = Study("min", pruner=made("ThresholdPruner", upper=1.0))
    >>> judge = study.judge(0, [])
    >>> judge(0.5), judge(2.0)
    (False, True)
    """

    def __init__(self, trial: Any):
        self._trial, self._epoch = trial, 0

    def __call__(self, value: float | None) -> bool:
        """True if the trial should end after an epoch with this value; None for one that is not finite."""
        finite = value is not None and math.isfinite(value)
        self._trial.report(value if finite else math.nan, self._epoch)
        self._epoch += 1
        return self._trial.should_prune()


class Study:
    """A study in memory: trial n is asked for when trial n - `parallel` has ended, neither sooner nor later.

    With `parallel` 1 that is what `study.optimize` does.

    Args:
        direction: "min" or "max", whichever is better.
        parallel: how many trials do not know of each other.
        sampler: Optuna's; trials have no values without one.
        pruner: Optuna's.
        space: lists or ranges, by path.
    """

    def __init__(
        self,
        direction: str,
        parallel: int = 1,
        sampler: Any = None,
        pruner: Any = None,
        space: Mapping[str, Sequence[Any] | Range] | None = None,
    ):
        optuna = require_optuna()
        self.parallel, self._space = parallel, space or {}
        self._asked: list[Any] = []
        self._told: list[Trial] = []
        self._study = _without_logs(
            lambda: optuna.create_study(
                study_name=NAME,
                direction=f"{direction}imize",
                sampler=sampler or optuna.samplers.RandomSampler(seed=0),
                pruner=pruner or optuna.pruners.NopPruner(),
            )
        )

    def follows(self, ended: Sequence[Trial]) -> bool:
        """True if all of these trials are as they were reported."""
        return all(mine == trial for mine, trial in zip(self._told, ended, strict=False))

    def values(self, number: int, ended: Sequence[Trial]) -> dict[str, Any]:
        """The values of a trial; see `judge`."""
        self._bring_to(number, ended)
        params = self._asked[number].params
        return {path: _value_of_label(params[path], given) for path, given in self._space.items()}

    def judge(self, number: int, ended: Sequence[Trial]) -> Judge:
        """Judges a trial by those that had ended before it was asked for.

        Args:
            number: number of the trial.
            ended: trials 0 to `number - parallel`; further ones are not looked at.
        """
        self._bring_to(number, ended)
        return Judge(self._asked[number])

    def _bring_to(self, number: int, ended: Sequence[Trial]) -> None:
        while len(self._asked) <= number:
            if (first := len(self._asked) - self.parallel) >= 0:
                _without_logs(lambda first=first: self._tell(ended[first]))
            self._asked.append(_without_logs(lambda: self._study.ask(_distributions(self._space))))

    def _tell(self, trial: Trial) -> None:
        states = require_optuna().trial.TrialState
        asked = self._asked[trial.number]
        if self._space and json.dumps(now := self.values(trial.number, ())) != json.dumps(trial.values):
            raise ValueError(
                f"{trial.name} was trained with {trial.values}, and Optuna chooses {now} now: restore the "
                f"versions that the sweep began with, or begin a new sweep"
            )
        judge = Judge(asked)
        for value in trial.curve:
            judge(value)  # pruners keep what they have seen
        if trial.status == "pruned":
            self._study.tell(asked, state=states.PRUNED)
        elif trial.status == "completed" and trial.value is not None and math.isfinite(trial.value):
            self._study.tell(asked, trial.value, states.COMPLETE)
        else:
            self._study.tell(asked, state=states.FAIL)
        self._told.append(trial)


def keep(
    folder: pathlib.Path, space: Mapping[str, Sequence[Any] | Range], direction: str, trials: Sequence[Trial]
) -> None:
    """Bring the store up to the ledger: an SQLite file for Optuna's own tools, such as its dashboard.

    Nothing is ever read from it but how many trials it holds.
    """
    optuna = require_optuna()
    storage = _without_logs(lambda: optuna.storages.RDBStorage(f"sqlite:///{folder / STORE}"))
    try:
        study = _without_logs(
            lambda: optuna.create_study(
                storage=storage, study_name=NAME, direction=f"{direction}imize", load_if_exists=True
            )
        )
        for trial in trials[len(study.get_trials(deepcopy=False)) :]:
            study.add_trial(_as_optuna_trial(trial, space))
    finally:  # Optuna itself leaves its connections open
        storage.remove_session()
        storage.engine.dispose()


def _without_logs(make: Callable[[], Any]) -> Any:
    """Optuna logs to standard error; only the command line tells anything here."""
    optuna = require_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return make()
    finally:
        optuna.logging.set_verbosity(before)


def _as_optuna_trial(trial: Trial, space: Mapping[str, Any]) -> Any:
    optuna = require_optuna()
    states = {"completed": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[states[trial.status]],
        value=None if trial.status == "failed" else trial.value,
        intermediate_values={epoch: value for epoch, value in enumerate(trial.curve) if value is not None},
        user_attrs={"folder": trial.name},
        params={p: v if isinstance(space[p], Range) else _label(v) for p, v in trial.values.items()},
        distributions=_distributions(space),
    )


def _distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    """The values to try, in Optuna's terms."""
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


def _value_of_label(value: Any, given: Any) -> Any:
    if isinstance(given, Range):
        return value
    return next(v for v in given if _label(v) == value and type(_label(v)) is type(value))
