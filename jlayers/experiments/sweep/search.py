"""A sweep carried out: trials begun, gone on with after an interruption, and put in order.

How many run at a time, which of them ends first and what was killed on the way changes nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from jlayers.config import Experiment, load, loads
from jlayers.config.experiment import experiment_of
from jlayers.config.writer import to_yaml
from jlayers.experiments.sweep import optuna
from jlayers.experiments.sweep.document import document_of, folders_of, text_of
from jlayers.experiments.sweep.folder import CONFIG, PICTURE, SweepFolder
from jlayers.experiments.sweep.jobs import Elsewhere, Job, Launcher
from jlayers.experiments.sweep.ledger import add_to_ledger, cut_ledger
from jlayers.experiments.sweep.plan import Plan
from jlayers.experiments.sweep.trial import Trial
from jlayers.runs import Run, RunWarning, environment
from jlayers.runs.own_code import OwnCode
from jlayers.saving.files import sha256, write_atomically
from jlayers.train.interruptions import interruptions

__all__ = ["Search"]

RESTARTS = 3  # of a trial whose process was killed while ours continued


class Search:
    """A sweep that is carried out.

    Attributes:
        plan: what is tried.
        folder: where it is kept.
        trials: those that have ended, in the order of their numbers.
    """

    def __init__(self, plan: Plan, folder: SweepFolder):
        self.plan, self.folder = plan, folder
        self.trials = folder.trials()
        cut_ledger(folder.ledger, self.trials)

    # ------------------------------------------------------------------ begun, and gone on with

    @classmethod
    def begin(
        cls,
        file: str | os.PathLike[str],
        folder: str | os.PathLike[str] | None = None,
        overrides: Iterable[str] = (),
        code: Sequence[OwnCode] = (),
    ) -> Search:
        """A new sweep, with everything checked that can be wrong in any of its trials.

        Args:
            file: a configuration with a section `sweep`.
            folder: the sweep's; `sweeps/<name of the file>-<number>` if not given.
            overrides: such as `"training.epochs=3"`.
            code: the user's own files that the configuration needs.

        Raises:
            ConfigError: all that is wrong with the file or with a trial; there is no folder then.
            FileExistsError: there is something at `folder` already.
        """
        plan = Plan(load(file, overrides))
        plan.check()
        experiment = plan.experiment
        facts = {
            "meaning": _hash_of(experiment),
            "data": experiment.data.fingerprint(),
            "versions": environment()["versions"],
            **folders_of(experiment.written),
        }
        text = text_of(experiment.written)
        if folder is None:
            return cls(plan, SweepFolder.create_next(pathlib.Path(file).stem, text, code, **facts))
        return cls(plan, SweepFolder.create(folder, text, code, **facts))

    @classmethod
    def reopen(cls, folder: str | os.PathLike[str]) -> Search:
        """A sweep to continue, whatever ended it.

        Raises:
            FileNotFoundError: there is no sweep.
            BlockingIOError: another process works on it.
            ValueError: its configuration or its data have changed.
        """
        found = SweepFolder.reopen(folder)
        facts = found.facts()
        experiment = experiment_of(document_of(found.config, facts, str(found.path / CONFIG)))
        if _hash_of(experiment) != facts.get("meaning"):
            raise ValueError(
                f"{found.path / CONFIG} means another experiment now: "
                f"an environment variable that it names or jlayers has changed; restore it, or begin anew"
            )
        plan = Plan(experiment)
        if experiment.data.fingerprint() != facts.get("data"):
            raise ValueError(
                f"the data of {found.path} have changed since the sweep began: restore them, or begin anew"
            )
        now, then = environment()["versions"], facts.get("versions", {})
        if other := [f"{n} {then.get(n)}, now {now[n]}" for n in now if then.get(n) != now[n]]:
            text = f"this sweep was begun with other versions, and numbers can differ: {'; '.join(other)}"
            warnings.warn(text, RunWarning, stacklevel=2)
        return cls(plan, found)

    def retry_failed(self) -> list[int]:
        """Let trials that failed be trained again when `run` continues.

        A failure that later trials were chosen or judged with stays, and a `RunWarning` names it. The folder
        of a failed run gets another name, such as `trial-003-failed-1`.

        Returns:
            the numbers of the trials that have not ended any more.
        """
        begun = max((n for n in range(self.plan.total) if self.folder.file(n).is_file()), default=0)
        failed = [trial.number for trial in self.trials if trial.status == "failed"]
        again = [number for number in failed if number >= self.plan.known(begun)]
        if used := failed[: len(failed) - len(again)]:
            text = (
                f"the failures of trials {', '.join(map(str, used))} stay: later trials have been chosen or "
                f"judged with them; to try these values again, begin a new sweep"
            )
            warnings.warn(text, RunWarning, stacklevel=2)
        if not again:
            return []
        self.trials = self.trials[: again[0]]  # the lines of the others are found again in their runs
        cut_ledger(self.folder.ledger, self.trials)
        (self.folder.path / optuna.STORE).unlink(missing_ok=True)
        for number in again:
            self.folder.set_aside(number)
        return again

    # --------------------------------------------------------------------------------- trained

    def _write(self, number: int) -> None:
        """Write the configuration of a trial, which is an ordinary one; or find it written as it must be."""
        content = self.plan.configuration(number, self.trials).encode()
        path = self.folder.file(number)
        if path.is_file() and path.read_bytes() != content:
            raise ValueError(
                f"{path} is not what this sweep chooses for trial {number}: the file, results of earlier "
                f"trials or versions have changed; restore them, or begin a new sweep"
            )
        write_atomically(path, content)

    def run(
        self,
        launcher: Launcher,
        ended: Callable[[Trial], None] = lambda trial: None,
    ) -> list[Trial]:
        """Train all trials that have not ended yet.

        Args:
            launcher: begins a trial.
            ended: called with each trial that has ended, in the order of their numbers.

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
                contextlib.closing(self._trials_in_order(launcher, interrupts)) as trials,
            ):
                for trial in trials:
                    ended(trial)
            self._finish()
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.folder.note(status=status)
            self.folder.unlock()
        return self.trials

    def _trials_in_order(self, launcher: Launcher, interrupts: Any) -> Generator[Trial]:
        running: dict[int, Job] = {}
        done: dict[int, Trial] = {}
        restarts: dict[int, int] = {}
        following = len(self.trials)
        try:
            while len(self.trials) < self.plan.total:
                while (
                    following < self.plan.total
                    and len(running) < launcher.jobs
                    and self._may_begin(following)
                ):
                    with interrupts.held():
                        self._write(following)
                    running[following] = self._job_of(following, launcher)
                    following += 1
                interrupts.check()
                for number, job in list(running.items()):
                    if not job.ended():
                        continue
                    del running[number]
                    trial = self._outcome(number, job, restarts.get(number, 0))
                    if trial is None:  # it was killed
                        restarts[number] = restarts.get(number, 0) + (not isinstance(job, Elsewhere))
                        running[number] = self._job_of(number, launcher)
                    else:
                        done[number] = trial
                while len(self.trials) in done:
                    trial = done.pop(len(self.trials))
                    with interrupts.held():
                        add_to_ledger(self.folder.ledger, trial)
                        self.trials.append(trial)
                        self._store()
                    yield trial
                if running:
                    time.sleep(0.05)
        finally:
            for job in running.values():
                job.stop()
            for job in running.values():
                job.wait()

    def _may_begin(self, number: int) -> bool:
        return len(self.trials) >= self.plan.known(number)

    def _job_of(self, number: int, launcher: Launcher) -> Job:
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
            return self._trial_of_run(number, run)
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
        return Trial(
            number, self.plan.values(number, self.trials), "failed", None, len(curve), curve, None, text
        )

    def _curve(self, run: Run) -> list[float | None]:
        values = run.history().get(self.plan.settings.metric, [])
        return [value if math.isfinite(value) else None for value in values]

    def _trial_of_run(self, number: int, run: Run) -> Trial:
        results, curve = run.results(), self._curve(run)
        epochs = loads(self.folder.file(number).read_text(encoding="utf-8")).settings.training.epochs
        status = "pruned" if self.plan.was_pruned(number, self.trials, epochs, curve) else "completed"
        weights = results.get("files", {}).get("weights.safetensors")
        metric = self.plan.settings.metric
        part, name = ("validation", metric[4:]) if metric.startswith("val_") else ("train", metric)
        value = results[part][name]
        return Trial(number, self.plan.values(number, self.trials), status, value, len(curve), curve, weights)

    # ---------------------------------------------------------------------------------- the end

    def ranked(self) -> list[Trial]:
        """The trials that have ended, the best first; those without a value last."""
        sign = 1 if self.plan.direction == "min" else -1
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
        if self.plan.keeps_store:
            optuna.keep(self.folder.path, self.plan.settings.values, self.plan.direction, self.trials)

    def _finish(self) -> None:
        from jlayers.experiments.sweep.picture import draw_sweep

        self._store()
        best = self.best
        self.folder.note(best=None if best is None else best.name)
        draw_sweep(
            self.folder.path / PICTURE,
            self.trials,
            self.plan.settings.values,
            self.plan.settings.metric,
            self.plan.direction,
            self.folder.path.name,
        )


def _hash_of(experiment: Experiment) -> str:
    """A hash of the configuration with all that follows from variables, defaults and versions."""
    return sha256(to_yaml(experiment.to_data()).encode())
