"""`fit`, `evaluate` and `predict`: thin loops over the compiled steps. They own no mathematics.

What is launched on the device follows from the number of the step, never from the clock, so that several
processes launch the same programs. Each dispatch gives the logs so far; the host reads those that are ready.
"""

from __future__ import annotations

import collections
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jlayers.core.layer import Layer
from jlayers.data.batches import ArrayBatches, Batches
from jlayers.data.gate import check_finite, check_width
from jlayers.metrics.totals import value_of
from jlayers.train.callbacks import Callback, Run, as_callback
from jlayers.train.checkpoint import Checkpoint, Keeper, Resumed, as_checkpoint, identity
from jlayers.train.checks import as_arrays, check_carried, seed_number, whole_number
from jlayers.train.feed import Runner, StepsPerCall, calls_for
from jlayers.train.ids import check_ids
from jlayers.train.scaling import FLOOR, finite
from jlayers.train.sources import BATCH_SIZE, arrays, hold_out, look_over, source, validation_source, weighed
from jlayers.train.state import HostCopy, TrainState
from jlayers.train.step import EvalStep, PredictStep
from jlayers.train.tasks import Review
from jlayers.train.trainer import Trainer

__all__ = ["evaluate", "fit", "predict"]

History = dict[str, list[float]]

_HALF = (
    "compute in bfloat16 (precision 'mixed_bfloat16'), keep the layers that overflow in float32 by their "
    "paths, or lower the learning rate"
)
_LARGE = (
    "look in the data for extreme values and for numbers outside of an embedding's table, lower the learning "
    "rate, or clip the gradients (clip_by_global_norm)"
)


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
) -> tuple[TrainState, History]:
    """Train for some epochs. Silent; add `jl.ProgressBar()` to the callbacks to watch.

    The same seed gives the same bits. Epochs go on counting in the state, so that two fits of two epochs, the
    state passed on, are one fit of four.

    Args:
        trainer: what `jl.compile` returns.
        x: an array with the samples first, a tuple of arrays for several inputs, a dict for named ones; or,
            without `y`, an iterable of batches `(x, y)` or `(x, y, sample_weight)`: a list, a generator, a
            PyTorch `DataLoader`, anything with `__iter__` or with `__getitem__` and `__len__`.
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
            each class the same share, as scikit-learn counts. Validation data are not weighed.
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
            f"fit: expected what jl.compile(model, optimizer, loss) returns, received {trainer!r}"
        )
    _check_process()
    epochs = whole_number("epochs", epochs, 0)
    seed = seed_number(seed)
    if steps_per_call != "auto":
        steps_per_call = whole_number("steps_per_call", steps_per_call, 1, " or 'auto'")
    for name, steps in (("steps_per_epoch", steps_per_epoch), ("validation_steps", validation_steps)):
        if steps is not None:
            whole_number(name, steps, 1)
    listeners = [as_callback(value) for value in callbacks or ()]
    checkpoint = None if checkpoints is None else as_checkpoint(checkpoints)
    parts, validation_data = hold_out(arrays(x, y, sample_weight), validation_data, validation_split)
    parts = weighed(parts, class_weight)  # not before: no factor enters the validation loss
    data = source("x", x, parts, batch_size, steps_per_epoch, epochs, shuffle=shuffle, seed=seed)
    for model in trainer.tasks.models:
        check_carried(model, data)
    validation = validation_source(validation_data, batch_size, validation_steps, epochs)
    again = state is None and trainer.train_step.compilations > 0
    if state is None:
        fresh = lambda: trainer.init(jax.random.key(seed), data.first())  # noqa: E731
        live = fresh()
    else:
        trainer.check_state(state)
        fresh, live = state.copy, state.copy()
    fit = _Fit(trainer, live, data, validation, listeners, steps_per_call)
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
        resumed = keeper.resume(trainer.train_step.prepare(live, data.first()))
        live = live if resumed is None else resumed.state
        return fit.run(live, epochs, fresh, None, keeper, resumed)


class _Fit:
    """One call of `fit`, after the checks."""

    def __init__(
        self,
        trainer: Trainer,
        state: TrainState,
        data: Batches,
        validation: Batches | None,
        callbacks: Sequence[Callback],
        steps_per_call: StepsPerCall,
    ):
        self.trainer = trainer
        self.review, self.data = look_over(trainer.tasks, state, data)
        self.validation = validation
        if validation is not None:
            try:
                _, self.validation = look_over(trainer.tasks, state, validation)
            except (ValueError, TypeError, KeyError) as error:
                error.add_note("in the validation data")
                raise
        self.callbacks = callbacks
        self.steps_per_call: StepsPerCall = steps_per_call
        self.history: History = {key: [] for key in self.directions}

    @property
    def directions(self) -> dict[str, str]:
        own = dict(self.review.directions)
        if self.validation is None:
            return own
        prefixes = ["val_"] if self.trainer.ema is None else ["val_", "val_ema_"]
        return own | {f"{prefix}{key}": way for prefix in prefixes for key, way in own.items()}

    def run(
        self,
        state: TrainState,
        epochs: int,
        fresh: Callable[[], TrainState],
        note: str | None,
        keeper: Keeper | None = None,
        resumed: Resumed | None = None,
    ) -> tuple[TrainState, History]:
        self.keeper = keeper
        start = int(state.epoch)
        self.end = start + epochs
        if resumed is not None:
            self.history = resumed.history
            fresh = HostCopy(state).back
            start, self.end = int(state.epoch), resumed.first_epoch + epochs
            if resumed.stopped:
                self.end = start
            epochs = max(0, self.end - start)
        step = self.trainer.train_step
        if epochs:
            calls = calls_for(self.steps_per_call, step, state, self.data)
            every = [callback.every for callback in self.callbacks if callback.every]
            every += [] if keeper is None else keeper.every
            self.runner = Runner(step, state, calls, every)
        self.healthy = fresh  # makes the last state that was found healthy
        self.state = state
        run = Run(start, epochs, self.data.steps, self.directions, note)
        del state  # the one live state is that of the runner
        for callback in self.callbacks:
            callback.on_fit_begin(run)
        if keeper is not None and resumed is not None:
            keeper.restore_callbacks(resumed.callbacks)
        try:
            for epoch in range(start, start + epochs):
                with self.runner.interrupts.watched():
                    stops = self._epoch(epoch)
                if stops:
                    break
        except BaseException as error:
            state = self.healthy() if isinstance(error, FloatingPointError) else self._whole()
            vars(error).update(state=state, history=self.history)
            self._end(state, failed=error)
            raise
        return self._end(self.state), self.history

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
        return state

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
        return self.state if runner is None else self.state.replace(live=runner.live)

    def _epoch(self, epoch: int) -> bool:
        """Trains for an epoch; True if a callback wants to stop."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch)
        runner = self.runner
        done = runner.step - int(self.state.epoch_start)
        watch = _Watch(self, epoch, done)
        logs = None
        for logs in runner.epoch(self.data, epoch, done):
            watch.add(runner.step - watch.first, logs)
            if runner.every and self._looked_at(watch):
                return True
        if logs is None:  # the state stands at the end of an epoch, or behind it
            if done == 0 or (self.data.steps is not None and done != self.data.steps):
                raise ValueError(f"the data have no batches after the first {done}, where the state stands")
            watch.add(done, runner.program.logs(self._current(), self.review))
        if epoch + 1 < self.end:
            runner.look_ahead(self.data, epoch + 1)
        values = watch.read_all()
        state = self._current()
        watch.check_health(state, values)
        values |= self._validate(state, watch)
        zeros = self.trainer.tasks.accumulators(state.params, state.state, self.review.batch)
        runner.live = runner.live._replace(metrics=zeros)
        place = jax.device_put((np.int32(epoch + 1), np.int32(runner.step)))
        self.state = self.state.replace(live=runner.live, epoch=place[0], epoch_start=place[1])
        kept = HostCopy(self.state)
        self.healthy = kept.back
        for key, value in values.items():
            self.history.setdefault(key, []).append(value)
        stops = [callback.on_epoch_end(epoch, values, self.state) for callback in self.callbacks]
        keeper, last = self.keeper, any(stops) or epoch + 1 == self.end
        if keeper is not None and (last or keeper.due_at_epoch(epoch + 1, runner.step)):
            keeper.save(self.state, self.history, logs=values, stopped=any(stops))
        return any(stops)

    def _looked_at(self, watch: _Watch) -> bool:
        """Between two dispatches, whoever asked for this step; True if a callback wants to stop."""
        step, keeper = self.runner.step, self.keeper
        listeners = self._listeners_at(step)
        # The last step of an epoch has its checkpoint when the epoch is over.
        keeps = keeper is not None and keeper.due_at_step(step) and step - watch.first != self.data.steps
        if not (listeners or keeps):
            return False
        values = watch.read_all()
        state = self._current()
        stops = [callback.on_step(step, values, state) for callback in listeners]
        if any(stops):
            self.state = state
        if keeper is not None and (keeps or any(stops)):
            keeper.save(state, self.history, stopped=any(stops))
        return any(stops)

    def _listeners_at(self, step: int) -> list[Callback]:
        return [c for c in self.callbacks if c.every and step % c.every == 0]

    def _validate(self, state: TrainState, watch: _Watch) -> dict[str, float]:
        if self.validation is None:
            return {}
        step, calls = self.trainer.eval_step, self.runner.calls
        together = calls.steps if calls.looped else 1
        values: dict[str, float] = {}
        weights = {"val_": state.to_evaluate()}
        if state.average is not None:
            weights["val_ema_"] = state.averaged()
        for prefix, one in weights.items():
            logs = _evaluate(step, one, self.review, self.validation, together)
            values |= {f"{prefix}{key}": value for key, value in logs.items()}
        if not math.isfinite(values["val_loss"]):
            raise watch.failed(f"the validation loss became {values['val_loss']}", watch.last, _LARGE)
        return values


