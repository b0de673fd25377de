"""A sweep as it is planned: what trial n tries and when it ends early, from its number and earlier results.

Nothing here knows of folders or processes. Trial n knows the results of trials 0 to n - parallel.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.config import ConfigError, Experiment
from jlayers.config.errors import Path, Problem, dotted
from jlayers.config.sweep import Range
from jlayers.config.writer import to_yaml
from jlayers.core.errors import refused, text_of
from jlayers.core.spelling import nearest
from jlayers.experiments.sweep import pruners, samplers
from jlayers.experiments.sweep.trial import Trial
from jlayers.saving.checkpoints import require_orbax
from jlayers.train.checkpoint import Plan as Checkpoints

__all__ = ["Plan"]

SECTION: Path = ("sweep",)
CHECKPOINT = dataclasses.asdict(Checkpoints(keep=1))  # of a trial whose configuration asks for none


class Plan:
    """The trials of an experiment.

    Attributes:
        experiment: the configuration; its own values are those that a trial does not change.
        settings: its section `sweep`.
        direction: "min" or "max", whichever is better.
        total: how many trials there are.
    """

    def __init__(self, experiment: Experiment):
        if experiment.settings.sweep is None:
            raise ValueError(
                "the file has no section sweep: add one, such as sweep: {trials: 20, values: "
                "{optimizer.adam.learning_rate: {low: 0.0001, high: 0.1, log: true}}}"
            )
        self.experiment = experiment
        self.settings = experiment.settings.sweep
        self.sampler = samplers.registry.get(self.settings.method)
        self.pruner = pruners.registry.get(self.settings.prune)
        with experiment.builder.located(SECTION, ("method", "trials", "values")):
            self.sampler.check(self.settings.values)
            count = self.sampler.count(self.settings.values)
            total = min((n for n in (self.settings.trials, count) if n is not None), default=None)
            if total is None:
                raise refused(ValueError, "expected the number of trials", trials=None)
            require_orbax()
        self.total: int = total
        self.direction = self._direction(experiment)

    # ---------------------------------------------------------------------------------- chosen

    @property
    def depends(self) -> bool:
        """True if a trial depends on the results of others."""
        return self.sampler.learns or self.pruner is not None

    @property
    def keeps_store(self) -> bool:
        """True if Optuna's store of the trials is kept beside them."""
        return self.sampler.store or (self.pruner is not None and self.pruner.of_optuna is not None)

    def known(self, number: int) -> int:
        """The number of first trials whose results a trial knows."""
        return max(0, number - self.settings.parallel + 1) if self.depends else 0

    def values(self, number: int, trials: Sequence[Trial]) -> Mapping[str, Any]:
        """The values of a trial.

        Args:
            number: number of the trial.
            trials: at least the first `known(number)` of those that have ended.
        """
        if number < len(trials):
            return trials[number].values
        settings, known = self.settings, trials[: self.known(number)]
        pruner = None if self.pruner is None else self.pruner.of_optuna
        return self.sampler(
            settings.values, settings.seed, number, self.direction, known, settings.parallel, pruner
        )

    def _place(self, number: int, trials: Sequence[Trial], epochs: int) -> pruners.Place:
        known = trials[: self.known(number)]
        return pruners.Place(number, known, self.settings.parallel, epochs, self.direction)

    def was_pruned(
        self, number: int, trials: Sequence[Trial], epochs: int, curve: Sequence[float | None]
    ) -> bool:
        """True if it was the pruner that ended a trial with these values.

        Args:
            number: number of the trial.
            trials: see `values`.
            epochs: epochs of its configuration.
            curve: the metric after each epoch.
        """
        return self.pruner is not None and self.pruner.ended(self._place(number, trials, epochs), curve)

    def configuration(self, number: int, trials: Sequence[Trial]) -> str:
        """The configuration of a trial, which is an ordinary one, as YAML; see `values`."""
        made = self.trial(self.values(number, trials))
        data = {**made.to_data(), "sweep": None}
        training = dict(data["training"])
        training["checkpoint"] = training["checkpoint"] or CHECKPOINT
        if self.pruner is not None:
            place = self._place(number, trials, made.settings.training.epochs)
            watched = {"monitor": self.settings.metric, "mode": self.direction}
            own = [{name: {**watched, **rule}} for name, rule in self.pruner.callback(place).items()]
            training["callbacks"] = [*training["callbacks"], *own]
        return to_yaml({**data, "training": training})

    # --------------------------------------------------------------------------------- checked

    def check(self) -> None:
        """Build and look over each trial before anything trains.

        Where values depend on results that are not there yet, each value of a list and both ends of each
        range are looked at instead, one by one.

        Raises:
            ConfigError: all that is wrong, at the lines of `sweep.values`.
        """
        if self.sampler.learns:
            tried = samplers.extremes(self.settings.values)
        else:
            tried = [self.values(number, ()) for number in range(self.total)]
        problems: dict[Any, Any] = {}  # of the numbers of a range the first that is wrong says enough
        self.experiment.check()
        for values in tried:
            try:
                made = self.trial(values)
                made.check()
                self._direction(made)
            except ConfigError as error:
                for problem in error.problems:
                    known = isinstance(self.settings.values.get(dotted(problem.path[2:])), Range)
                    problems.setdefault(problem.path if known else str(problem), problem)
            except (ValueError, TypeError, KeyError) as error:
                problem = self._problem(values, text_of(error))
                problems.setdefault(str(problem), problem)
        if problems:
            raise ConfigError(problems.values())

    def trial(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment with these values."""
        written = [f"{path}={json.dumps(value)}" for path, value in values.items()]
        try:
            return self.experiment.varied(written)
        except ConfigError as error:
            sources = {f"--set {text}": path for text, path in zip(written, values, strict=True)}
            raise ConfigError(
                self._problem({sources[p.source]: values[sources[p.source]]}, p.message)
                if p.source in sources
                else self._problem(values, p.message)
                for p in error.problems
            ) from None

    def _problem(self, values: Mapping[str, Any], message: str) -> Problem:
        """A problem of a trial, at the line of the value that makes it."""
        shown = ", ".join(f"{path}={json.dumps(value)}" for path, value in values.items())
        place = (*SECTION, "values", *([next(iter(values))] if len(values) == 1 else []))
        return self.experiment.builder.document.problem(f"with {shown}: {message}", place)

    def _direction(self, experiment: Experiment) -> str:
        """The better side of the metric, "min" or "max"; an error if it is not measured."""
        import jax

        from jlayers.data.batches import Batch
        from jlayers.train.listeners import directions_of, step_for

        trainer, ((x, y), validation) = experiment.compile(), experiment.parts
        rows = experiment.settings.training.batch_size
        batch = jax.tree.map(lambda a: a[:rows], Batch(x, y))
        with experiment.located_layer():
            params, state = jax.eval_shape(
                lambda: experiment.model.init(jax.random.key(0), experiment.data.features)
            )
            step = step_for([], trainer)
            ways = directions_of(trainer, step, params, state, batch, validation is not None)
        metric, mode = self.settings.metric, self.settings.mode
        if metric not in ways:
            hint = " (set training.validation to a fraction such as 0.1)" if validation is None else ""
            text = (
                f"trials are compared by {metric!r}, which is not in the logs: {nearest(metric, ways)}{hint}"
            )
            raise ConfigError([self.experiment.builder.document.problem(text, (*SECTION, "metric"))])
        if mode == "auto" and ways[metric] not in ("min", "max"):
            text = f"it is not known whether {metric!r} is better when it is smaller or larger: add mode: min"
            raise ConfigError([self.experiment.builder.document.problem(text, (*SECTION, "metric"))])
        return ways[metric] if mode == "auto" else mode
