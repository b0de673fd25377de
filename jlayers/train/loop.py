"""`fit`: a thin loop over the compiled step. It owns no mathematics.

What is launched on the device follows from the number of the step, never from the clock, so that several
processes launch the same programs. Each dispatch gives the logs so far; the host reads those that are ready.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.calls import taught
from jlayers.core.errors import noted, refused
from jlayers.core.layer import Layer
from jlayers.core.lifting import MissingKeyError
from jlayers.data.batches import Batches, map_arrays
from jlayers.data.prefetch import Waiting
from jlayers.train.callbacks import Callback, Change, Run, as_callback
from jlayers.train.checkpoint import Checkpoint, Keeper, Resumed, as_checkpoint, identity
from jlayers.train.checks import check_carried, check_named, check_process, seed_number, whole_number
from jlayers.train.features import FeatureCache, as_feature_cache, features_of, trainer_of_head
from jlayers.train.feed import Runner, StepsPerCall, calls_for
from jlayers.train.inference import evaluated
from jlayers.train.interruptions import ENDING, interruptions
from jlayers.train.listeners import directions_of, step_for, with_rate_factor
from jlayers.train.sources import (
    BATCH_SIZE,
    WeighedBatches,
    arrays,
    look_over,
    source,
    split_validation,
    validation_source,
    weighed,
)
from jlayers.train.state import Flat, HostCopy, TrainState
from jlayers.train.step import Ended, TrainStep
from jlayers.train.trainer import Trainer
from jlayers.train.watch import LARGE, Watch

__all__ = ["fit"]

History = dict[str, list[float]]


@taught
def fit(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    validation_data: Any = None,
    validation_split: float = 0.0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | Sequence[float] | str | None = None,
    callbacks: Sequence[Any] = (),
    state: TrainState | None = None,
    steps_per_call: StepsPerCall = "auto",
    checkpoints: str | os.PathLike[str] | Checkpoint | None = None,
    cache_features: bool | str | os.PathLike[str] | FeatureCache = False,
) -> tuple[TrainState, History]:
    """Train for some epochs. Silent; add `jl.ProgressBar()` to the callbacks to watch.

    The same seed gives the same bits. Epochs go on counting in the state, so that two fits of two epochs, the
    state passed on, are one fit of four.

    Args:
        trainer: what `jl.compile` returns.
        x: an array with the samples first, a tuple of arrays for several inputs, a dict for named ones; a
            `jl.data.LazyArray` for data that memory does not hold. Or, without `y`, an iterable of batches
            `(x, y)` or `(x, y, sample_weight)`: a list, a generator, a PyTorch `DataLoader`, a Grain
            pipeline, anything with `__iter__` or with `__getitem__` and `__len__`. A thread makes them two
            batches ahead of their steps.
        y: the targets, in the structure of the model's outputs; those of outputs without a loss may be left
            out. A task may need none.
        batch_size: samples per step, 32 if not given. The last batch of an epoch has those that are left, for
            which the step is compiled once more.
        epochs: how many more epochs to train.
        validation_data: `(x, y)`, `(x, y, sample_weight)`, or an iterable of batches.
        validation_split: share of the samples, the last ones, before shuffling, to validate on.
        steps_per_epoch: batches in an epoch; needed for iterables that never end. The next epoch goes on
            where an iterable stands.
        validation_steps: batches to validate on; all if not given.
        shuffle: a new order in every epoch, which follows from `seed` and the epoch alone.
        seed: of the weights, of dropout and of the order.
        sample_weight: factors of the samples' losses.
        class_weight: factors by class number, as a mapping or a list, or "balanced" for factors that give
            each class the same share, as scikit-learn counts; that needs arrays. Validation data are not
            weighed.
        callbacks: see `jl.Callback`.
        state: to go on from; it is copied once and left untouched.
        steps_per_call: steps in one dispatch (Keras: `steps_per_execution`), which small models gain from:
            what they learn is the same, bit for bit, and progress and bad losses are seen once per call.
            "auto" is 1 for batches from an iterable, for large steps, and on a CPU for steps with a
            convolution; else as many as pay. See `jlayers.train.feed`.
        checkpoints: a folder, or a `jl.Checkpoint`. The first call makes checkpoints there. A call with the
            same arguments goes on from the last one, in the middle of an epoch, too, and ends with the same
            bits as one that was never interrupted; `epochs` are then those of all calls together, and
            `state` is not looked at. Needs `pip install 'jlayers[checkpoint]'`.
        cache_features: compute what the frozen layers at the beginning of the model give once per sample, and
            train the rest on it: the same result, to rounding, in a fraction of the time. True keeps these
            features in memory; a folder, or a `jl.FeatureCache`, on disk. Samples must be arrays.

    Returns:
        The state, and the history: by name (`loss`, `accuracy`, `val_loss`, ...) one number per epoch.

    Raises:
        ValueError: data that do not go together or with the model, empty or not finite; labels, or
            numbers that go into an `Embedding`, out of range; samples that are shuffled, or do not fill
            the last batch, where a layer is `stateful`. Or checkpoints of other data or another
            configuration.
        FloatingPointError: the loss, the validation loss or a parameter became NaN or infinite. Its `state`
            and `history` are those of the last healthy epoch.

    Any other exception, Ctrl-C among them, leaves with the last whole state and the history as its attributes
    `state` and `history`.

    >>> import numpy as np, jlayers as jl
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.5), loss="mse")
    >>> state, history = jl.fit(trainer, x, 3 * x + 1, epochs=20)
    >>> history["loss"][-1] < 1e-3
    True
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"fit: expected what jl.compile(model, optimizer, loss) returns, received a "
            f"{type(trainer).__name__}; write jl.fit(trainer, x, y)"
        )
    check_process()
    epochs = whole_number("epochs", epochs, 0)
    seed = seed_number(seed)
    if steps_per_call != "auto":
        steps_per_call = whole_number("steps_per_call", steps_per_call, 1, " or 'auto'")
    for name, steps in (("steps_per_epoch", steps_per_epoch), ("validation_steps", validation_steps)):
        if steps is not None:
            whole_number(name, steps, 1)
    if not isinstance(shuffle, bool):
        raise refused(ValueError, "expected shuffle to be True or False", raised_by="fit", shuffle=shuffle)
    if state is not None and not isinstance(state, TrainState):
        raise TypeError(
            f"fit: expected the state that jl.fit returns, received state as a {type(state).__name__}; to "
            f"begin with given weights, write state=trainer.init(key, x, params=params, state=model_state)"
        )
    one = callable(callbacks) or isinstance(callbacks, (Callback, Checkpoint))
    given = [callbacks] if one else callbacks or ()
    kept = [value for value in given if isinstance(value, Checkpoint)]
    if len(kept) + (checkpoints is not None) > 1:
        raise ValueError("expected one place for checkpoints, received two: in callbacks and checkpoints")
    checkpoints = kept[0] if kept else checkpoints
    listeners = [as_callback(value) for value in given if value not in kept]
    checkpoint = None if checkpoints is None else as_checkpoint(checkpoints)
    parts, validation_data = split_validation(arrays(x, y, sample_weight), validation_data, validation_split)
    if (cache := as_feature_cache(cache_features)) is not None:
        trainer, state, parts, validation_data = _on_features(
            cache, trainer, state, parts, validation_data, batch_size or BATCH_SIZE, seed
        )
    parts = weighed(parts, class_weight)  # not before: no factor enters the validation loss
    data = source("x", x, parts, batch_size, steps_per_epoch, epochs, shuffle=shuffle, seed=seed)
    if class_weight is not None and parts is None:
        data = WeighedBatches(data, class_weight)
    if isinstance(trainer.model, Layer):
        check_named(data.first())
    for model in trainer.tasks.models:
        check_carried(model, data)
    validation = validation_source(validation_data, batch_size, validation_steps, epochs)
    again = state is None and step_for(listeners, trainer).compilations > 0
    stage = 0
    if state is None:
        first = lambda: trainer.init(jax.random.key(seed), data.first())  # noqa: E731
    else:
        stage = _stage_of(trainer, state)
        first = state.copy
    fresh = lambda: with_rate_factor(first(), listeners)  # noqa: E731
    live = fresh()
    fit = _Fit(trainer, stage, live, data, validation, listeners, steps_per_call)
    note = "begins anew: pass state= to go on with the weights of the last fit" if again else None
    if checkpoint is None:
        return fit.run(live, epochs, fresh, note)
    facts = identity(
        trainer,
        data,
        validation,
        listeners,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        steps_per_epoch=steps_per_epoch,
        validation_steps=validation_steps,
        class_weight=class_weight,
    )
    with Keeper(checkpoint, facts, fit.directions, data, listeners) as keeper:
        keeper.first_epoch, keeper.stage = int(live.epoch), stage
        resumed = keeper.resume(lambda stage: _start(trainer, stage, live, data, listeners))
        live = live if resumed is None else resumed.state
        return fit.run(live, epochs, fresh, None, keeper, resumed)