class _Watch:
    """Reads logs that the device has finished, and never makes it do anything."""

    PERIOD = 0.1  # seconds between two looks
    MARKS = 64  # dispatches whose logs are kept until the device has finished them

    def __init__(self, fit: _Fit, epoch: int, done: int):
        self.fit = fit
        self.epoch = epoch
        self.first = fit.runner.step - done
        self.due = time.monotonic() + self.PERIOD
        self.healthy = self.last = done  # steps of the epoch that are known to be good, and dispatched
        self.pending: collections.deque[tuple[int, Mapping[str, Any]]] = collections.deque()
        self.newest: tuple[int, Mapping[str, Any]] | None = None
        self.count, self.stride = 0, 1
        self.latest: dict[str, float] = {}

    def add(self, step: int, logs: Mapping[str, Any]) -> None:
        """`step` batches of the epoch are dispatched; these are the logs that they will have."""
        self.last = step
        self.newest = (step, logs)
        self.count += 1
        if self.count % self.stride == 0:
            self.pending.append(self.newest)
            if len(self.pending) > self.MARKS:  # small steps: mark fewer of them, and wait for the oldest
                jax.block_until_ready(self.pending[0][1])
                self.stride *= 2
                self.pending = collections.deque(list(self.pending)[1::2])
        if time.monotonic() >= self.due:
            self._look()

    def _look(self) -> None:
        ready = None
        while self.pending and all(value.is_ready() for value in self.pending[0][1].values()):
            ready = self.pending.popleft()
        if ready is not None:
            self._read(*ready)
        for callback in self.fit.callbacks:
            callback.on_progress(self.epoch, self.healthy, self.latest)
        self.due = time.monotonic() + self.PERIOD

    def read_all(self) -> dict[str, float]:
        """Waits for the device, and gives the newest logs."""
        self.pending.clear()
        if self.newest is not None:
            newest, self.newest = self.newest, None
            self._read(*newest)
        return dict(self.latest)

    def _read(self, step: int, logs: Mapping[str, Any]) -> None:
        values = read(logs, self.fit.review)
        if not math.isfinite(values["loss"]):
            raise self.failed(f"the loss became {values['loss']}", step, _LARGE)
        if values.pop("loss_scale", FLOOR) < FLOOR:
            raise self.failed(f"gradients overflowed float16 even at a loss scale of {FLOOR:g}", step, _HALF)
        self.healthy, self.latest = step, values

    def check_health(self, state: TrainState, values: Mapping[str, float]) -> None:
        """Under a dynamic loss scale a batch of infinite loss counts in no metric; not all may be such."""
        if state.loss_scale is not None:
            counts = [value_of(means)[:, 1].sum() for means in _means(state.metrics)]
            if not any(float(count) > 0 for count in counts):
                raise self.failed("the loss was not finite in any batch", self.last, _HALF)
        if not bool(_finite((state.params, state.state))):
            raise self.failed("parameters became NaN or infinite", self.last, _LARGE)

    def failed(self, what: str, step: int, fix: str) -> FloatingPointError:
        first = min(self.healthy + 1, step)
        steps = f"in step {step}" if first == step else f"between its steps {first} and {step}"
        return FloatingPointError(f"{what} in epoch {self.epoch + 1}, {steps}; {fix}")


