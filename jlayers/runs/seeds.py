"""Many seeds trained into one run: weights in a stack, results by seed, with means and intervals."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers import train
from jlayers.config import Experiment
from jlayers.core.state import with_new_carries, without_carries
from jlayers.runs.epochs import SEEDS
from jlayers.runs.folder import Run
from jlayers.runs.training import (
    LOGS,
    Recorder,
    begin,
    checkpoints_of,
    look_at,
    require_finite,
    save,
    stopping_that_restores,
)
from jlayers.saving.weights import weights_hash
from jlayers.train.callbacks import Callback
from jlayers.train.interruptions import Interruptions
from jlayers.train.seeds.estimate import Estimate, estimates
from jlayers.train.seeds.states import SeedStates

__all__ = ["train_seeds"]


class SeedsRecorder(Recorder):
    """Writes each epoch's results into a run's folder, and the weights that each seed would keep."""

    of_all_seeds = True

    def __init__(
        self, run: Run, own: Sequence[Sequence[Callback]], interruptions: Interruptions, samples: int
    ):
        super().__init__(run, (), interruptions, samples * len(own))
        self.own = own
        self.kept: SeedStates | None = None

    def on_fit_begin(self, run: train.Run) -> None:
        super().on_fit_begin(run)
        self.resumed = run.resumed

    def on_epoch_end(self, epoch: int, logs: Any, state: Any) -> None:
        with self.interruptions.held():
            each = {name: values.tolist() for name, values in logs.each.items()}
            self.run.log(epoch + 1, {**logs, SEEDS: each})
            self.run.log_times(epoch + 1, self._times(int(state.stack.step)))
            require_finite(logs, f"in epoch {epoch + 1}")
            if self.kept is None and self.resumed and self.run.has_weights:
                self.kept = SeedStates.of(*self.run.weights(state.params, state.state), state.seeds)
            self.kept = self._weights_to_keep(epoch, ~np.isnan(logs.each["loss"]), state)
            save(self.run, self.kept, epoch + 1)

    def _weights_to_keep(self, epoch: int, training: np.ndarray, states: SeedStates) -> SeedStates:
        """The newest weights of each seed or, where early stopping restores the best, the best so far."""
        members = []
        for place, own in enumerate(self.own):
            stopping = stopping_that_restores(own)
            better = stopping is None or stopping.best_epoch in (None, epoch)
            if self.kept is None or (training[place] and better):
                state = states[place]
                for callback in own:
                    state = callback.to_keep(state)
                state = state.to_evaluate()
                members.append((state.params, state.state))
            else:
                members.append(jax.tree.map(lambda a, i=place: a[i], (self.kept.params, self.kept.state)))
        params, state = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
        return SeedStates.of(params, state, states.seeds)


def train_seeds(
    experiment: Experiment, run: Run, callbacks: Sequence[Any], interrupts: Interruptions
) -> None:
    """As `train_run` for one seed: `train`, `validation` and `test` in the results are means over the seeds.

    `ensemble` has the results of the mean of their predictions, and `seeds` those of each seed, with their
    standard deviation and the confidence interval of the mean.
    """
    settings, data, seeds = experiment.settings.training, experiment.data, experiment.seeds
    begin(experiment, run, interrupts)
    trainer = experiment.compile()
    (x, y), validation = experiment.parts
    given = list(experiment.listeners.values())
    shared = [callback for callback in given if callback.of_all_seeds]
    own = {seed: copy.deepcopy([c for c in given if not c.of_all_seeds]) for seed in seeds}
    for callback in shared:
        callback.place(run.path / LOGS)
    for seed, listeners in own.items():
        for callback in listeners:
            callback.place(run.path / LOGS / f"seed-{seed}")
    samples = len(jax.tree.leaves(x)[0])
    recorder = SeedsRecorder(run, list(own.values()), interrupts, samples)
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "shuffle": settings.shuffle,
        "seed": seeds[0],
    }
    starts = None
    if experiment.settings.weights:
        made = [experiment.start(trainer, seed) for seed in seeds]
        starts = [state for state, _ in made]
        run.note(weights=made[0][1])
    started = time.perf_counter()
    with experiment.located_layer():
        if data.test is not None:
            look_at(trainer, (x, y), data.test, options)
        states, history = train.fit_seeds(
            trainer,
            x,
            y,
            seeds=len(seeds),
            epochs=settings.epochs,
            validation_data=validation,
            class_weight=experiment.class_weight,
            callbacks=lambda seed: [*callbacks, *shared, *own[seed], recorder],
            steps_per_call=settings.steps_per_call,
            checkpoints=checkpoints_of(experiment, run),
            states=starts,
            **options,
        )
    epochs = [int(np.isfinite(column).sum()) for column in history["loss"].T]
    stopping = [stopping_that_restores(each) for each in own.values()]
    kept = [
        of_all if stop is None or stop.best_epoch is None else stop.best_epoch + 1
        for stop, of_all in zip(stopping, epochs, strict=True)
    ]
    with interrupts.held():  # first of all: nothing that follows can lose the weights
        save(run, states, max(kept))
    at_kept = {name: values[np.array(kept) - 1, range(len(seeds))] for name, values in history.items()}
    parts = {"train": {name: v for name, v in at_kept.items() if not name.startswith("val_")}}
    if validation is not None:
        parts["validation"] = {name[4:]: v for name, v in at_kept.items() if name.startswith("val_")}
    results: dict[str, Any] = {
        "epochs": max(epochs),
        "kept_epoch": max(kept),
        "seconds": round(time.perf_counter() - started, 3),
    }
    final = states.to_evaluate()
    results["weights_hash"] = weights_hash(final.params, without_carries(final.state))
    if data.test is not None:
        fresh = _with_carries(experiment, final, data.test[0])
        test = {"batch_size": settings.batch_size}
        parts["test"] = train.evaluate_seeds(trainer, fresh, *data.test, **test)
        results["ensemble"] = {"test": train.evaluate(trainer, fresh, *data.test, **test)}
    found = {part: estimates(values) for part, values in parts.items()}
    results |= {part: {name: e.mean for name, e in values.items()} for part, values in found.items()}
    results[SEEDS] = {"numbers": list(seeds), "epochs": epochs, "kept_epochs": kept, **_data(found)}
    require_finite(results.get("test", {}), "on the held-out data")
    interrupts.hold()
    run.finish(results)


def _with_carries(experiment: Experiment, states: SeedStates, x: Any) -> SeedStates:
    """The states for the first batch of x: what batches hand on begins at zero, for its rows."""
    rows = min(experiment.settings.training.batch_size, len(jax.tree.leaves(x)[0]))
    batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), x)
    _, form = jax.eval_shape(lambda: experiment.model.init(jax.random.key(0), batch))
    number = len(states)
    wide = jax.tree.map(lambda a: jax.ShapeDtypeStruct((number, *a.shape), a.dtype), form)
    return SeedStates.of(states.params, with_new_carries(without_carries(states.state), wide), states.seeds)


def _data(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {
        part: {name: dataclasses.asdict(one) for name, one in values.items()}
        for part, values in found.items()
    }
