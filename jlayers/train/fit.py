"""`fit`: checks its arguments and prepares them for the loop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jlayers.core.calls import taught
from jlayers.core.errors import about, concerning, refused
from jlayers.core.layer import Layer
from jlayers.data.batches import Batches
from jlayers.train.callbacks import Callback, as_callback
from jlayers.train.checkpoint import Checkpoint, as_checkpoint
from jlayers.train.checks import check_carried, check_named, check_process, seed_number, whole_number
from jlayers.train.features import FeatureCache, as_feature_cache, on_features
from jlayers.train.feed import StepsPerCall
from jlayers.train.identity import identity
from jlayers.train.keeper import Keeper
from jlayers.train.listeners import step_for, with_rate_factor
from jlayers.train.loop import History, Loop
from jlayers.train.sources import (
    BATCH_SIZE,
    WeighedBatches,
    arrays,
    source,
    split_validation,
    validation_source,
    weighed,
)
from jlayers.train.state import TrainState
from jlayers.train.trainer import Trainer

__all__ = ["fit"]


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

    The same seed gives the same bits. The state counts the epochs, so two fits of two epochs, with the state
    passed on, equal one fit of four.

    Args:
        trainer: what `jl.compile` returns.
        x: an array with the samples first, a tuple of arrays for several inputs, a dict for named ones; a
            `jl.data.LazyArray` for data that memory does not hold. Or, without `y`, an iterable of batches
            `(x, y)` or `(x, y, sample_weight)`: a list, a generator, a PyTorch `DataLoader`, a Grain
            pipeline, anything with `__iter__` or with `__getitem__` and `__len__`. A thread makes them two
            batches in advance.
        y: the targets, in the structure of the model's outputs; those of outputs without a loss may be left
            out. A task may need none.
        batch_size: samples per step, 32 if not given. The last batch of an epoch has the samples that are
            left; the step is compiled once more for it.
        epochs: how many more epochs to train.
        validation_data: `(x, y)`, `(x, y, sample_weight)`, or an iterable of batches.
        validation_split: share of the samples to validate on: the last ones, before shuffling.
        steps_per_epoch: batches in an epoch; needed for iterables that never end. The next epoch continues
            where an iterable stands.
        validation_steps: batches to validate on; all if not given.
        shuffle: a new order in every epoch, which follows only from `seed` and the epoch.
        seed: seed of the weights, of dropout and of the order.
        sample_weight: factors of the samples' losses.
        class_weight: factors by class number, as a mapping or a list, or "balanced" for factors that give
            each class the same share, as scikit-learn counts; that needs arrays. Validation data are not
            weighed.
        callbacks: see `jl.Callback`.
        state: to continue from; it is copied once and left untouched.
        steps_per_call: steps in one dispatch (Keras: `steps_per_execution`), which makes small models faster.
            The result is the same, bit for bit; progress and bad losses are seen once per call.
            "auto" is 1 for batches from an iterable, for large steps, and on a CPU for steps with a
            convolution; else as many as help. See `jlayers.train.feed`.
        checkpoints: a folder, or a `jl.Checkpoint`. The first call makes checkpoints there. A call with the
            same arguments continues from the last one, even in the middle of an epoch, and ends with the same
            bits as one that was never interrupted; `epochs` are then those of all calls together, and
            `state` is ignored. Needs `pip install 'jlayers[checkpoint]'`.
        cache_features: run the frozen layers at the beginning of the model once per sample, keep their
            outputs, and train the rest on them: the same result, up to rounding, in a fraction of the time.
            True keeps these features in memory; a folder, or a `jl.FeatureCache`, on disk. Samples must be
            arrays.

    Returns:
        The state, and the history: by name (`loss`, `accuracy`, `val_loss`, ...) one number per epoch.

    Raises:
        ValueError: data that do not go together or with the model, empty or not finite; labels, or
            numbers that go into an `Embedding`, out of range; samples that are shuffled, or do not fill
            the last batch, where a layer is `stateful`. Or checkpoints of other data or another
            configuration.
        FloatingPointError: the loss, the validation loss or a parameter became NaN or infinite. Its `state`
            and `history` are those of the last healthy epoch.

    Any other exception, Ctrl-C included, has the last whole state and the history in its attributes `state`
    and `history`.

    >>> import numpy as np, jlayers as jl
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.5), loss="mse")
    >>> state, history = jl.fit(trainer, x, 3 * x + 1, epochs=20)
    >>> history["loss"][-1] < 1e-3
    True
    """
    if not isinstance(trainer, Trainer):
        error = TypeError(
            f"fit: expected what jl.compile(model, optimizer, loss) returns, received a "
            f"{type(trainer).__name__}; write jl.fit(trainer, x, y)"
        )
        raise about(error, trainer=trainer)
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
        error = TypeError(
            f"fit: expected the state that jl.fit returns, received state as a {type(state).__name__}; to "
            f"begin with given weights, write state=trainer.init(key, x, params=params, state=model_state)"
        )
        raise about(error, state=state)
    one = callable(callbacks) or isinstance(callbacks, (Callback, Checkpoint))
    several = [callbacks] if one else callbacks or ()
    places = [value for value in several if isinstance(value, Checkpoint)]
    with concerning(callbacks=callbacks):
        listeners = [as_callback(value) for value in several if value not in places]
    places += [] if checkpoints is None else [as_checkpoint(checkpoints)]
    if len(places) > 1:
        error = ValueError("expected one place for checkpoints, received two: in callbacks and checkpoints")
        raise about(error, checkpoints=checkpoints)
    parts, validation_data = split_validation(arrays(x, y, sample_weight), validation_data, validation_split)
    if (cache := as_feature_cache(cache_features)) is not None:
        with concerning(cache_features=cache_features):
            trainer, state, parts, validation_data = on_features(
                cache, trainer, state, parts, validation_data, batch_size or BATCH_SIZE, seed
            )
    parts = weighed(parts, class_weight)  # not before: no factor enters the validation loss
    with concerning(steps_per_epoch=steps_per_epoch):
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
        with concerning(state=state):
            stage = _stage_of(trainer, state)
        first = state.copy
    fresh = lambda: with_rate_factor(first(), listeners)  # noqa: E731
    live = fresh()
    loop = Loop(trainer, stage, live, data, validation, listeners, steps_per_call)
    note = "begins anew: pass state= to continue with the weights of the last fit" if again else None
    if not places:
        return loop.run(live, epochs, fresh, note)
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
    with Keeper(as_checkpoint(places[0]), facts, loop.directions, data, listeners) as keeper:
        keeper.first_epoch, keeper.stage = int(live.epoch), stage
        resumed = keeper.resume(lambda stage: _start(trainer, stage, live, data, listeners))
        live = live if resumed is None else resumed.state
        return loop.run(live, epochs, fresh, None, keeper, resumed)


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
