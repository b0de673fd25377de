"""A run whose numbers broke: its failed step once more, from the last checkpoint, layer by layer."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import tempfile
import time
from typing import Any

import jax
import numpy as np

from jlayers import train
from jlayers.config import Experiment
from jlayers.core.errors import details_of
from jlayers.data.batches import ArrayBatches, Batch
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.first_nan import first_not_finite
from jlayers.runs import Run
from jlayers.train.augment import augmented
from jlayers.train.callbacks import Callback
from jlayers.train.scaling import finite
from jlayers.train.sources import weighed
from jlayers.train.state import TrainState

__all__ = ["failed_step"]

SECONDS = 120.0  # that the steps up to the failed one may take


class _Watcher(Callback):
    """Keeps the state before each step, and stops where the weights are no longer finite."""

    every = 1

    def __init__(self, seconds: float):
        self.until = time.monotonic() + seconds
        self.kept: TrainState | None = None
        self.broke = self.late = False
        self._finite = jax.jit(finite)

    def on_step(self, step: int, logs: Any, state: TrainState) -> bool:
        if not self._finite((state.params, state.state)):
            self.broke = True
            return True
        self.kept = state.copy()
        self.late = time.monotonic() > self.until
        return self.late


def failed_step(experiment: Experiment, run: Run, case: Case, seconds: float = SECONDS) -> list[Finding]:
    """Train again up to the step that failed, and find the first value in it that is not finite.

    The run's folder stays as it is: its checkpoints are copied, and what callbacks write goes elsewhere.
    Without checkpoints the training begins anew.

    Args:
        experiment: experiment of the run.
        run: that failed.
        case: the same experiment for the checks.
        seconds: the most that the steps up to the failed one may take.
    """
    settings, trainer = experiment.settings.training, experiment.compile()
    (x, y), validation = experiment.parts
    watcher = _Watcher(seconds)
    own = [callback for callback in experiment.listeners.values() if _decides(callback, trainer)]
    error: BaseException | None = None
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for callback in own:
            callback.place(folder / "logs")
        checkpoints = None
        if settings.checkpoint is not None and run.checkpoints.is_dir():
            shutil.copytree(run.checkpoints, folder / "checkpoints")
            checkpoints = train.Checkpoint(folder / "checkpoints", **dataclasses.asdict(settings.checkpoint))
        start, _ = experiment.start(trainer)
        try:
            state, _ = train.fit(
                trainer,
                x,
                y,
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                validation_data=validation,
                shuffle=settings.shuffle,
                seed=experiment.settings.seed,
                class_weight=experiment.class_weight,
                callbacks=[*own, watcher],
                steps_per_call=1,
                checkpoints=checkpoints,
                state=start,
            )
        except FloatingPointError as broken:
            error, state = broken, vars(broken).get("state", case.state)
    if error is None and not watcher.broke:
        why = f"within {seconds:.0f} s" if watcher.late else "this time: the training ended well"
        more = (
            "" if settings.checkpoint is not None else "; with a section training.checkpoint it starts later"
        )
        return [Finding("nan", "note", str(run.path), f"the failure was not reached {why}{more}")]
    if error is not None and details_of(error).argument == "val_loss":
        text = f"the failure came back, in the validation data: {error}"
        advice = "look in the validation data for extreme values, and lower the learning rate"
        return [Finding("nan", "error", "validation", text, advice)]
    return _found(experiment, case, watcher.kept or state, error)


def _decides(callback: Callback, trainer: Any) -> bool:
    """True for callbacks that change what is trained, or what a checkpoint holds; not for mere loggers."""
    kind = type(callback)
    asks = any(callback.probes(update) for update in trainer.updates)
    return kind.state is not Callback.state or callback.changes_rate or asks


def _found(
    experiment: Experiment, case: Case, before: TrainState, error: BaseException | None
) -> list[Finding]:
    """The findings in the step after this state."""
    settings = experiment.settings.training
    (x, y), _ = experiment.parts
    x, y, weight = weighed((x, y, None), experiment.class_weight)
    batches = ArrayBatches(
        x,
        y,
        weight,
        batch_size=settings.batch_size,
        shuffle=settings.shuffle,
        seed=experiment.settings.seed,
    )
    epoch, place, number = int(before.epoch), int(before.position), int(before.step)
    if place >= len(batches):
        epoch, place = epoch + 1, 0
    batch = next(iter(batches.epoch(epoch, place)))
    trainer = case.trainer.stages[case.trainer.stage_of(epoch)][1]
    case = dataclasses.replace(case, trainer=trainer)
    step = f"step {number + 1} (batch {place + 1} of epoch {epoch + 1})"
    values: dict[str, Any] = {"step": number + 1, "epoch": epoch + 1, "batch": place + 1}
    found = first_not_finite(case, before, _augmented_batch(trainer, before, batch), number)
    if not found:
        found = [
            Finding(
                "nan",
                "error",
                "optimizer",
                "loss and gradients are finite, and the update makes weights that are not",
                "lower the learning rate, or clip the gradients (clip_by_global_norm)",
            )
        ]
    return [
        dataclasses.replace(f, message=f"in {step}, {f.message}", values={**f.values, **values})
        for f in found
    ]


def _augmented_batch(trainer: Any, state: TrainState, batch: Batch) -> Batch:
    if trainer.augment is None:
        return batch
    key = jax.random.fold_in(state.key, int(state.step))
    made = jax.jit(lambda given, key: augmented(trainer.augment, given, key))(batch, key)
    return jax.tree.map(np.asarray, made)
