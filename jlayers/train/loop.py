"""`fit`, `evaluate` and `predict`: thin loops over the compiled steps. They own no mathematics.

Metrics are added up on the device; the host reads them at the end of an epoch, and now and then those that
are ready anyway, so that it never waits for a step.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jlayers.core.layer import Layer
from jlayers.data.batches import ArrayBatches
from jlayers.data.gate import check_finite, check_width
from jlayers.train.callbacks import Callback, Run
from jlayers.train.calls import Calls, StepsPerCall, call_of
from jlayers.train.checks import as_arrays, check_carried, whole_number
from jlayers.train.ids import check_ids, lookups
from jlayers.train.scaling import FLOOR
from jlayers.train.sources import (
    Review,
    Source,
    arrays,
    hold_out,
    length,
    look_over,
    refuse_generator,
    source,
    validation_source,
    weighed,
)
from jlayers.train.state import TrainState, copied
from jlayers.train.step import make_predict_step
from jlayers.train.trainer import Trainer

__all__ = ["evaluate", "fit", "predict"]

History = dict[str, list[float]]

_HALF = (
    "compute in bfloat16 (precision 'mixed_bfloat16'), keep the layers that overflow in float32 by their "
    "paths, or lower the learning rate"
)


def fit(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    validation_data: Any = None,
    validation_split: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | Sequence[float] | str | None = None,
    callbacks: Sequence[Any] = (),
    state: TrainState | None = None,
    steps_per_call: StepsPerCall = "auto",
) -> tuple[TrainState, History]:
    """Train for some epochs. Silent; add `jl.ProgressBar()` to the callbacks to watch.

    The same seed gives the same bits. Epochs go on counting in the state, so that two fits of two epochs, the
    state passed on, are one fit of four.

    Args:
        trainer: what `jl.compile` returns.
        x: an array with the samples first, a tuple of arrays for several inputs, a dict for named ones; or,
            without `y`, an iterable of batches `(x, y)` or `(x, y, sample_weight)`.
        y: the targets, in the structure of the model's outputs.
        batch_size: samples per step. The last batch of an epoch is filled up and masked.
        epochs: how many more epochs to train.
        validation_data: `(x, y)`, `(x, y, sample_weight)`, or an iterable of batches.
        validation_split: share of the samples, the last ones, before shuffling, to validate on.
        shuffle: a new order in every epoch, which follows from `seed` and the epoch alone.
        seed: of the weights, of dropout and of the order.
        sample_weight: factors of the samples' losses.
        class_weight: factors by class number, as a mapping or a list, or "balanced" for factors that give
            each class the same share, as scikit-learn counts. Validation data are not weighed.
        callbacks: see `jl.Callback`.
        state: to go on from; it is left untouched.
        steps_per_call: steps in one dispatch (Keras: `steps_per_execution`), which small models gain from:
            what they learn is the same, bit for bit, and progress and bad losses are seen once per call.
            "auto" is 1 for batches from an iterable, for large steps, and on a CPU for steps with a
            convolution; else as many as pay. See `jlayers.train.calls`.

    Returns:
        The state, and the history: by name (`loss`, `accuracy`, `val_loss`, ...) one number per epoch.

    Raises:
        ValueError: data that do not go together or with the model, empty or not finite; labels, or
            numbers that go into an `Embedding`, out of range; samples that are shuffled, or do not fill
            the last batch, where a layer is `stateful`.
        FloatingPointError: the loss became NaN or infinite. Its `state` and `history` are those of the last
            healthy epoch.

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
    epochs = whole_number("epochs", epochs, 0)
    seed = whole_number("seed", seed, 0)
    if steps_per_call != "auto":
        steps_per_call = whole_number("steps_per_call", steps_per_call, 1, " or 'auto'")
    parts, validation_data = hold_out(arrays(x, y, sample_weight), validation_data, validation_split)
    parts = weighed(parts, class_weight)  # not before: no factor enters the validation loss
    data = source(x, parts, batch_size, shuffle, seed)
    refuse_generator("x", data, epochs)
    if isinstance(data, ArrayBatches):
        check_carried(trainer.model, data)
    validation = validation_source(validation_data, batch_size, epochs)
    if state is None:
        state = trainer.init(jax.random.key(seed), data.first().x)
    else:
        trainer.check_state(state)
    return _Fit(trainer, state, data, validation, callbacks, steps_per_call).run(state, epochs)


