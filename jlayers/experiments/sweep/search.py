"""A sweep carried out: trials chosen, begun, gone on with after an interruption, and put in order.

What a trial is follows from the configuration, its number and the results of trials 0 to n - parallel. How
many run at a time, which of them ends first and what was killed on the way changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

from jlayers.config import ConfigError, Experiment, load, loads
from jlayers.config.errors import Path, dotted
from jlayers.config.experiment import experiment_of
from jlayers.config.sweep import Range
from jlayers.config.writer import to_yaml
from jlayers.core.errors import refused
from jlayers.core.spelling import nearest
from jlayers.experiments.sweep import optuna, pruners, samplers
from jlayers.experiments.sweep.document import document_of, folders_of, text_of
from jlayers.experiments.sweep.folder import CONFIG, PICTURE, SweepFolder
from jlayers.experiments.sweep.jobs import Elsewhere, Job, Launcher
from jlayers.experiments.sweep.trial import Trial, better, running_best
from jlayers.runs import Run, RunWarning, environment
from jlayers.runs.own_code import OwnCode
from jlayers.saving.checkpoints import require_orbax
from jlayers.saving.files import sha256, write_atomically
from jlayers.train.interruptions import interruptions

__all__ = ["Search"]

SECTION: Path = ("sweep",)
RESTARTS = 3  # of a trial whose process was killed while ours went on
CHECKPOINT = {"every_steps": None, "every_epochs": None, "every_minutes": 1.0, "keep": 1, "best": None}


class Search:
    """The trials of an experiment.

    Attributes:
        experiment: the configuration; its own values are those that a trial does not change.
        direction: "min" or "max", whichever is better.
        total: how many trials there are.
        folder: where they are kept.
        trials: those that have ended, in the order of their numbers.
    """

    folder: SweepFolder

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
        self.trials: list[Trial] = []
        self._values: dict[int, dict[str, Any]] = {}
        with experiment.builder.located(SECTION, ("method", "trials", "values")):
            self.sampler.check(self.settings.values)
            count = self.sampler.count(self.settings.values)
            total = min((n for n in (self.settings.trials, count) if n is not None), default=None)
            if total is None:
                raise refused(ValueError, "expected the number of trials", trials=None)
            require_orbax()
        self.total: int = total
        self.direction = self._direction(experiment)

    # ------------------------------------------------------------------ begun, and gone on with

    @classmethod
    def begin(
        cls,
        file: str | os.PathLike[str],
        folder: str | os.PathLike[str] | None = None,
        overrides: Iterable[str] = (),
        code: Sequence[OwnCode] = (),
        checked: Callable[[int, int], None] = lambda done, of: None,
    ) -> Search:
        """A new sweep, with everything checked that can be wrong in any of its trials.

        Args:
            file: a configuration with a section `sweep`.
            folder: the sweep's; `sweeps/<name of the file>-<number>` if not given.
            overrides: such as `"training.epochs=3"`.
            code: the user's own files that the configuration needs.
            checked: is told how many trials were checked, of how many.

        Raises:
            ConfigError: all that is wrong with the file or with a trial; there is no folder then.
            FileExistsError: there is something at `folder` already.
        """
        made = cls(load(file, overrides))
        made.check(checked)
        facts = {
            "meaning": _meaning(made.experiment),
            "data": made.experiment.data.fingerprint(),
            "versions": environment()["versions"],
            **folders_of(made.experiment.written),
        }
        text = text_of(made.experiment.written)
        if folder is None:
            made.folder = SweepFolder.create_next(pathlib.Path(file).stem, text, code, **facts)
        else:
            made.folder = SweepFolder.create(folder, text, code, **facts)
        return made

    @classmethod
    def reopen(cls, folder: str | os.PathLike[str]) -> Search:
        """A sweep that goes on after whatever ended it.

        Raises:
            FileNotFoundError: there is no sweep.
            BlockingIOError: another process works on it.
            ValueError: its configuration or its data have changed.
        """
        found = SweepFolder.reopen(folder)
        facts = found.facts()
        experiment = experiment_of(document_of(found.config, facts, str(found.path / CONFIG)))
        if _meaning(experiment) != facts.get("meaning"):
            raise ValueError(
                f"{found.path / CONFIG} means another experiment now: "
                f"an environment variable that it names or jlayers has changed; restore it, or begin anew"
            )
        made = cls(experiment)
        if experiment.data.fingerprint() != facts.get("data"):
            raise ValueError(
                f"the data of {found.path} have changed since the sweep began: restore them, or begin anew"
            )
        now, then = environment()["versions"], facts.get("versions", {})
        if other := [f"{n} {then.get(n)}, now {now[n]}" for n in now if then.get(n) != now[n]]:
            text = f"this sweep was begun with other versions, and numbers can differ: {'; '.join(other)}"
            warnings.warn(text, RunWarning, stacklevel=2)
        made.folder, made.trials = found, found.trials()
        found.cut(made.trials)
        return made

    # --------------------------------------------------------------------------------- checked

    def check(self, checked: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Build and look over each trial before anything trains.

        Where values depend on results that are not there yet, each value of a list and both ends of each
        range are looked at instead, one by one.

        Raises:
            ConfigError: all that is wrong, at the lines of `sweep.values`.
        """
        if self.sampler.learns:
            tried = samplers.extremes(self.settings.values)
        else:
            tried = [self._sampled(number) for number in range(self.total)]
        problems: dict[Any, Any] = {}  # of the numbers of a range the first that is wrong says enough
        self.experiment.check()
        for done, values in enumerate(tried, 1):
            try:
                made = self._made(values)
                made.check()
                self._direction(made)
            except ConfigError as error:
                for problem in error.problems:
                    known = isinstance(self.settings.values.get(dotted(problem.path[2:])), Range)
                    problems.setdefault(problem.path if known else str(problem), problem)
            except (ValueError, TypeError, KeyError) as error:
                problem = self._problem(values, str(error.args[0] if error.args else error))
                problems.setdefault(str(problem), problem)
            checked(done, len(tried))
        if problems:
            raise ConfigError(problems.values())

    def _made(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment of a trial."""
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

    def _problem(self, values: Mapping[str, Any], message: str) -> Any:
        """A problem of a trial, at the line of the value that makes it."""
        shown = ", ".join(f"{path}={json.dumps(value)}" for path, value in values.items())
        place = (*SECTION, "values", *([next(iter(values))] if len(values) == 1 else []))
        return self.experiment.builder.document.problem(f"with {shown}: {message}", place)

    def _direction(self, experiment: Experiment) -> str:
        """Whether the metric is better when it is smaller or larger; an error if it is not measured."""
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

    # ---------------------------------------------------------------------------------- chosen

    @property
    def depends(self) -> bool:
        """Whether a trial depends on the results of others."""
        return self.sampler.learns or self.pruner is not None

    def _known(self, number: int) -> int:
        """How many of the first trials a trial knows the results of."""
        return max(0, number - self.settings.parallel + 1) if self.depends else 0

    def _sampled(self, number: int, pending: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        known, settings = self.trials[: self._known(number)], self.settings
        return self.sampler(settings.values, settings.seed, number, self.direction, known, pending)

    def _bounds(self, number: int, epochs: int) -> pruners.Bounds:
        if self.pruner is None:
            return [None] * epochs
        return self.pruner(number, self.trials[: self._known(number)], epochs, self.direction)

    def _chosen(self, number: int) -> Mapping[str, Any]:
        """The values of a trial; those of the trials that it does not know the results of come first."""
        if number < len(self.trials):
            return self.trials[number].values
        if number not in self._values:
            between = range(self._known(number), number) if self.sampler.learns else ()
            self._values[number] = self._sampled(number, [self._chosen(n) for n in between])
        return self._values[number]

    def _write(self, number: int) -> None:
        """Write the configuration of a trial, which is an ordinary one; or find it written as it must be."""
        made = self._made(self._chosen(number))
        data = {**made.to_data(), "sweep": None}
        training = dict(data["training"])
        training["checkpoint"] = training["checkpoint"] or CHECKPOINT
        bounds = self._bounds(number, made.settings.training.epochs)
        if any(bound is not None for bound in bounds):
            rule = {"monitor": self.settings.metric, "than": bounds, "mode": self.direction}
            training["callbacks"] = [*training["callbacks"], {"StopIfWorse": rule}]
        content = to_yaml({**data, "training": training}).encode()
        path = self.folder.file(number)
        if path.is_file() and path.read_bytes() != content:
            raise ValueError(
                f"{path} is not what this sweep chooses for trial {number}: the file, results of earlier "
                f"trials or versions have changed; restore them, or begin a new sweep"
            )
        write_atomically(path, content)

    # --------------------------------------------------------------------------------- trained

    def run(
        self,
        launcher: Launcher,
        ended: Callable[[Trial, int], None] = lambda trial, under_way: None,
    ) -> list[Trial]:
        """Train all trials that have not ended yet.

        Args:
            launcher: begins a trial.
            ended: is told of each trial that has ended, in the order of their numbers, and how many run.

        Returns:
            all trials, in the order of their numbers.

        Raises:
            Interrupted: a signal came; the trials under way have made a checkpoint and ended.
        """
        self.folder.lock()
        self.folder.begin()
        status = "failed"
        try:
            with (
                interruptions() as interrupts,
                contextlib.closing(self._trained(launcher, interrupts)) as trials,
            ):
                for trial, under_way in trials:
                    ended(trial, under_way)
            self._finish()
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.folder.note(status=status)
            self.folder.unlock()
        return self.trials

    def _trained(self, launcher: Launcher, interrupts: Any) -> Generator[tuple[Trial, int]]:
        running: dict[int, Job] = {}
        done: dict[int, Trial] = {}
        restarts: dict[int, int] = {}
        following = len(self.trials)
        try:
            while len(self.trials) < self.total:
                while following < self.total and len(running) < launcher.jobs and self._may_begin(following):
                    with interrupts.held():
                        self._write(following)
                    running[following] = self._begun(following, launcher)
                    following += 1
                interrupts.check()
                for number, job in list(running.items()):
                    if not job.ended():
                        continue
                    del running[number]
                    trial = self._outcome(number, job, restarts.get(number, 0))
                    if trial is None:  # it was killed
                        restarts[number] = restarts.get(number, 0) + (not isinstance(job, Elsewhere))
                        running[number] = self._begun(number, launcher)
                    else:
                        done[number] = trial
                while len(self.trials) in done:
                    trial = done.pop(len(self.trials))
                    with interrupts.held():
                        self.folder.add(trial)
                        self.trials.append(trial)
                        self._store()
                    yield trial, len(running)
                if running:
                    time.sleep(0.05)
        finally:
            for job in running.values():
                job.stop()
            for job in running.values():
                job.wait()

    def _may_begin(self, number: int) -> bool:
        return len(self.trials) >= self._known(number)

    def _begun(self, number: int, launcher: Launcher) -> Job:
        run = self.folder.run(number)
        status = run.status if run.path.exists() else "new"
        if status == "running":
            return Elsewhere(lambda: run.status == "running")
        if status in ("completed", "failed"):  # it ended, and its line was not written
            return Elsewhere(lambda: False)
        return launcher.start(self.folder, number)

    def _outcome(self, number: int, job: Job, restarts: int) -> Trial | None:
        """The line of a trial whose job has ended; None if it was killed and is to be begun again."""
        run = self.folder.run(number)
        results = run.results()
        status = run.status if results else "unknown"  # it may have ended before it had a folder
        if status == "completed":
            return self._completed(number, run)
        if status == "failed":
            reason = results.get("reason")
        elif not job.killed():
            reason = self.folder.last_word(number)
        elif restarts >= RESTARTS:
            reason = f"its process was killed {restarts + 1} times"
        else:
            return None
        curve = self._curve(run)
        text = str(reason or "its process ended without a word")
        return Trial(number, self._chosen(number), "failed", None, len(curve), curve, None, text)

    def _curve(self, run: Run) -> list[float | None]:
        values = run.history().get(self.settings.metric, [])
        return [value if math.isfinite(value) else None for value in values]

    def _completed(self, number: int, run: Run) -> Trial:
        results, curve = run.results(), self._curve(run)
        epochs = loads(self.folder.file(number).read_text(encoding="utf-8")).settings.training.epochs
        bounds, best = self._bounds(number, epochs), running_best(curve, self.direction)
        bound, last = bounds[len(curve) - 1], best[-1]
        behind = bound is not None and (last is None or better(bound, last, self.direction))
        status = "pruned" if behind and len(curve) < epochs else "completed"
        weights = results.get("files", {}).get("weights.safetensors")
        value = curve[results["kept_epoch"] - 1]
        return Trial(number, self._chosen(number), status, value, len(curve), curve, weights)

    # ---------------------------------------------------------------------------------- the end

    def ranked(self) -> list[Trial]:
        """The trials that have ended, the best first; those without a value last."""
        sign = 1 if self.direction == "min" else -1
        order = {"completed": 0, "pruned": 0, "failed": 1}
        return sorted(
            self.trials,
            key=lambda t: (order[t.status], math.inf if t.value is None else sign * t.value, t.number),
        )

    @property
    def best(self) -> Trial | None:
        """The best of the trials that were trained to their end; None if there is none."""
        return next((t for t in self.ranked() if t.status == "completed" and t.value is not None), None)

    def _store(self) -> None:
        if self.sampler.store:
            optuna.keep(self.folder.path, self.settings.values, self.direction, self.trials)

    def _finish(self) -> None:
        from jlayers.experiments.sweep.picture import draw_sweep

        self._store()
        best = self.best
        self.folder.note(best=None if best is None else best.name)
        draw_sweep(
            self.folder.path / PICTURE,
            self.trials,
            self.settings.values,
            self.settings.metric,
            self.direction,
            self.folder.path.name,
        )


def _meaning(experiment: Experiment) -> str:
    """A hash of the configuration with all that follows from variables, defaults and versions."""
    return sha256(to_yaml(experiment.to_data()).encode())