_finite = jax.jit(finite)


def _means(metrics: Any) -> list[Any]:
    return [metrics["means"]] if "means" in metrics else [own["means"] for own in metrics.values()]


def evaluate(
    trainer: Trainer,
    state: Any,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    sample_weight: Any = None,
    steps: int | None = None,
    key: Any = None,
) -> dict[str, float]:
    """The loss and the metrics over all samples, in inference mode.

    Args:
        trainer: what `jl.compile` returns.
        state: what `fit` returns, or a pair `(params, model_state)`.
        x: as in `fit`.
        y: as in `fit`.
        batch_size: samples per step, 32 if not given; the result does not depend on it.
        sample_weight: factors of the samples' losses.
        steps: batches to take of an iterable; all if not given.
        key: for layers that draw in inference mode, too; tasks are given one that is always the same.

    Raises:
        ValueError: as `fit` does.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((5, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1, kernel_initializer="ones"), loss="mse", metrics=["mae"])
    >>> state, _ = jl.fit(trainer, x, x[:, :1], epochs=0)
    >>> jl.evaluate(trainer, state, x, x[:, :1], batch_size=2)
    {'loss': 1.0, 'mae': 1.0}
    """
    _check_process()
    if not isinstance(trainer, Trainer):
        raise TypeError(f"evaluate: expected what jl.compile returns, received {trainer!r}")
    data = source("x", x, arrays(x, y, sample_weight), batch_size, steps)
    weights = _weights(state)
    review, data = look_over(trainer.tasks, weights, data)
    return _evaluate(trainer.eval_step, weights, review, data, 1, key)


