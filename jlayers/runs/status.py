"""The status of a run, its final results and hashes of its files, in `results.json`, and its lock."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jlayers.runs.files import CONFIG, DATA, PREPROCESS, REQUIREMENTS, RESULTS, WEIGHTS, Files, json_content
from jlayers.runs.own_code import CODE
from jlayers.runs.process import has_ended, this_process
from jlayers.runs.requirements import requirements
from jlayers.saving.files import Lock, is_locked, overwrite, read_json, sha256, write_atomically

__all__ = ["Status"]

HASHED = (CONFIG, DATA, PREPROCESS)  # with the weights, what an evaluation reads


class Status(Files):
    """The status of a run. One process at a time trains into the folder."""

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(path)
        self._lock = Lock()

    def lock(self) -> None:
        """Let no other process train into the folder until `unlock`, or until this process ends.

        Raises:
            BlockingIOError: another process does.
        """
        self._lock.take(self.config, f"{self.path} is still being trained by another process")

    def unlock(self) -> None:
        """Let others train into the folder."""
        self._lock.release()

    @property
    def status(self) -> str:
        """`running`, `completed`, `failed`, `interrupted` or `killed`; `unknown` for a run without one."""
        results = self.results()
        status, process = str(results.get("status", "unknown")), results.get("process")
        return "killed" if status == "running" and (has_ended(process) or self._let_go(process)) else status

    def _let_go(self, process: Any) -> bool:
        """True if a process, perhaps on another computer, has locked the folder and released it."""
        locks = isinstance(process, dict) and process.get("locked") is True
        return locks and not self._lock.held and is_locked(self.config) is False

    @property
    def code(self) -> dict[str, str]:
        """The user's own files that the run was trained with, by name, with their SHA-256."""
        return dict(self.results().get("code", {}))

    def kept_code(self, name: str) -> pathlib.Path:
        """The path of the run's copy of one of those files."""
        return self.path / CODE / name

    def changes(self) -> list[str]:
        """The run's files that are no longer as the training left them."""
        hashes = self.results().get("files", {})
        return [name for name, known in hashes.items() if self._hash(name) != known]

    def _hash(self, name: str) -> str | None:
        path = self.path / name
        return sha256(path.read_bytes()) if path.is_file() else None

    def _begin(self, **known: Any) -> None:
        """Lock the folder and note that this process trains now."""
        self.lock()
        process = {**this_process(), "locked": self._lock.held}
        began = self.results().get("began", _now())
        self.note(status="running", began=began, process=process, **known)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Keep the results of a run that was completed; its weights are saved already."""
        write_atomically(self.path / REQUIREMENTS, requirements().encode())  # more is loaded by now
        self.note(status="completed", ended=_now(), **results)

    def fail(self, error: BaseException) -> None:
        """Note why the run ended before its end; what it has saved stays as it is.

        A full disk or a folder that has gone does not raise: a note at `error` says that the status could
        not be written. The run's status is then `killed`, since its process has ended.
        """
        interrupted = isinstance(error, KeyboardInterrupt)
        kind = type(error).__name__
        reason = str(error) if interrupted and str(error) else f"{kind}: {error}".rstrip(": ")
        status = {
            "status": "interrupted" if interrupted else "failed",
            "ended": _now(),
            "reason": reason,
            "error": kind,
        }
        try:
            self.note(**status)
        except Exception as second:
            status["reason"] = kind
            for content in ({**self._known(), **status}, status):
                with contextlib.suppress(OSError):
                    overwrite(self.path / RESULTS, json_content(content))
                    return
            error.add_note(f"the run's status could not be written: {second}")

    def _known(self) -> dict[str, Any]:
        with contextlib.suppress(ValueError, OSError):
            return self.results()
        return {}

    def results(self) -> dict[str, Any]:
        """The content of `results.json`."""
        path = self.path / RESULTS
        try:
            return read_json(path) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{error}; or remove it: only the status and the results are lost") from None

    def note(self, **entries: Any) -> None:
        """Put entries into `results.json`, and the hashes of the run's files as they are now."""
        names = (*HASHED, *([] if entries.get("status") == "running" else [WEIGHTS]))
        known = {**self.results(), **entries}
        hashes = {name: digest for name in names if (digest := self._hash(name))}
        self.write_json(RESULTS, {**known, "files": {**hashes, **known.get("files", {})}})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
