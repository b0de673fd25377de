"""The loop of `fit` over the compiled step. It owns no mathematics.

What is launched on the device follows from the number of the step, never from the clock, so that several
processes launch the same programs. Dispatches give the logs so far; the host reads those that are ready.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import about, noted
from jlayers.core.lifting import MissingKeyError
from jlayers.data.batches import Batches
from jlayers.train.callbacks import Callback
from jlayers.train.feed import Runner, StepsPerCall, calls_for
from jlayers.train.fitting import Fitting
from jlayers.train.inference import evaluated
from jlayers.train.keeper import Keeper, Resumed
from jlayers.train.listeners import change_of, directions_of, step_for, tell_end, tell_error
from jlayers.train.sources import look_over
from jlayers.train.state import Flat, HostCopy, TrainState
from jlayers.train.step import Ended, TrainStep
from jlayers.train.trainer import Trainer
from jlayers.train.watch import LARGE, Watch

__all__ = ["History", "Loop"]

History = dict[str, list[float]]


class Loop(Fitting):
    """One call of `fit`, after the checks."""

    def __init__(
        self,
        trainer: Trainer,
        stage: int,
        state: TrainState,
        data: Batches,
        validation: Batches | None,
        callbacks: Sequence[Callback],
        steps_per_call: StepsPerCall,
    ):
        super().__init__()
        self.callbacks = callbacks
        self.steps_per_call: StepsPerCall = steps_per_call
        self.whole, self.stage = trainer, stage
        trainer, step = self.trainer, self.step
        self.review, self.data = look_over(step.tasks, state, data)
        self.validation = validation
        if validation is not None:
            with noted("in the validation data"):
                self.val_review, self.validation = look_over(trainer.tasks, state, validation)
        self.directions = directions_of(
            trainer, step, state.params, state.state, data.first(), validation is not None
        )
        self.history: History = {key: [] for key in self.directions}

    @property
    def trainer(self) -> Trainer:
        """The trainer of the stage in which the training is."""
        return self.whole.stages[self.stage][1]

    @property
    def step(self) -> TrainStep:
        """Its step, with what the callbacks ask for."""
        return step_for(self.callbacks, self.trainer)

    def run(
        self,
        state: TrainState,
        epochs: int,
        fresh: Callable[[], TrainState],
        note: str | None,
        keeper: Keeper | None = None,
        resumed: Resumed | None = None,
    ) -> tuple[TrainState, History]:
        with self.interruptible(keeper):
            return self._run(state, epochs, fresh, note, resumed)

    def _run(
        self,
        state: TrainState,
        epochs: int,
        fresh: Callable[[], TrainState],
        note: str | None,
        resumed: Resumed | None,
    ) -> tuple[TrainState, History]:
        keeper = self.keeper
        if resumed is not None:
            self.history = resumed.history
            fresh = HostCopy(state).back
            self.stage = keeper.stage if keeper is not None else self.stage
        self.state = state
        self.validation_key: Any = None  # of a model that samples in inference, too
        self.healthy = fresh  # makes the last state that was found healthy
        self.plan(epochs, resumed)
        if self.end > self.first:
            self.runner = self._runner(state)
            self.looks = bool(self.runner.every or self.runner.at) or (keeper is not None and keeper.by_clock)
        self.tell(
            self.callbacks,
            self.trainer,
            steps=self.data.steps,
            directions=self.directions,
            note=note,
            rows=jax.tree.leaves(self.data.first())[0].shape[0],
            rate_factor=1.0 if state.rate_factor is None else float(state.rate_factor),
            resumed=resumed is not None,
        )
        del state  # the one live state is that of the runner
        if keeper is not None and resumed is not None:
            keeper.restore_callbacks(resumed.callbacks)
        try:
            for epoch in range(self.first, self.end):
                if (stage := self.whole.stage_of(epoch)) != self.stage:
                    with self.together():
                        self._go_to(stage)
                if self._epoch(epoch):
                    break
        except BaseException as error:
            state = self.healthy() if isinstance(error, FloatingPointError) else self._whole()
            forgiven = tell_error(self.callbacks, error) and isinstance(error, FloatingPointError)
            if forgiven and self.history["loss"]:  # a NaN after a healthy epoch
                return tell_end(self.callbacks, state, self.history), self.history
            vars(error).update(state=state, history=self.history)
            if state.flat is self.current().flat:  # the healthy one may be older than the callbacks
                self.keep_last(state, self.history, error)
            tell_end(self.callbacks, state, self.history, error)
            raise
        finally:
            for data in filter(None, (self.data, self.validation)):
                data.close()
        return tell_end(self.callbacks, self.state, self.history), self.history

    def _runner(self, state: TrainState) -> Runner:
        step = self.step
        calls = calls_for(self.steps_per_call, step, state, self.data)
        every = [callback.every for callback in self.callbacks if callback.every]
        every += [] if self.keeper is None else self.keeper.every
        at = [number for callback in self.callbacks for number in callback.at_steps]
        return Runner(step, state, calls, every, at, self.waiting, self.interrupts)

    def _go_to(self, stage: int) -> None:
        """Trains more layers from here on."""
        self.stage = stage
        if self.keeper is not None:
            self.keeper.stage = stage
        self.state = self.trainer.adopt(self.current(), keep_optimizer=True)
        self.runner = self._runner(self.state)
        self.healthy = HostCopy(self.state).back

    def _whole(self) -> TrainState:
        """The last state that a step has handed over."""
        state = self.current()
        try:
            state.check_alive()
        except RuntimeError:
            return self.healthy()
        return state

    def _view(self) -> TrainState:
        """The same with dicts of its own, for a callback."""
        flat = self.current().flat
        return self.state.replace(flat=Flat(flat.form, flat.leaves))

    def _epoch(self, epoch: int) -> bool:
        """Trains for an epoch; True if a callback wants to stop."""
        with self.together():
            stops = self._epoch_begins(epoch)
        if stops:
            return True
        runner = self.runner
        first = int(self.state.epoch_start)
        done = runner.step - first
        watch = Watch(self.callbacks, self.review, epoch, done)
        begun = time.perf_counter()
        with contextlib.closing(runner.epoch(self.data, epoch, done)) as steps:  # ends threads on every way
            for logs in steps:
                watch.add(runner.step - first, logs)
                if self.looks and self._looked_at(watch, runner.step - first):
                    return True
        at_end = done > 0 and done == (self.data.steps or done)
        if runner.step - first == done and not at_end:  # no step was left
            raise ValueError(f"the data have no batches after the first {done}, where the state stands")
        state = self.current()
        ended = runner.program.end(state, self.review)
        if epoch + 1 < self.end and self.whole.stage_of(epoch + 1) == self.stage:
            runner.look_ahead(self.data, epoch + 1)
        values = watch.finish(ended)
        self.waiting.passed += time.perf_counter() - begun
        validation = self._validate(state, watch)
        with self.together():
            return self._epoch_over(epoch, values, validation, ended)

    def _epoch_begins(self, epoch: int) -> bool:
        """Tells callbacks of it; True if one wants to stop."""
        keeper = self.keeper
        if keeper is not None and keeper.begun:  # in the process before; what came of it is restored
            for callback in self.callbacks:
                if not callback.remembers:
                    callback.on_epoch_begin(epoch)
            return False
        stops = self._ask(self.callbacks, "on_epoch_begin", epoch)
        if keeper is not None:
            keeper.begun = True
        return stops

    def _epoch_over(
        self, epoch: int, values: dict[str, float], validation: dict[str, float], ended: Ended
    ) -> bool:
        """Moves to the next epoch and tells of it; True if a callback wants to stop."""
        runner, keeper = self.runner, self.keeper
        if keeper is not None:
            keeper.begun = False  # the next one has not
        stops = bool(validation) and self._ask(
            self.callbacks, "on_validation_end", epoch, validation.copy, self._view
        )
        values |= validation
        self.end_epoch(ended)
        copy, before = HostCopy(self.state), self.state
        self.healthy = copy.back
        for key, value in values.items():
            self.history.setdefault(key, []).append(value)
        stops |= self._ask(self.callbacks, "on_epoch_end", epoch, values.copy, self._view)
        last = stops or epoch + 1 == self.end
        if keeper is not None and (last or keeper.due_at_epoch(epoch + 1, runner.step, self.history)):
            same = copy if self.state is before else None  # no callback has changed it
            keeper.save(self.state, self.history, logs=values, stopped=stops, copy=same)
        return stops

    def _ask(self, callbacks: Sequence[Callback], event: str, *arguments: Any) -> bool:
        """Tells callbacks of an event, each with logs of its own and with what those before it have changed.

        True to stop. An argument may be a function that makes it anew for each.
        """
        stops = False
        for callback in callbacks:
            answer = getattr(callback, event)(*(a() if callable(a) else a for a in arguments))
            change = change_of(callback, answer)
            stops |= change.stop
            if change.rate_factor is not None:
                state = self.current()
                assert state.rate_factor is not None  # since the callback has declared it
                factor = jax.device_put(np.float32(change.rate_factor), state.rate_factor.sharding)
                self.put(state.replace(rate_factor=factor))
        return stops

    def _looked_at(self, watch: Watch, done: int) -> bool:
        """Between two dispatches, whoever asked for this step; True if a callback wants to stop."""
        step, keeper = self.runner.step, self.keeper
        listeners = self._listeners_at(step)
        # The last step of an epoch has its checkpoint when the epoch is over.
        keeps = keeper is not None and keeper.due_at_step(step) and not self._is_last(done)
        if not (listeners or keeps):
            return False
        values = watch.read_all()
        with self.together():
            stops = self._ask(listeners, "on_step", step, values.copy, self._view)
            if stops:
                self.state = self.current()
            if keeper is not None and (keeps or stops):
                keeper.save(self.current(), self.history, stopped=stops)
        return stops

    def _is_last(self, done: int) -> bool:
        """True if an epoch ends after so many batches; a stream of unknown length must be asked."""
        return done == self.data.steps if self.data.steps is not None else self.runner.is_last()

    def _listeners_at(self, step: int) -> list[Callback]:
        return [c for c in self.callbacks if (c.every and step % c.every == 0) or step in c.at_steps]

    def _validate(self, state: TrainState, watch: Watch) -> dict[str, float]:
        if self.validation is None:
            return {}
        values: dict[str, float] = {}
        weights = {"val_": state.to_evaluate()}
        if state.average is not None:
            weights["val_ema_"] = state.averaged()
        for prefix, one in weights.items():
            values |= {f"{prefix}{key}": value for key, value in self._evaluated(one).items()}
        if not math.isfinite(values["val_loss"]):
            error = watch.failed(f"the validation loss became {values['val_loss']}", watch.last, LARGE)
            raise about(error, val_loss=values["val_loss"])
        return values

    def _evaluated(self, weights: Any) -> dict[str, float]:
        """The logs over the validation data. A key is given only if a layer samples in inference, too."""
        step, calls, data = self.trainer.eval_step, self.runner.calls, self.validation
        assert data is not None
        if self.validation_key is None:
            try:
                return evaluated(step, weights, self.val_review, data, calls.steps if calls.looped else 1)
            except MissingKeyError:
                self.validation_key = jax.random.wrap_key_data(self.state.key_data, impl=self.state.impl)
        return evaluated(step, weights, self.val_review, data, 1, self.validation_key)