def _evaluate(
    step: EvalStep, weights: Any, review: Review, data: Batches, together: int = 1, key: Any = None
) -> dict[str, float]:
    accumulators, logs = None, {}
    params, state = weights.params, weights.state
    if key is None and any(update.task.always_draws for update in step.tasks.updates):
        key = jax.random.key(0)
    if together > 1 and key is None:
        for batches, count in data.blocks(together):
            accumulators, logs = step.run(params, state, accumulators, batches, count)
        return read(logs, review)
    for number, batch in enumerate(data.epoch()):
        own = None if key is None else jax.random.fold_in(key, number)
        accumulators, logs = step(params, state, accumulators, batch, own)
    return read(logs, review)


class _Weights(NamedTuple):
    params: Any
    state: Any


def _weights(state: Any) -> TrainState | _Weights:
    """What a forward pass needs, from a state or from a pair."""
    if isinstance(state, TrainState):
        state.check_alive()
        return state.to_evaluate()
    if not isinstance(state, tuple) or len(state) != 2:
        raise TypeError(
            f"expected the state that jl.fit returns, or a pair (params, model_state), as the second "
            f"argument, received {type(state).__name__}; the data come after it"
        )
    return _Weights(*state)


def read(logs: Mapping[str, Any], review: Review) -> dict[str, float]:
    """Logs on the host, in their order."""
    values = jax.device_get(dict(logs))
    return {key: float(values[key]) for key in [*review.directions, "loss_scale"] if key in values}