def _stage_of(trainer: Trainer, state: TrainState) -> int:
    """The stage of the trainer that a state belongs to; at the end of one, the next has not begun yet."""
    state.check_alive()
    epochs = int(state.epoch)
    stage = trainer.stage_of(epochs)
    if epochs and not trainer.stages[stage][1].takes(state):
        stage = trainer.stage_of(epochs - 1)
    trainer.stages[stage][1].check_state(state)
    return stage


def _start(
    trainer: Trainer, stage: int, state: TrainState, data: Batches, callbacks: Sequence[Callback]
) -> TrainState:
    """A state of the form that it has in a stage, accumulators included."""
    own = trainer.stages[stage][1]
    state = with_rate_factor(state if own.takes(state) else own.adopt(state), callbacks)
    return step_for(callbacks, own).prepare(state, data.first())


def _on_features(
    cache: FeatureCache,
    trainer: Trainer,
    state: TrainState | None,
    parts: Any,
    validation_data: Any,
    batch_size: int,
    seed: int,
) -> tuple[Trainer, TrainState, Any, Any]:
    """The trainer of the head, the state of the whole model, and features in the place of the samples."""
    if parts is None or not isinstance(validation_data, (tuple, type(None))):
        raise TypeError("fit: expected arrays to train and to validate on beside cache_features")
    x, y, weight = parts
    if state is None:
        state = trainer.init(jax.random.key(seed), map_arrays(lambda a: a[:batch_size], x), y)
    else:
        trainer.check_state(state)
    head, split = trainer_of_head(trainer, x)
    parts = (features_of(cache, split, state, x, batch_size), y, weight)
    if validation_data is not None:
        held_out, *others = arrays(*validation_data)  # type: ignore[misc]
        validation_data = (features_of(cache, split, state, held_out, batch_size), *others)
    return head, state, parts, validation_data


