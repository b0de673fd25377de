"""A profile of some steps: what the device did, when, and for how long."""

from __future__ import annotations

import json
import os
import pathlib
import time
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from jlayers.core.errors import refused
from jlayers.train.callbacks._places import inside
from jlayers.train.callbacks._trace import operations_of
from jlayers.train.callbacks.base import Callback, Logs, Run, register
from jlayers.train.state import TrainState

__all__ = ["Profile"]


@register
class Profile(Callback):
    """Record a profile of some steps by JAX's profiler, and a short summary of where their time went.

    The trace begins when the device has finished all earlier steps, and ends when it has finished the last of
    these. Open it with `tensorboard --logdir FOLDER` of the packages tensorboard and xprof, or drop the file
    `plugins/profile/.../*.trace.json.gz` on https://ui.perfetto.dev. The summary is a file such as
    `steps-100-110.json`: the seconds that passed, the share of them in which the device worked, and the
    operations that took longest.

    If the training ends within these steps, the profile holds those that were taken. A run resumed from
    a checkpoint within them records the rest. Choose steps of a later epoch than the first: in the first one
    the step is compiled.

    Args:
        steps: the first and the last step, both included. They are counted from 1 over the whole run.
        folder: of the files. In a configuration it is in the folder `logs` of the run.

    Raises:
        ValueError: steps that are not a range, or that the training does not reach; a path that leaves the
            run's folder.

    >>> import jlayers as jl
    >>> jl.callbacks.Profile((100, 110))
    Profile((100, 110))
    """

    def __init__(self, steps: Sequence[int], folder: str = "profile"):
        whole = all(isinstance(step, int) and not isinstance(step, bool) for step in steps)
        if len(steps) != 2 or not whole or not 1 <= steps[0] <= steps[1]:
            raise refused(
                ValueError, "expected the first and the last step to record, counted from 1", steps=steps
            )
        if not folder or "\0" in folder:
            raise refused(ValueError, "expected the name of a folder", folder=folder)
        self.first, self.last = steps
        self.at_steps = (self.first - 1, self.last)
        self.folder, self.path = folder, pathlib.Path(folder)
        self._begun: tuple[int, float] | None = None  # the steps before the trace, and the time

    def place(self, folder: str | os.PathLike[str]) -> None:
        self.path = inside(folder, folder=self.folder)

    def check(self, run: Run) -> None:
        most = None if run.steps is None else run.step + run.epochs * run.steps
        if most is not None and self.first > most and not run.resumed:
            raise ValueError(
                f"expected steps to profile within the {most} steps of the training, received "
                f"steps={[self.first, self.last]}"
            )
        if run.step >= self.last and not run.resumed:
            raise ValueError(
                f"expected steps to profile that are still to come, received steps="
                f"{[self.first, self.last]} after {run.step} steps; steps are counted over the whole run"
            )

    def on_fit_begin(self, run: Run) -> None:
        self._begun = None
        self._missed = run.step < self.last
        self._at_once = run.step if self.first - 1 <= run.step < self.last else None

    def on_epoch_begin(self, epoch: int) -> None:
        step, self._at_once = self._at_once, None
        if step is not None:
            self._start(step)

    def on_step(self, step: int, logs: Logs, state: TrainState) -> None:
        if step == self.first - 1:
            jax.block_until_ready(state.flat.leaves)
            self._start(step)
        elif step == self.last:
            self._stop(step, state)

    def on_fit_end(self, state: TrainState) -> None:
        if self._begun is not None:  # the training ended within the steps
            self._stop(int(state.step), state)
        elif self._missed:
            warnings.warn(
                f"nothing was profiled: the training ended before step {self.first}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _start(self, step: int) -> None:
        self._missed = False
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # it would slow down what is measured
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            jax.profiler.start_trace(self.path, profiler_options=options)
        except RuntimeError as error:  # JAX has one profiler, and someone else uses it
            warnings.warn(f"nothing was profiled: {error}", RuntimeWarning, stacklevel=2)
            return
        self._begun = step, time.perf_counter()

    def _stop(self, step: int, state: TrainState) -> None:
        if self._begun is None:
            return
        jax.block_until_ready(state.flat.leaves)
        (before, begun), self._begun = self._begun, None
        seconds = time.perf_counter() - begun
        jax.profiler.stop_trace()
        traces = self.path.glob("plugins/profile/*/*.xplane.pb")
        newest = max(traces, key=os.path.getmtime)
        facts: dict[str, Any] = {
            "steps": [before + 1, step],
            "asked": [self.first, self.last],
            "seconds": seconds,
            "trace": newest.parent.relative_to(self.path).as_posix(),
            **operations_of(newest, seconds),
        }
        file = self.path / f"steps-{self.first}-{self.last}.json"
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