class _Fit:
    """One call of `fit`, after the checks."""

    def __init__(
        self,
        trainer: Trainer,
        state: TrainState,
        data: Source,
        validation: Source | None,
        callbacks: Sequence[Any],
        steps_per_call: StepsPerCall,
    ):
        self.trainer = trainer
        self.data = data
        self.validation = validation
        self.review = look_over(trainer, state, data)
        self.validation_review = None if validation is None else look_over(trainer, state, validation)
        self.callbacks = [_callback(c) for c in callbacks]
        self.steps_per_call: StepsPerCall = steps_per_call
        self.history: History = {}
        self.begun: Calls | None = None  # the next epoch's, if its data are at hand

    def run(self, state: TrainState, epochs: int) -> tuple[TrainState, History]:
        start = int(state.epoch)
        self.end = start + epochs
        if epochs:
            self.call = call_of(self.steps_per_call, self.trainer.train_step, state, self.data)
        self.history = {key: [] for key in self._directions()}
        run = Run(start, epochs, length(self.data), self._directions())
        for callback in self.callbacks:
            callback.on_fit_begin(run)
        try:
            for epoch in range(start, self.end):
                state, logs = self._epoch(state, epoch, first=epoch == start)
                for key, value in logs.items():
                    self.history[key].append(value)
                stops = [callback.on_epoch_end(epoch, logs, state) for callback in self.callbacks]
                if any(stops):
                    break
        finally:
            for callback in self.callbacks:
                state = callback.on_fit_end(state) or state
        return state, self.history

    def _directions(self) -> dict[str, str]:
        own = self.review.plan.directions
        return own | ({f"val_{k}": v for k, v in own.items()} if self.validation is not None else {})

    def _epoch(self, state: TrainState, epoch: int, first: bool) -> tuple[TrainState, dict[str, float]]:
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch)
        done = int(state.position) if first else 0
        watch = _Watch(self, state, epoch, done)
        calls = self.begun or self._begin(state, epoch, done, first)
        count = done
        for steps in calls:
            count += steps
            if time.monotonic() >= watch.due:
                watch.look(count, self._logs(calls.state))
        if count == done:
            raise ValueError(f"the iterable has no batches after the first {done}, where the state stands")
        running = calls.state
        state, logs = running.at_next_epoch(), self._logs(running)
        ahead = epoch + 1 < self.end and isinstance(self.data, ArrayBatches)
        self.begun = self._begin(state, epoch + 1).ahead() if ahead else None  # before the host waits
        values = watch.read(count, logs)
        watch.need_a_batch(running, count)
        if self.validation is not None:
            review = self.validation_review if first else None
            held_out = _evaluate(self.trainer, state, self.validation, review, self.call.looped)
            values |= {f"val_{key}": value for key, value in held_out.items()}
        return state, {key: values[key] for key in self.history}

    def _logs(self, state: TrainState) -> dict[str, jax.Array]:
        """From one program however many steps a call makes, so that the same state gives the same bits."""
        return self.trainer.train_step.logs(state, self.review.plan)

    def _begin(self, state: TrainState, epoch: int, done: int = 0, first: bool = False) -> Calls:
        """The calls of an epoch, of which none is made yet."""
        running = copied(state if done else state.replace(metrics={}))
        check = self.review.checked if first and self.review.streamed else None
        return self.call.epoch(running, self.data, epoch, done, check)


class _Watch:
    """Reads results that the device has finished, a few times per second, and never waits for one."""

    PERIOD = 0.1  # seconds

    def __init__(self, fit: _Fit, state: TrainState, epoch: int, done: int):
        self.fit = fit
        self.state = state
        self.epoch = epoch
        self.due = time.monotonic() + self.PERIOD
        self.healthy = done
        self.pending: tuple[int, Mapping[str, Any]] | None = None
        self.latest: dict[str, float] = {}

    def look(self, step: int, logs: Mapping[str, Any]) -> None:
        if self.pending is None:
            self.pending = (step, logs)
        if all(value.is_ready() for value in self.pending[1].values()):
            values = self.read(*self.pending)
            self.latest = {key: values[key] for key in self.fit.review.plan.keys}
            self.pending = None
        for callback in self.fit.callbacks:
            callback.on_progress(self.epoch, step, self.latest)
        self.due = time.monotonic() + self.PERIOD

    def read(self, step: int, logs: Mapping[str, Any]) -> dict[str, float]:
        values = read(logs)
        if not math.isfinite(values["loss"]):
            raise self.failed(
                f"the loss became {values['loss']}",
                step,
                "lower the learning rate, clip the gradients (clip_by_global_norm), or look for extreme "
                "values in the data",
            )
        if values.get("loss_scale", FLOOR) < FLOOR:
            raise self.failed(f"gradients overflowed float16 even at a loss scale of {FLOOR:g}", step, _HALF)
        self.healthy = step
        return values

    def need_a_batch(self, state: TrainState, step: int) -> None:
        """Under a dynamic loss scale a batch of infinite loss counts in no metric; not all may be such."""
        if state.loss_scale is not None and not state.metrics["loss"]["count"] > 0:
            raise self.failed("the loss was not finite in any batch", step, _HALF)

    def failed(self, what: str, step: int, fix: str) -> FloatingPointError:
        place = f"in epoch {self.epoch + 1}, between its steps {self.healthy + 1} and {step}"
        error = FloatingPointError(f"{what} {place}; {fix}")
        error.state, error.history = self.state, self.fit.history  # type: ignore[attr-defined]
        return error