class _Fit:
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
        self.callbacks = callbacks
        self.whole, self.stage = trainer, stage
        trainer, step = self.trainer, self.step
        self.review, self.data = look_over(step.tasks, state, data)
        self.validation = validation
        if validation is not None:
            with noted("in the validation data"):
                self.val_review, self.validation = look_over(trainer.tasks, state, validation)
        self.callbacks = callbacks
        self.steps_per_call: StepsPerCall = steps_per_call
        self.directions = directions_of(
            trainer, step, state.params, state.state, data.first(), validation is not None
        )
        self.history: History = {key: [] for key in self.directions}
        self.waiting = Waiting()

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
        with interruptions(("SIGINT",) if keeper is None else ENDING) as interrupts:
            self.keeper, self.interrupts = keeper, interrupts
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
        start = int(state.epoch)
        self.end = start + epochs
        if resumed is not None:
            self.history = resumed.history
            fresh = HostCopy(state).back
            self.stage = keeper.stage if keeper is not None else self.stage
            start, self.end = int(state.epoch), resumed.first_epoch + epochs
            if resumed.stopped:
                self.end = start
            epochs = max(0, self.end - start)
        if epochs:
            self.runner = self._runner(state)
            self.looks = bool(self.runner.every or self.runner.at) or (keeper is not None and keeper.by_clock)
        self.validation_key: Any = None  # of a model that samples in inference, too
        self.healthy = fresh  # makes the last state that was found healthy
        self.state = state
        self.torn = False  # in the middle of what belongs together
        run = Run(
            start,
            epochs,
            self.data.steps,
            self.directions,
            note,
            self.waiting,
            self.trainer,
            rows=jax.tree.leaves(self.data.first())[0].shape[0],
            step=int(state.step),
            rate_factor=1.0 if state.rate_factor is None else float(state.rate_factor),
            resumed=resumed is not None,
        )
        del state  # the one live state is that of the runner
        for callback in self.callbacks:
            callback.check(run)
        for callback in self.callbacks:
            callback.on_fit_begin(run)
        if keeper is not None and resumed is not None:
            keeper.restore_callbacks(resumed.callbacks)
        try:
            for epoch in range(start, start + epochs):
                if (stage := self.whole.stage_of(epoch)) != self.stage:
                    with self._together():
                        self._go_to(stage)
                if self._epoch(epoch):
                    break
        except BaseException as error:
            state = self.healthy() if isinstance(error, FloatingPointError) else self._whole()
            if self._forgiven(error):
                return self._end(state), self.history
            vars(error).update(state=state, history=self.history)
            self._keep_last(state, error)
            self._end(state, failed=error)
            raise
        finally:
            for data in filter(None, (self.data, self.validation)):
                data.close()
        return self._end(self.state), self.history

    def _forgiven(self, error: BaseException) -> bool:
        """Tells each callback of the error; True if one takes a NaN as the end, after a healthy epoch."""
        forgiven = False
        for callback in self.callbacks:
            try:
                forgiven |= bool(callback.on_error(error))
            except BaseException as second:
                error.add_note(f"{type(callback).__name__}.on_error: {type(second).__name__}: {second}")
        return forgiven and isinstance(error, FloatingPointError) and bool(self.history["loss"])

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
        self.state = self.trainer.adopt(self._current(), keep_optimizer=True)
        self.runner = self._runner(self.state)
        self.healthy = HostCopy(self.state).back

    def _end(self, state: TrainState, failed: BaseException | None = None) -> TrainState:
        """Tells each callback of the end, whatever another one raises."""
        raised: BaseException | None = None
        for callback in self.callbacks:
            try:
                state = callback.on_fit_end(state) or state
            except BaseException as error:
                if first := failed or raised:
                    first.add_note(f"{type(callback).__name__}.on_fit_end: {type(error).__name__}: {error}")
                else:
                    raised = error
                    vars(error).update(state=state, history=self.history)
        if raised is not None:
            raise raised
        if failed is None:
            for callback in self.callbacks:
                state = callback.to_keep(state)
        return state

    def _keep_last(self, state: TrainState, error: BaseException) -> None:
        """Makes a checkpoint of a run that ends before its time, if all its parts are of one moment."""
        if self.keeper is None or self.torn or state.flat is not self.runner.flat:
            return
        try:
            self.keeper.save(state, self.history)
        except Exception as second:
            error.add_note(f"no checkpoint was made of where it ended: {second}")

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """A block that an interruption waits for. Within, some callbacks know more than others."""
        self.torn = True
        with self.interrupts.held():
            yield
            self.torn = False

    def _whole(self) -> TrainState:
        """The last state that a step has handed over."""
        state = self._current()
        try:
            state.check_alive()
        except RuntimeError:
            return self.healthy()
        return state

    def _current(self) -> TrainState:
        """A view of the one live state."""
        runner = getattr(self, "runner", None)
        return self.state if runner is None else self.state.replace(flat=runner.flat)

    def _view(self) -> TrainState:
        """The same with dicts of its own, for a callback."""
        flat = self._current().flat
        return self.state.replace(flat=Flat(flat.form, flat.leaves))

    def _epoch(self, epoch: int) -> bool:
        """Trains for an epoch; True if a callback wants to stop."""
        with self._together():
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
        state = self._current()
        ended = runner.program.end(state, self.review)
        if epoch + 1 < self.end and self.whole.stage_of(epoch + 1) == self.stage:
            runner.look_ahead(self.data, epoch + 1)
        values = watch.finish(ended)
        self.waiting.passed += time.perf_counter() - begun
        validation = self._validate(state, watch)
        with self._together():
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
        state = self._current()
        place = {"epoch": ended.epoch, "epoch_start": ended.epoch_start}
        self.state = state.replace(metrics=ended.metrics, **place)
        runner.flat = self.state.flat
        kept, before = HostCopy(self.state), self.state
        self.healthy = kept.back
        for key, value in values.items():
            self.history.setdefault(key, []).append(value)
        stops |= self._ask(self.callbacks, "on_epoch_end", epoch, values.copy, self._view)
        last = stops or epoch + 1 == self.end
        if keeper is not None and (last or keeper.due_at_epoch(epoch + 1, runner.step, self.history)):
            same = kept if self.state is before else None  # no callback has changed it
            keeper.save(self.state, self.history, logs=values, stopped=stops, kept=same)
        return stops

    def _ask(self, callbacks: Sequence[Callback], event: str, *arguments: Any) -> bool:
        """Tells callbacks of an event, each with logs of its own and with what those before it have changed.

        True to stop. An argument may be a function that makes it anew for each.
        """
        stops = False
        for callback in callbacks:
            answer = getattr(callback, event)(*(a() if callable(a) else a for a in arguments))
            change = answer if isinstance(answer, Change) else Change(stop=bool(answer))
            stops |= change.stop
            if change.rate_factor is not None:
                self._set_rate_factor(callback, change.rate_factor)
        return stops

    def _set_rate_factor(self, callback: Callback, factor: float) -> None:
        state, name = self._current(), type(callback).__name__
        if not callback.changes_rate or state.rate_factor is None:
            raise TypeError(
                f"{name} changes the learning rate, which must be known beforehand: write changes_rate = "
                f"True in the class"
            )
        if not 0 <= factor < math.inf:
            raise ValueError(f"{name}: expected a finite rate_factor of at least 0, received {factor}")
        self.state = state.replace(rate_factor=jax.device_put(np.float32(factor), state.rate_factor.sharding))
        self.runner.flat = self.state.flat

    def _looked_at(self, watch: Watch, done: int) -> bool:
        """Between two dispatches, whoever asked for this step; True if a callback wants to stop."""
        step, keeper = self.runner.step, self.keeper
        listeners = self._listeners_at(step)
        # The last step of an epoch has its checkpoint when the epoch is over.
        keeps = keeper is not None and keeper.due_at_step(step) and not self._is_last(done)
        if not (listeners or keeps):
            return False
        values = watch.read_all()
        with self._together():
            stops = self._ask(listeners, "on_step", step, values.copy, self._view)
            if stops:
                self.state = self._current()
            if keeper is not None and (keeps or stops):
                keeper.save(self._current(), self.history, stopped=stops)
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
            raise watch.failed(f"the validation loss became {values['val_loss']}", watch.last, LARGE)
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
