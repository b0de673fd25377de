"""The folder of a sweep: what was asked for, one line for each trial that has ended, and the trials' runs."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from jlayers.experiments.sweep.ledger import LEDGER, read_ledger
from jlayers.experiments.sweep.trial import Trial
from jlayers.runs import Run
from jlayers.runs.own_code import CODE, OwnCode
from jlayers.runs.process import has_ended, this_process
from jlayers.saving.files import (
    Lock,
    new_folder,
    read_json,
    sha256,
    sweep,
    write_atomically,
)

__all__ = ["SweepFolder"]

CONFIG = "sweep.yaml"
FACTS = "sweep.json"
PICTURE = "sweep.png"


class SweepFolder:
    """The folder of one sweep.

    - `sweep.yaml`: the configuration, with the files under `defaults` and what `--set` said put in
    - `sweep.json`: the status, the process, hashes of the data, of the configuration and of own code
    - `trials.jsonl`: a line for each trial that has ended, in the order of their numbers
    - `trial-000.yaml`, `trial-000/`, `trial-000.log`: a trial's configuration, its run, what it printed
    - `sweep.png`: the metric by trial and by value
    - `study.db`: the trials in Optuna's store, for methods of Optuna's

    The status is `running`, `completed`, `failed`, `interrupted` or `killed`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self._lock = Lock()

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], config: str, code: Sequence[OwnCode] = (), **facts: Any
    ) -> SweepFolder:
        """A new folder, locked by this process.

        Raises:
            FileExistsError: there is something at `path` already; nothing is touched.
        """
        target = pathlib.Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(target, "a sweep is never written over") as folder:
            made = cls(folder)
            if code:
                (folder / CODE).mkdir()
            for own in code:
                write_atomically(folder / CODE / own.name, own.content)
            write_atomically(folder / CONFIG, config.encode())
            hashes = {own.name: own.sha256 for own in code}
            made.lock()
            made.note(**facts, config=sha256(config.encode()), code=hashes)
        made.path = target
        return made

    @classmethod
    def create_next(cls, name: str, config: str, code: Sequence[OwnCode] = (), **facts: Any) -> SweepFolder:
        """A new folder `sweeps/<name>-<n>`, with the first number that is free."""
        number = 1
        while True:
            try:
                return cls.create(pathlib.Path("sweeps") / f"{name}-{number}", config, code, **facts)
            except FileExistsError:
                number += 1

    @classmethod
    def reopen(cls, path: str | os.PathLike[str]) -> SweepFolder:
        """The folder of a resumed sweep, locked by this process.

        Raises:
            FileNotFoundError: there is no sweep.
            BlockingIOError: another process runs it.
            ValueError: its configuration has changed, or a file is damaged.
        """
        found = cls(path)
        if not found.exists():
            raise FileNotFoundError(
                f"{path} is not a sweep: expected a folder with {CONFIG}, as `jlayers sweep FILE` makes it"
            )
        found.lock()
        if sha256((found.path / CONFIG).read_bytes()) != found.facts().get("config"):
            raise ValueError(
                f"{found.path / CONFIG} has changed since the sweep began, which would be another sweep: "
                f"restore it, or begin a new one"
            )
        sweep(found.path)
        return found

    def exists(self) -> bool:
        return (self.path / CONFIG).is_file()

    def lock(self) -> None:
        """Let no other process work on the sweep until `unlock`, or until this process ends.

        Raises:
            BlockingIOError: another process does.
        """
        self._lock.take(self.path / CONFIG, f"{self.path} is still being worked on by another process")

    def unlock(self) -> None:
        """Let another process continue the sweep."""
        self._lock.release()

    @property
    def config(self) -> str:
        """The configuration as text."""
        return (self.path / CONFIG).read_text(encoding="utf-8")

    @property
    def status(self) -> str:
        facts = self.facts()
        status = str(facts.get("status", "unknown"))
        return "killed" if status == "running" and has_ended(facts.get("process")) else status

    def facts(self) -> dict[str, Any]:
        """The content of `sweep.json`."""
        return read_json(self.path / FACTS)

    def note(self, **entries: Any) -> None:
        """Put entries into `sweep.json`."""
        known = self.facts() if (self.path / FACTS).is_file() else {}
        content = json.dumps({**known, **entries}, indent=2) + "\n"
        write_atomically(self.path / FACTS, content.encode())

    def begin(self) -> None:
        """Note that this process works on the sweep."""
        self.note(status="running", process=this_process())

    def file(self, number: int) -> pathlib.Path:
        """The path of a trial's configuration."""
        return self.path / f"trial-{number:03d}.yaml"

    def run(self, number: int) -> Run:
        """A trial's run, which may not be there yet."""
        return Run(self.file(number).with_suffix(""))

    def log(self, number: int) -> pathlib.Path:
        """The path of what a trial's process prints."""
        return self.file(number).with_suffix(".log")

    @property
    def ledger(self) -> pathlib.Path:
        """The path of the lines of the trials that have ended."""
        return self.path / LEDGER

    def trials(self) -> list[Trial]:
        """The trials that have ended, in the order of their numbers; see `read_ledger`."""
        return read_ledger(self.ledger)

    def set_aside(self, number: int) -> None:
        """Give the folder of a run that failed another name, so that the trial can begin anew."""
        run, count = self.run(number), 1
        if run.path.exists() and run.status == "failed":
            while (aside := run.path.with_name(f"{run.path.name}-failed-{count}")).exists():
                count += 1
            run.path.rename(aside)

    def last_word(self, number: int) -> str:
        """The last line that a trial's process printed."""
        with contextlib.suppress(OSError):
            lines = self.log(number).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""
