"""An experiment carried out: training into a run's folder, whose status tells how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from jlayers import train
from jlayers.config import Experiment
from jlayers.core.state import without_carries
from jlayers.inspect.summary import summary
from jlayers.runs.folder import Run
from jlayers.runs.restored import with_fresh_carries
from jlayers.saving.weights import not_finite, weights_hash
from jlayers.train.callbacks import Callback, EarlyStopping
from jlayers.train.interruptions import Interruptions, interruptions

__all__ = [
    "LOGS",
    "Recorder",
    "begin",
    "checkpoints_of",
    "ending_noted",
    "look_at",
    "require_finite",
    "save",
    "stopping_that_restores",
    "train_run",
]

LOGS = "logs"  # the folder of what callbacks write


class Recorder(Callback):
    """Writes each epoch's results into a run's folder, and the weights that the run would keep.

    These are the last ones or, where early stopping restores the best weights, the best so far. Weights that
    are not finite never replace healthy ones.
    """

    def __init__(self, run: Run, callbacks: Sequence[Callback], interruptions: Interruptions, samples: int):
        self.run, self.callbacks, self.samples = run, callbacks, samples
        self.stopping = stopping_that_restores(callbacks)
        self.interruptions = interruptions

    def on_fit_begin(self, run: train.Run) -> None:
        self.waiting = run.waiting
        self.run.cut(run.first_epoch)
        self.run.note(status="running", better=dict(run.directions))
        self.batch_size, self.step = run.rows, run.step

    def on_epoch_begin(self, epoch: int) -> None:
        self.clock, self.waited = time.perf_counter(), self.waiting.copy()

    def on_progress(self, epoch: int, step: int, logs: Any) -> None:
        self.interruptions.check()

    def on_epoch_end(self, epoch: int, logs: Any, state: Any) -> None:
        with self.interruptions.held():
            self.run.log(epoch + 1, logs)
            self.run.log_times(epoch + 1, self._times(int(state.step)))
            require_finite(logs, f"in epoch {epoch + 1}")
            if self.stopping is None or self.stopping.best_epoch in (None, epoch):
                for callback in self.callbacks:
                    state = callback.to_keep(state)
                save(self.run, state, epoch + 1)

    def _times(self, step: int) -> dict[str, float]:
        """The time that the epoch took since it began in this process; see `Run.times`."""
        own, steps = self.waiting.since(self.waited), step - self.step
        self.step = step
        times = {"seconds": time.perf_counter() - self.clock, "training": own.passed, "waited": own.seconds}
        seen = {"samples": min(self.samples, steps * self.batch_size)}
        return {**{name: round(value, 6) for name, value in times.items()}, **seen}


def stopping_that_restores(callbacks: Sequence[Callback]) -> EarlyStopping | None:
    """The early stopping that gives back the best weights, if there is one."""
    stopping = (c for c in callbacks if isinstance(c, EarlyStopping) and c.restore_best_weights)
    return next(stopping, None)


def require_finite(logs: Mapping[str, float], where: str) -> None:
    for name, title in (("loss", "loss"), ("val_loss", "validation loss")):
        if not math.isfinite(value := logs.get(name, 0.0)):
            raise FloatingPointError(
                f"the {title} became {value} {where}; lower the learning rate, clip the gradients "
                f"(clip_by_global_norm), or look for extreme values in the data"
            )


def save(run: Run, state: Any, epoch: int) -> None:
    state = state.to_evaluate()
    if bad := not_finite(state.params, without_carries(state.state)):
        raise FloatingPointError(
            f"after epoch {epoch} some weights are not finite and were not saved: {', '.join(bad[:3])}"
            f"{', ...' if len(bad) > 3 else ''}; lower the learning rate, or clip the gradients "
            f"(clip_by_global_norm)"
        )
    run.save(state.params, state.state, epoch)


def train_run(experiment: Experiment, run: Run, callbacks: Sequence[Any] = ()) -> dict[str, Any]:
    """Train as the experiment says, into the folder of `run`.

    A run that has checkpoints continues from the last one.

    Args:
        experiment: a configuration made into objects.
        run: its folder.
        callbacks: more listeners, such as a progress bar.

    Returns:
        what `results.json` then holds: how many epochs, the one whose weights are kept, seconds, the share of
        them in which the device waited for data that are read as they are needed, the results of that epoch
        in training and validation, and those on the held-out data.

    Raises:
        BlockingIOError: another process trains into the folder.
        FloatingPointError: a loss or a weight became NaN or infinite; the last healthy weights are kept.
        Interrupted: a signal (Ctrl-C, SIGTERM, SIGHUP) ended the training.
            Whatever ends the training is noted in the run.
    """
    run.lock()
    try:
        with ending_noted(run) as interrupts:
            if experiment.settings.seeds > 1:
                from jlayers.runs.seeds import train_seeds

                train_seeds(experiment, run, callbacks, interrupts)
            else:
                _train(experiment, run, callbacks, interrupts)
        run.draw()
        return run.results()
    finally:
        run.unlock()


@contextlib.contextmanager
def ending_noted(run: Run) -> Iterator[Interruptions]:
    """A block whose errors and interruptions are noted in the run before they leave it."""
    with interruptions() as interrupts:
        try:
            yield interrupts
        except BaseException as error:
            interrupts.hold()
            run.fail(error)
            raise


def begin(experiment: Experiment, run: Run, interrupts: Interruptions) -> None:
    """Note what is trained on what."""
    with interrupts.held():
        run.write_data(experiment.data, experiment.source)
        run.write_preprocess(experiment.preprocess)
        run.note(status="running", seed=experiment.settings.seed)
    if not run.model():
        with experiment.located_layer():
            run.write_model(summary(experiment.model, experiment.data.features))


def checkpoints_of(experiment: Experiment, run: Run) -> train.Checkpoint | None:
    """The checkpoints that the configuration asks for, in the folder of the run."""
    plan = experiment.settings.training.checkpoint
    return None if plan is None else train.Checkpoint(run.checkpoints, **dataclasses.asdict(plan))


def _train(experiment: Experiment, run: Run, callbacks: Sequence[Any], interrupts: Interruptions) -> None:
    settings, data = experiment.settings.training, experiment.data
    begin(experiment, run, interrupts)
    trainer = experiment.compile()
    (x, y), validation = experiment.parts
    own = list(experiment.listeners.values())
    for callback in own:
        callback.place(run.path / LOGS)
    stopping = stopping_that_restores(own)
    # The recorder comes last: early stopping has judged an epoch when the recorder asks which one is best.
    recorder = Recorder(run, own, interrupts, len(jax.tree.leaves(x)[0]))
    listeners = [*callbacks, *own, recorder]
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "shuffle": settings.shuffle,
        "seed": experiment.settings.seed,
    }
    checkpoints = checkpoints_of(experiment, run)
    start, report = experiment.start(trainer)
    if report:
        run.note(weights=report)
    started = time.perf_counter()
    with experiment.located_layer():
        if data.test is not None:
            look_at(trainer, (x, y), data.test, options)
        state, history = train.fit(
            trainer,
            x,
            y,
            epochs=settings.epochs,
            validation_data=validation,
            class_weight=experiment.class_weight,
            callbacks=listeners,
            steps_per_call=settings.steps_per_call,
            cache_features=settings.cache_features,
            checkpoints=checkpoints,
            state=start,
            **options,
        )
    epochs = kept = len(history["loss"])
    if stopping is not None and stopping.best_epoch is not None:
        kept = stopping.best_epoch + 1
    with interrupts.held():  # first of all: nothing that follows can lose the weights
        save(run, state, kept)
    results: dict[str, Any] = {
        "epochs": epochs,
        "kept_epoch": kept,
        "seconds": round(time.perf_counter() - started, 3),
        "train": {k: v[kept - 1] for k, v in history.items() if not k.startswith("val_")},
    }
    if recorder.waiting.seconds:  # the share of the training in which the device had no data
        results["waited_for_data"] = round(recorder.waiting.share, 3)
    if validation is not None:
        results["validation"] = {k[4:]: v[kept - 1] for k, v in history.items() if k.startswith("val_")}
    final = state.to_evaluate()
    weights = final.params, final.state
    results["weights_hash"] = weights_hash(final.params, without_carries(final.state))
    if data.test is not None:
        fresh = with_fresh_carries(experiment.model, weights, data.test[0], settings.batch_size)
        results["test"] = train.evaluate(trainer, fresh, *data.test, batch_size=settings.batch_size)
        require_finite(results["test"], "on the held-out data")
    interrupts.hold()
    run.finish(results)


def look_at(trainer: Any, given: Any, test: Any, options: Any) -> None:
    """Look at the held-out data before the first step; a fit of no epochs does all its checks."""
    try:
        train.fit(trainer, *given, validation_data=test, epochs=0, **options)
    except (ValueError, TypeError) as error:
        error.args = (f"the held-out data: {error}", *error.args[1:])  # its record of layer and path stays
        raise
