"""A folder of checkpoints, kept by Orbax: arrays by path, and facts as JSON, by the number of the step.

Each checkpoint holds hashes of what was written, so that damage is found when it is read, whatever it hit.
All writing is done by one thread of its own, so that a training only waits for a write that the next one
catches up with.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import importlib.util
import json
import logging
import math
import os
import pathlib
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import of_file
from jlayers.saving.files import Lock, naming

__all__ = ["CheckpointWarning", "Found", "Store", "require_orbax"]


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged and the one before it is used, or one could not be written."""


class Found(NamedTuple):
    """A checkpoint: its step, its arrays by path, and its facts."""

    step: int
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


def require_orbax() -> None:
    """Raises an ImportError that says what to install, if Orbax is not installed."""
    if importlib.util.find_spec("orbax") is None or importlib.util.find_spec("orbax.checkpoint") is None:
        raise ImportError("checkpoints are kept by Orbax: pip install 'jlayers[checkpoint]'")


class Store:
    """The checkpoints in a folder.

    Args:
        path: path of the folder.
        keep: how many of the last ones stay.
        best: the name of a result; the checkpoint in which it is best stays, too.
        direction: "min" or "max", whichever is better.

    Attributes:
        seconds: seconds that writing a checkpoint takes, the least so far. 0 before the second one: the first
            one also sets Orbax up.

    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp(), keep=1, best="accuracy", direction="max")
    >>> store.open()
    >>> for step, accuracy in ((10, 0.5), (20, 0.9), (30, 0.7), (40, 0.8)):
    ...     store.save(step, {"w": np.full(2, step)}, {"epoch": step // 10}, {"accuracy": accuracy})
    >>> store.close()
    >>> store.steps(), store.best_step(), store.newest().arrays["w"].tolist()
    ([20, 40], 20, [40, 40])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        keep: int = 3,
        best: str | None = None,
        direction: str = "min",
    ):
        self.path = pathlib.Path(path).absolute()
        self.keep, self.best, self.direction = keep, best, direction
        self.seconds = 0.0
        self._lock = Lock()
        self._thread: concurrent.futures.ThreadPoolExecutor | None = None
        self._writing: tuple[int, concurrent.futures.Future[None]] | None = None
        self._manager: Any = None  # of the thread that writes

    # ------------------------------------------------------------------------------------------ write

    def open(self) -> None:
        """Begin to write. One process at a time may.

        Raises:
            BlockingIOError: another process writes into the folder.
            OSError: the folder cannot be made or written.
        """
        require_orbax()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.take(self.path / ".lock", f"another process writes checkpoints into {self.path}")
        try:
            _check_writable(self.path)
            for old in self.path.glob(f"{_REPLACED}*"):  # a process ended while it replaced a checkpoint
                self._put_back(old)
        except BaseException:
            self.close()
            raise
        logging.getLogger("absl").addFilter(self._is_news)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        refuse: Callable[[Mapping[str, np.ndarray]], str | None] = lambda arrays: None,
    ) -> None:
        """Begin to write a checkpoint; arrays and facts must not change afterwards.

        One of the same step is replaced once the new one is whole.

        Args:
            step: its number.
            arrays: by path.
            facts: plain data.
            metrics: results by name.
            refuse: says what is wrong with the arrays, if they must not be kept; called in the background.

        Raises:
            OSError: the one before it could not be written; see `settle`.
        """
        assert self._thread is not None, "open the store first"
        self.settle()
        self._writing = step, self._thread.submit(self._write, step, arrays, facts, metrics or {}, refuse)

    def settle(self) -> None:
        """Wait until what was begun is written.

        Raises:
            OSError: it could not be. The checkpoints before it are as they were.
        """
        if self._writing is None:
            return
        (step, future), self._writing = self._writing, None
        try:
            future.result()
        except Exception as error:
            text = f"the checkpoint of step {step} was not written into {self.path}: {_reason(error)}"
            raise OSError(text) from error

    def close(self) -> None:
        """Wait until all is written, and let others write.

        Raises:
            OSError: as `settle`.
        """
        thread, self._thread = self._thread, None
        lock, self._lock = self._lock, Lock()
        try:
            self.settle()
        finally:  # in the thread, should this wait be interrupted: nobody else may write before it ends
            if thread is None:
                lock.release()
            else:
                thread.submit(self._close_manager)
                thread.submit(lock.release)
                thread.submit(logging.getLogger("absl").removeFilter, self._is_news)
                thread.shutdown()

    def _is_news(self, record: logging.LogRecord) -> bool:
        """False for the tracebacks that Orbax logs of a failed write, which a `CheckpointWarning` tells."""
        if not record.exc_info:
            return True
        return not ("_SignalingThread" in record.getMessage() or str(self.path) in str(record.exc_info[1]))

    def _write(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
        metrics: Mapping[str, float],
        refuse: Callable[[Mapping[str, np.ndarray]], str | None],
    ) -> None:
        from orbax import checkpoint as ocp

        begun = time.monotonic()
        if reason := refuse(arrays):
            raise ValueError(reason)
        inner = {
            "facts": facts,
            "metrics": dict(metrics),
            "hashes": {path: _hash_of(array) for path, array in arrays.items()},
            "empty": {p: [str(a.dtype), a.shape] for p, a in arrays.items() if not a.size},
        }
        text = json.dumps(inner)
        envelope = {"text": text, "hash": _hash(text.encode())}
        _check_room(self.path, len(text) + sum(array.nbytes for array in arrays.values()))
        whole = {path: array for path, array in arrays.items() if array.size}  # Orbax refuses empty arrays
        kinds = ocp.args.Composite(
            arrays=ocp.args.PyTreeSave(whole or {_NOTHING: np.zeros(1)}), facts=ocp.args.JsonSave(envelope)
        )
        value = metrics.get(self.best or "", math.nan)
        judged = {self.best: value} if math.isfinite(value) else None  # NaN is never the best
        old, replaced = self.path / str(step), self.path / f"{_REPLACED}{step}"
        try:
            if old.exists():
                self._close_manager()
                old.rename(replaced)
            first = self._manager is None
            if first:
                self._manager = ocp.CheckpointManager(self.path, options=self._options())
            self._manager.save(step, args=kinds, metrics=judged, force=True)
            if not first:
                self.seconds = min(self.seconds or math.inf, time.monotonic() - begun)
        except BaseException:
            self._close_manager()
            for half in self.path.glob(f"{step}.*tmp*"):  # it may have filled the disk
                shutil.rmtree(half, ignore_errors=True)
            raise
        finally:
            if replaced.exists():
                self._put_back(replaced)

    def _put_back(self, replaced: pathlib.Path) -> None:
        """The old checkpoint of a step in its place, if there is no new one."""
        if (new := self.path / replaced.name.removeprefix(_REPLACED)).exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(new)

    def _close_manager(self) -> None:
        manager, self._manager = self._manager, None
        with contextlib.suppress(Exception):  # the error of a write was told
            if manager is not None:
                manager.close()

    def _options(self) -> Any:
        from orbax import checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        kept: list[Any] = [policies.LatestN(self.keep)]
        if (name := self.best) is not None:
            kept.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[name],
                    reverse=self.direction == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return ocp.CheckpointManagerOptions(
            create=True,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,  # the thread is ours
            preservation_policy=policies.AnyPreservationPolicy(kept),
        )

    # ------------------------------------------------------------------------------------------- read

    def newest(self) -> Found | None:
        """The last checkpoint that is whole; None in a folder without any.

        A damaged one is reported by a `CheckpointWarning`, and set aside if the folder is open for writing.

        Raises:
            ValueError: all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.read(step)
            except (PermissionError, MemoryError):  # it may be whole
                raise
            except Exception as error:  # of many kinds, by what is damaged
                text = (
                    f"the checkpoint {self.path / str(step)} is damaged ({_reason(error)}): the one before it"
                )
                warnings.warn(f"{text} is used", CheckpointWarning, stacklevel=2)
                if self._lock.held:
                    self._set_aside(step)
        if steps:
            damaged = ValueError(
                f"all checkpoints in {self.path} are damaged: restore one from a copy, or remove the "
                f"folder to begin anew"
            )
            raise of_file(damaged, self.path)
        return None

    def _set_aside(self, step: int) -> None:
        number = 1
        while (target := self.path / f"damaged-{step}-{number}").exists():
            number += 1
        (self.path / str(step)).rename(target)

    def steps(self) -> list[int]:
        """The steps of the checkpoints, in their order."""
        if not self.path.is_dir():
            return []
        with self._reader() as manager:
            return sorted(manager.all_steps())

    def best_step(self) -> int | None:
        """The step at which `best` was best, of the checkpoints that are there; the first of equal ones."""
        values: dict[int, float] = {}
        with self._reader() as manager:
            for step in sorted(manager.all_steps()):
                value = _inner(manager, step)["metrics"].get(self.best)
                if value is not None and math.isfinite(value):
                    values[step] = value
        choose = max if self.direction == "max" else min
        return choose(values, key=values.__getitem__) if values else None

    def read(self, step: int) -> Found:
        """The checkpoint of a step.

        Raises:
            ValueError: it is damaged.
        """
        from orbax import checkpoint as ocp

        with self._reader() as manager:
            inner = _inner(manager, step)
            kinds = ocp.args.Composite(arrays=ocp.args.PyTreeRestore())
            found = manager.restore(step, args=kinds)
        arrays = {path: np.asarray(array) for path, array in (found["arrays"] or {}).items()}
        arrays.pop(_NOTHING, None)
        for path, (dtype, shape) in inner["empty"].items():
            arrays[path] = np.zeros(shape, jnp.dtype(dtype))
        if {path: _hash_of(array) for path, array in arrays.items()} != inner["hashes"]:
            raise ValueError("its arrays are not those that were written")
        return Found(step, arrays, inner["facts"])

    def _reader(self) -> Any:
        from orbax import checkpoint as ocp

        self.settle()
        return ocp.CheckpointManager(self.path, options=ocp.CheckpointManagerOptions(create=False))


def _inner(manager: Any, step: int) -> dict[str, Any]:
    """The facts of a checkpoint, with the hashes of its arrays."""
    from orbax import checkpoint as ocp

    envelope = manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))["facts"]
    if _hash(envelope["text"].encode()) != envelope["hash"]:
        raise ValueError("its facts are not those that were written")
    return json.loads(envelope["text"])


_NOTHING = "nothing"  # stands for no arrays at all
_REPLACED = "replaced-"  # begins the name of a checkpoint that waits until the new one of its step is whole


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _hash_of(array: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{array.dtype} {array.shape} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """Why reading or writing failed, in a few words; TensorStore writes whole paths around the system's."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    code = re.search(r"os_error_code='(\d+)'", text)
    return os.strerror(int(code[1])) if code else text


def _check_writable(folder: pathlib.Path) -> None:
    with naming(folder), tempfile.TemporaryDirectory(prefix=".", dir=folder):
        pass


def _check_room(folder: pathlib.Path, needed: int) -> None:
    """Raises an OSError if a disk has no room for so many bytes.

    TensorStore writes many pieces at a time; where each of them fails, it prints a traceback for each.
    """
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(f"no space left on the disk: it needs {needed:,} bytes, and {free:,} are free")
