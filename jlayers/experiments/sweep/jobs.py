"""Trials that run: each in a process of its own, on a device of its own where there are several, or here."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jlayers.core.errors import refused
from jlayers.experiments.sweep.folder import SweepFolder
from jlayers.runs.own_code import OwnCode

__all__ = ["Here", "Job", "Launcher", "Processes", "devices", "launcher_for"]


class Job(Protocol):
    """A trial under way."""

    def ended(self) -> bool: ...

    def killed(self) -> bool:
        """True if a signal ended it, so that it can be begun again."""
        ...

    def stop(self) -> None:
        """Ask it to make a checkpoint and to end; `wait` waits until it has."""
        ...

    def wait(self) -> None: ...


class Launcher(Protocol):
    """Starts a trial, or continues one; `jobs` says how many at a time."""

    jobs: int

    def start(self, folder: SweepFolder, number: int) -> Job: ...


class Process:
    """A process that trains one trial. It ends with the one that started it, whatever ends that."""

    def __init__(self, command: Sequence[str], log: pathlib.Path, environment: Mapping[str, str], free: Any):
        self._free = free
        own_group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}  # Ctrl-C is for us
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closes when we end
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                **own_group,
            )

    def ended(self) -> bool:
        if self.process.poll() is None:
            return False
        self.wait()
        return True

    def killed(self) -> bool:
        code = self.process.returncode
        return code is None or code < 0 or code > 128  # 128 and more: it has made a checkpoint first

    def stop(self) -> None:
        self.process.terminate()

    def wait(self) -> None:
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self._free()


class Processes:
    """Trains each trial by a process of `jlayers train`.

    Args:
        command: begins a process that takes the arguments of `jlayers train`.
        jobs: how many there are at a time.
        environments: variables of the environment for a place among the `jobs`, such as the device to use.
    """

    def __init__(self, command: Sequence[str], jobs: int, environments: Sequence[Mapping[str, str]] = ()):
        self.command, self.jobs = command, jobs
        environments = environments or [{}]
        self._free = [environments[place % len(environments)] for place in range(jobs)]

    def start(self, folder: SweepFolder, number: int) -> Job:
        run, environment = folder.run(number), self._free.pop(0)
        whole = ("--resume", str(run.path))
        arguments = whole if run.path.exists() else (str(folder.file(number)), "--run", str(run.path))
        done: list[bool] = []

        def free() -> None:
            if not done:
                done.append(True)
                self._free.append(environment)

        return Process([*self.command, *arguments], folder.log(number), environment, free)


class Ended:
    """A trial that was trained here and has ended."""

    def ended(self) -> bool:
        return True

    def killed(self) -> bool:
        return False

    def stop(self) -> None: ...

    def wait(self) -> None: ...


class Here:
    """Trains one trial after the other in this process, which costs no starts."""

    jobs = 1

    def __init__(self, code: Sequence[OwnCode] = ()):
        self.code = code

    def start(self, folder: SweepFolder, number: int) -> Job:
        from jlayers.config import load
        from jlayers.inspect.summary import summary
        from jlayers.runs import Run, experiment_to_resume, train_run
        from jlayers.train.interruptions import interruptions

        run = folder.run(number)
        with interruptions() as interrupts:
            busy = interrupts.busy
            try:
                if run.path.exists():
                    run = Run.reopen(run.path)
                    experiment = experiment_to_resume(run)
                    run.begin_again()
                else:
                    experiment = load(folder.file(number))
                    experiment.check()
                    with experiment.located_layer():
                        report = summary(experiment.model, experiment.data.features)
                    run = Run.create(run.path, experiment.to_data(), str(report), self.code)
                train_run(experiment, run)
            except Exception as error:
                folder.log(number).write_text(f"{error}\n", encoding="utf-8")
            finally:
                interrupts.busy = busy  # a training that ends holds off signals from there on
            interrupts.check()
        return Ended()


class Elsewhere:
    """A trial that a process of an earlier sweep still trains: it was told to end, or is about to."""

    def __init__(self, still_runs: Callable[[], bool]):
        self._still_runs = still_runs

    def ended(self) -> bool:
        return not self._still_runs()

    def killed(self) -> bool:
        return True

    def stop(self) -> None: ...

    def wait(self) -> None: ...


def launcher_for(jobs: int, arguments: Sequence[str] = (), code: Sequence[OwnCode] = ()) -> Launcher:
    """A launcher for so many trials at a time.

    Args:
        jobs: each in a process of its own; 0 for one after the other in this process.
        arguments: further ones for each process, as `jlayers train` takes them.
        code: the user's own files, which the runs keep.
    """
    if jobs < 0:
        raise refused(ValueError, "expected jobs of 0 or more", jobs=jobs)
    if jobs == 0:
        return Here(code)
    return Processes([sys.executable, "-m", "jlayers.cli.trial", *arguments], jobs, devices(jobs))


def devices(jobs: int) -> list[dict[str, str]]:
    """Variables of the environment that give each of several processes its device.

    JAX on a CPU needs none. A process asks JAX what there is, because whoever asks holds the memory of a GPU.

    Raises:
        ValueError: several processes on a TPU, which serves one.
    """
    plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    if not plugins or os.environ.get("JAX_PLATFORMS") == "cpu":
        return [{}]
    script = "import jax; d = jax.local_devices(); print(d[0].platform, d[0].client.platform_version, len(d))"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    words = asked.stdout.split()
    if asked.returncode != 0 or not words:
        raise ValueError(f"JAX cannot start here: {(asked.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return environments(words[0], " ".join(words[1:-1]), int(words[-1]), jobs, os.environ)


def environments(
    platform: str, version: str, count: int, jobs: int, known: Mapping[str, str]
) -> list[dict[str, str]]:
    """The variables for each of `jobs` places among `count` devices.

    >>> environments("gpu", "cuda 12", 2, 3, {"CUDA_VISIBLE_DEVICES": "4,5"})[0]
    {'CUDA_VISIBLE_DEVICES': '4', 'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.45'}
    """
    if platform == "tpu" and jobs > 1:
        raise ValueError(f"expected --jobs 1 on a TPU, which serves one process, received --jobs {jobs}")
    if platform in ("cpu", "tpu"):
        return [{}]
    name = "ROCR_VISIBLE_DEVICES" if "rocm" in version.lower() else "CUDA_VISIBLE_DEVICES"
    visible = [entry.strip() for entry in known.get(name, "").split(",") if entry.strip()]
    # CUDA itself stops at the first entry that it does not know, such as -1.
    visible = visible[:count] or [str(number) for number in range(count)]
    sharing = -(-jobs // len(visible))
    memory = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    share = {memory: f"{0.9 / sharing:.2f}"} if sharing > 1 and memory not in known else {}
    return [{name: visible[place % len(visible)], **share} for place in range(jobs)]