def predict(
    trainer: Trainer | Layer,
    state: Any,
    x: Any,
    *,
    batch_size: int | None = None,
    key: Any = None,
    train: bool = False,
) -> Any:
    """The model's outputs for all samples, in inference mode, as NumPy arrays.

    Batches are filled up to a few sizes, so that few programs are compiled: rows must not depend on each
    other, as they do not in inference mode.

    Args:
        trainer: what `jl.compile` returns, or a model.
        state: what `fit` returns, or a pair `(params, model_state)`.
        x: an array, or a tuple or dict of arrays; or an iterable of batches, whose targets are left out.
        batch_size: samples per step, 32 if not given; the result does not depend on it.
        key: for layers that draw in inference mode, too.
        train: run the model as in training, with `key`: Monte-Carlo dropout. No state moves.

    Returns:
        NumPy arrays in the structure of the model's outputs.

    Raises:
        ValueError: data that are not finite, or numbers outside of an embedding's table.

    >>> import jax, numpy as np, jlayers as jl
    >>> model = jl.Dense(3)
    >>> jl.predict(model, model.init(jax.random.key(0), (1, 2)), np.ones((5, 2), np.float32)).shape
    (5, 3)
    """
    _check_process()
    step = trainer.predict_step if isinstance(trainer, Trainer) else _predict_step(trainer)
    weights = _weights(state)
    stream = not isinstance(x, (dict, list, tuple)) and not hasattr(x, "__array__")
    if stream:
        data: Batches = source("x", x, None, batch_size)
    else:
        x = as_arrays("x", x)
        check_width(x=x)
        data = ArrayBatches(x, batch_size=BATCH_SIZE if batch_size is None else batch_size)
        check_finite(x=x)
        check_ids(step.lookups(weights.params, weights.state, data.first().x, key), x)
    outputs: list[Any] = []
    most = BATCH_SIZE if batch_size is None else batch_size
    for number, batch in enumerate(data.epoch()):
        if stream:
            check_finite(x=batch.x)
            check_ids(step.lookups(weights.params, weights.state, batch.x, key), batch.x)
        rows = jax.tree.leaves(batch.x)[0].shape[0]
        size = max(rows, most if number else min(most, 1 << (rows - 1).bit_length()))
        own = None if key is None else jax.random.fold_in(key, number)
        made = step(weights.params, weights.state, _filled(batch.x, rows, size), own, train)
        outputs.append((made, rows))
        if len(outputs) > 1:  # one step behind, so that the device has work while the host copies
            outputs[-2] = _on_host(*outputs[-2])
    outputs[-1] = _on_host(*outputs[-1])
    return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


def _filled(x: Any, rows: int, size: int) -> Any:
    """The input with `size` rows: its own again from the first."""
    if rows == size:
        return x
    picked = np.resize(np.arange(rows), size)
    return jax.tree.map(lambda a: a[picked], x)


def _on_host(made: Any, rows: int) -> Any:
    return jax.tree.map(lambda a: a[:rows], jax.device_get(made))


def _predict_step(model: Any) -> PredictStep:
    """The compiled forward pass of a model; the model itself holds it, so that both go together."""
    if not isinstance(model, Layer):
        raise TypeError(f"predict: expected what jl.compile returns, or a model, received {model!r}")
    kept = vars(model)
    if "_predict_step" not in kept:
        kept["_predict_step"] = PredictStep(model)
    return kept["_predict_step"]


_process: list[int] = []  # in which JAX was first used from here


def _check_process() -> None:
    """Refuses to hang: JAX's threads are not in a process that was forked after JAX was used."""
    if not _process:
        _process.append(os.getpid())
    elif _process[0] != os.getpid():
        raise RuntimeError(
            "expected the process in which JAX was first used, received a fork of it, in which JAX hangs; "
            "start workers by multiprocessing.get_context('spawn')"
        )
