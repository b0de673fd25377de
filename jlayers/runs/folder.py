"""A run on disk: its folder, made once, never overwritten, opened again or resumed."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jlayers.config.writer import to_yaml
from jlayers.runs.contents import Contents
from jlayers.runs.curves import draw_curves
from jlayers.runs.environment import environment, versions
from jlayers.runs.epochs import SEEDS, Epochs
from jlayers.runs.files import (
    CONFIG,
    CURVES,
    ENVIRONMENT,
    REQUIREMENTS,
    RESULTS,
    SUMMARY,
    WEIGHTS,
    json_content,
)
from jlayers.runs.own_code import CODE, OwnCode
from jlayers.runs.requirements import requirements
from jlayers.runs.status import Status
from jlayers.saving.files import new_folder, read_json, sweep, write_atomically

__all__ = ["Run"]


class Run(Status, Epochs, Contents):
    """The folder of one training run.

    - `config.yaml`: the configuration with all defaults and absolute paths
    - `environment.json`: versions, device, flags and settings
    - `requirements.txt`: the exact versions of the packages that were loaded
    - `model.json`: how many parameters and FLOPs the model has
    - `data.json`: what the data were
    - `preprocess.json`: the preprocessors, if there are any, with what they learned, such as vocabularies
    - `code/`: copies of the files that `--use` named, for people to read; they never run from here
    - `metrics.jsonl`: one line per epoch, written as the epoch ends
    - `times.jsonl`: one line per epoch: how long it took, and how many samples it saw
    - `weights.safetensors`: the weights that the run would keep if it ended now, and their epoch
    - `checkpoints/`: what `jlayers train --resume` continues from, if the configuration asks for them
    - `logs/`: what the callbacks of the configuration write
    - `summary.txt`, `curves.png`: for people
    - `outcomes.json`, `confusion.png`, `worst.png` and their like: what is predicted of the held-out data
    - `results.json`: the status, the final results, the process that trains, hashes of the files

    The status is `running`, `completed`, `failed` or `interrupted`. A run that says `running` and whose
    process has ended, such as after a power failure, has the status `killed`.
    """

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        summary: str = "",
        code: Sequence[OwnCode] = (),
    ) -> Run:
        """A new folder with the configuration in it.

        Args:
            path: path of the folder; those above it are made, too.
            config: plain data.
            summary: summary of the model, for people.
            code: the user's own files that the configuration needs.

        Raises:
            FileExistsError: there is something at `path` already; nothing is touched. Until all of the new
                folder is written it has another name, so that a run that was killed is whole or not there.
            NotADirectoryError: something above `path` is no folder, such as a link that leads nowhere.
        """
        contents = {
            CONFIG: to_yaml(config).encode(),
            ENVIRONMENT: json_content(environment()),
            REQUIREMENTS: requirements().encode(),
            **({SUMMARY: (summary.rstrip() + "\n").encode()} if summary else {}),
            **{f"{CODE}/{own.name}": own.content for own in code},
        }
        hashes = {own.name: own.sha256 for own in code}
        target = pathlib.Path(path)
        _make_folder(target.parent)
        with new_folder(target, "a run is never written over") as folder:
            run = cls(folder)
            if code:
                (folder / CODE).mkdir()
            for name, content in contents.items():
                write_atomically(folder / name, content)
            run._begin(**({"code": hashes} if code else {}))
        run.path = target
        return run

    @classmethod
    def create_next(
        cls,
        parent: str | os.PathLike[str],
        name: str,
        config: Mapping[str, Any],
        summary: str = "",
        code: Sequence[OwnCode] = (),
    ) -> Run:
        """A new folder `<parent>/<name>-<n>`, with the first number that is free."""
        number = 1
        while True:
            try:
                return cls.create(pathlib.Path(parent) / f"{name}-{number}", config, summary, code)
            except FileExistsError:
                number += 1

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """A run that was made before.

        Raises:
            FileNotFoundError: no run there, or one without weights; with the run's status.
            ValueError: `results.json` is damaged.
        """
        run = cls(path)
        if not (run.path / CONFIG).is_file():
            raise FileNotFoundError(
                f"{path} is not a run: expected a folder with {CONFIG}, as `jlayers train` makes it"
            )
        if run.status != "running":
            sweep(run.path)
        if not (run.path / WEIGHTS).is_file():
            reason = run.results().get("reason")
            because = f" ({reason})" if reason else ""
            raise FileNotFoundError(f"{path} holds no {WEIGHTS}: the run's status is {run.status!r}{because}")
        return run

    @classmethod
    def reopen(cls, path: str | os.PathLike[str]) -> Run:
        """A run to continue, whatever ended it. Nothing is changed yet; see `begin_again`.

        Raises:
            FileNotFoundError: no run there, or one that ended before its configuration was written.
            ValueError: it is still being trained, or one of its files is damaged.
        """
        run = cls(path)
        if not (run.path / CONFIG).is_file():
            begun = (run.path / RESULTS).is_file()
            what = f"ended before its {CONFIG} was written" if begun else "is not a run"
            raise FileNotFoundError(f"{path} {what}: nothing can be continued; train into a new folder")
        if run.status == "running":
            raise ValueError(f"{path} is still being trained by another process: wait until it has ended")
        if CONFIG in run.changes():
            raise ValueError(
                f"{run.config} has changed since the training began, which would be another run: restore it, "
                f"or train into a new folder"
            )
        return run

    def begin_again(self) -> None:
        """Note that this process trains now, and sweep what the one before has left half written.

        Raises:
            BlockingIOError: another process trains into the folder.
        """
        self.lock()
        sweep(self.path)
        gone = ("reason", "error", "ended", "files")
        known = {name: value for name, value in self.results().items() if name not in gone}
        self.write_json(RESULTS, known)
        self._begin()

    @property
    def has_seeds(self) -> bool:
        """True for a run of many seeds."""
        return SEEDS in self.results()

    def other_versions(self) -> list[str]:
        """The packages with another version than in the training, such as `jax 0.10.0, now 0.10.2`."""
        path = self.path / ENVIRONMENT
        then = read_json(path).get("versions", {}) if path.is_file() else {}
        now = versions()
        return [
            f"{name} {then[name]}, now {now[name]}" for name in now if then.get(name, now[name]) != now[name]
        ]

    def draw(self) -> bool:
        """Draw the learning curves; False without matplotlib."""
        better = self.results().get("better", {})
        return draw_curves(self.path / CURVES, self.history(), self.path.name, better, self.seeds_history())


def _make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        what = "a link that leads nowhere" if path.is_symlink() else "no folder"
        raise NotADirectoryError(
            f"{path} is {what}, or lies in something that is none: remove it, or choose another place "
            f"with --run"
        ) from None