def _callback(value: Any) -> Callback:
    if isinstance(value, Callback):
        return value
    if isinstance(value, type) or not callable(value):
        raise TypeError(
            f"expected a jl.Callback or a function f(epoch, logs, state), received {value!r}"
            + ("; call it first" if isinstance(value, type) else "")
        )
    made = Callback()
    made.on_epoch_end = value  # type: ignore[method-assign]
    return made


def evaluate(
    trainer: Trainer,
    state: Any,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    sample_weight: Any = None,
) -> dict[str, float]:
    """The loss and the metrics over all samples, in inference mode.

    Args:
        trainer: what `jl.compile` returns.
        state: what `fit` returns, or a pair `(params, model_state)`.
        x: as in `fit`.
        y: as in `fit`.
        batch_size: samples per step; the result does not depend on it.
        sample_weight: factors of the samples' losses.

    Raises:
        ValueError: as `fit` does.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((5, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1, kernel_initializer="ones"), loss="mse", metrics=["mae"])
    >>> state, _ = jl.fit(trainer, x, x[:, :1], epochs=0)
    >>> jl.evaluate(trainer, state, x, x[:, :1], batch_size=2)
    {'loss': 1.0, 'mae': 1.0}
    """
    data = source(x, arrays(x, y, sample_weight), batch_size)
    state = _weights(state)
    review = look_over(trainer, state, data)
    logs = _evaluate(trainer, state, data, review)
    return {key: logs[key] for key in review.plan.keys}


def _evaluate(
    trainer: Trainer, state: Any, data: Source, review: Review | None, steps: int = 1
) -> dict[str, float]:
    step, accumulators, logs = trainer.eval_step, None, {}
    if isinstance(data, ArrayBatches) and min(steps, len(data)) > 1:
        for batches, count in data.blocks(min(steps, len(data))):
            accumulators, logs = step.run(state.params, state.state, accumulators, batches, count)
        return read(logs)
    for batch in review.checked(data.epoch()) if review else data.epoch():
        accumulators, logs = step(state.params, state.state, accumulators, batch)
    return read(logs)


class _Weights(NamedTuple):
    params: Any
    state: Any


def _weights(state: Any) -> TrainState | _Weights:
    """What a forward pass needs, from a state or from a pair."""
    return state if isinstance(state, TrainState) else _Weights(*state)


def read(logs: Mapping[str, Any]) -> dict[str, float]:
    """Logs on the host."""
    return {key: float(value) for key, value in jax.device_get(dict(logs)).items()}


_predict_step = functools.lru_cache(maxsize=8)(make_predict_step)


def predict(trainer: Trainer | Layer, state: Any, x: Any, *, batch_size: int = 32) -> Any:
    """The model's outputs for all samples, in inference mode, as NumPy arrays.

    Args:
        trainer: what `jl.compile` returns, or a model.
        state: what `fit` returns, or a pair `(params, model_state)`.
        x: an array, or a tuple or dict of arrays.
        batch_size: samples per step; the result does not depend on it.

    Returns:
        NumPy arrays in the structure of the model's outputs.

    Raises:
        ValueError: data that are not finite, or numbers outside of an embedding's table.

    >>> import jax, numpy as np, jlayers as jl
    >>> model = jl.Dense(3)
    >>> jl.predict(model, model.init(jax.random.key(0), (1, 2)), np.ones((5, 2), np.float32)).shape
    (5, 3)
    """
    step = trainer.predict_step if isinstance(trainer, Trainer) else _predict_step(trainer)
    weights = _weights(state)
    x = as_arrays("x", x)
    check_width(x=x)
    check_finite(x=x)
    data = ArrayBatches(x, batch_size=batch_size)
    model = trainer.model if isinstance(trainer, Trainer) else trainer
    check_ids(lookups(model, weights.params, weights.state, data.first().x), x)
    outputs: list[Any] = []
    for batch in data.epoch():
        outputs.append(step(weights.params, weights.state, batch.x))
        if len(outputs) > 1:  # one step behind, so that the device has work while the host copies
            outputs[-2] = jax.device_get(outputs[-2])
    outputs[-1] = jax.device_get(outputs[-1])
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: data.rows], *outputs)
