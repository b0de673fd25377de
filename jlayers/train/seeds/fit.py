"""`fit_seeds`: checks its arguments and prepares them for the loop."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.calls import taught
from jlayers.core.errors import about, refused
from jlayers.core.layer import Layer
from jlayers.data.batches import ArrayBatches, Batch
from jlayers.data.lazy import is_lazy
from jlayers.train.callbacks import Callback, as_callback
from jlayers.train.checkpoint import Checkpoint, as_checkpoint
from jlayers.train.checks import check_carried, check_named, check_process, seed_number, whole_number
from jlayers.train.feed import StepsPerCall
from jlayers.train.identity import identity
from jlayers.train.keeper import Keeper
from jlayers.train.listeners import with_rate_factor
from jlayers.train.seeds.loop import SeedsFit, SeedsHistory
from jlayers.train.seeds.states import SeedStates, member, stacked
from jlayers.train.sources import arrays, source, split_validation, validation_source, weighed
from jlayers.train.state import TrainState
from jlayers.train.trainer import Trainer

__all__ = ["check_in_memory", "check_listens_to_epochs", "fit_seeds"]


@taught
def fit_seeds(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    seeds: int,
    batch_size: int | None = None,
    epochs: int = 1,
    validation_data: Any = None,
    validation_split: float = 0.0,
    validation_steps: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | Sequence[float] | str | None = None,
    callbacks: Sequence[Any] | Callable[[int], Sequence[Any]] = (),
    states: SeedStates | Sequence[TrainState] | None = None,
    steps_per_call: StepsPerCall = "auto",
    checkpoints: str | os.PathLike[str] | Checkpoint | None = None,
) -> tuple[SeedStates, SeedsHistory]:
    """Train several seeds at a time, in one compiled program over a stack of states.

    Number `i` learns what `jl.fit(..., seed=seed + i)` learns, to rounding: its weights at the start, the
    order of its samples, its dropout and augmentation follow from its own seed. Validation data are the same
    for all. On several devices each trains its share of the seeds.

    Args:
        trainer: what `jl.compile` returns, without `unfreeze`.
        x: arrays in memory, as in `fit`. They lie on the device once, whatever the number of seeds.
        y: as in `fit`.
        seeds: how many; their numbers are `seed`, `seed + 1`, ...
        batch_size: samples per step and seed, 32 if not given.
        epochs: how many more epochs to train.
        validation_data: as in `fit`.
        validation_split: as in `fit`.
        validation_steps: as in `fit`.
        shuffle: a new order in every epoch, for each seed its own.
        seed: the first one.
        sample_weight: as in `fit`.
        class_weight: as in `fit`.
        callbacks: each seed has copies of its own, which listen to it as to a single run: `EarlyStopping`
            ends each seed at its time, and `ReduceLROnPlateau` lowers the rate of that seed. Or a function
            from the number of a seed to such a list, for those that write files. A `ProgressBar` shows means.
        states: to continue from; what an earlier call returned, or one `TrainState` for each seed.
        steps_per_call: as in `fit`.
        checkpoints: as in `fit`, of all seeds together.

    Returns:
        The states, and the history: by name an array `(epochs, seeds)`, with NaN after the last epoch of a
        seed that was stopped early.

    Raises:
        TypeError: samples that are not arrays in memory.
        ValueError: as `fit` does; a trainer with `unfreeze`, or a callback that asks for single steps or
            writes files and is not made by a function.
        FloatingPointError: the loss, the validation loss or a parameter of a seed became NaN or infinite. Its
            `state` and `history` are those of the last healthy epoch, of all seeds.

    >>> import numpy as np, jlayers as jl
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> trainer = jl.compile(jl.Dense(1), jl.optimizers.sgd(0.5), loss="mse")
    >>> states, history = jl.fit_seeds(trainer, x, 3 * x + 1, seeds=3, epochs=20)
    >>> history["loss"].shape, bool((history["loss"][-1] < 1e-3).all())
    ((20, 3), True)
    >>> jl.predict(trainer, states[2], x).shape, jl.predict_seeds(trainer, states, x).shape
    ((64, 1), (3, 64, 1))
    """
    if not isinstance(trainer, Trainer):
        error = TypeError(
            f"fit_seeds: expected what jl.compile(model, optimizer, loss) returns, received a "
            f"{type(trainer).__name__}; write jl.fit_seeds(trainer, x, y, seeds=8)"
        )
        raise about(error, trainer=trainer)
    check_process()
    epochs = whole_number("epochs", epochs, 0)
    seeds, seed = whole_number("seeds", seeds, 1), seed_number(seed)
    seed_number(seed + seeds - 1)
    numbers = tuple(range(seed, seed + seeds))
    if steps_per_call != "auto":
        steps_per_call = whole_number("steps_per_call", steps_per_call, 1, " or 'auto'")
    if validation_steps is not None:
        whole_number("validation_steps", validation_steps, 1)
    if len(trainer.stages) > 1:
        raise refused(
            ValueError,
            "expected a trainer whose layers are frozen or not for the whole training",
            instead="train the seeds one by one with jl.fit",
            raised_by="fit_seeds",
            unfreeze=trainer.unfreeze,
        )
    parts = arrays(x, y, sample_weight)
    if parts is None:
        error = TypeError(
            f"fit_seeds: expected arrays, which each seed takes in an order of its own, "
            f"received x as a {type(x).__name__}; make arrays of it, or use jl.fit"
        )
        raise about(error, x=x)
    check_in_memory(parts)
    parts, validation_data = split_validation(parts, validation_data, validation_split)
    data = source("x", x, weighed(parts, class_weight), batch_size, shuffle=shuffle, seed=seed)
    assert isinstance(data, ArrayBatches)
    if isinstance(trainer.model, Layer):
        check_named(data.first())
    for model in trainer.tasks.models:
        check_carried(model, data)
    validation = validation_source(validation_data, batch_size, validation_steps, epochs)
    shared, own = listeners_of(callbacks, numbers)
    stack = _start(trainer, numbers, data.first(), states)
    if with_rate_factor(member(stack, 0), own[0]).rate_factor is not None and stack.rate_factor is None:
        stack = stack.replace(rate_factor=jnp.ones(seeds, jnp.float32))
    checkpoint = None if checkpoints is None else as_checkpoint(checkpoints)
    fit = SeedsFit(trainer, stack, numbers, data, validation, shared, own, steps_per_call)
    del stack
    if checkpoint is None:
        return fit.run(epochs)
    facts = identity(
        trainer,
        data,
        validation,
        [callback for each in own for callback in each],
        batch_size=batch_size,
        shuffle=shuffle,
        seeds=seeds,
        seed=seed,
        validation_steps=validation_steps,
        class_weight=class_weight,
    )
    with Keeper(checkpoint, facts, fit.directions, data, fit.remembering) as keeper:
        keeper.first_epoch = int(fit.state.epoch)
        return fit.run(epochs, keeper, keeper.resume(lambda _: fit.state))


def listeners_of(callbacks: Any, seeds: Sequence[int]) -> tuple[list[Callback], list[list[Callback]]]:
    """The callbacks that look at all seeds together, and for each seed its own.

    Raises:
        ValueError: one that asks for single steps, or writes files and is shared by the seeds.
    """
    shared: list[Callback] = []
    if isinstance(callbacks, type) or not callable(callbacks):
        several: Any = [callbacks] if isinstance(callbacks, Callback) else callbacks or ()
        given = [as_callback(value) for value in several]
        shared = [callback for callback in given if callback.of_all_seeds]
        others = [callback for callback in given if not callback.of_all_seeds]
        for callback in others:
            if type(callback).place is not Callback.place:
                error = ValueError(
                    f"fit_seeds: expected a callback that {len(seeds)} seeds can have copies of, received "
                    f"{type(callback).__name__}, which writes files; give a function of the seed that names "
                    f"them: callbacks=lambda seed: [jl.callbacks.CSVLogger(f'{{seed}}.csv')]"
                )
                raise about(error, callbacks=callbacks)
        own = [copy.deepcopy(others) for _ in seeds]
    else:
        made: list[Any] = [callbacks(seed) for seed in seeds]
        own = [[as_callback(value) for value in each] for each in made]
        shared = list({id(c): c for each in own for c in each if c.of_all_seeds}.values())
        own = [[callback for callback in each if not callback.of_all_seeds] for each in own]
    for callback in [*shared, *own[0]]:
        check_listens_to_epochs(callback)
    return shared, own


def check_listens_to_epochs(callback: Callback) -> None:
    """Refuse a callback that asks for single steps."""
    if callback.every or callback.at_steps:
        raise refused(
            ValueError,
            f"{type(callback).__name__}: expected a callback that listens to epochs, since the seeds take "
            f"many steps at once",
            every=callback.every or list(callback.at_steps),
        )


def check_in_memory(parts: Any) -> None:
    """Refuse samples that are read when they are needed: the step of many seeds takes rows of arrays."""
    if any(is_lazy(leaf) for leaf in jax.tree.leaves(parts)):
        error = TypeError(
            "expected arrays in memory for many seeds at a time, received samples that are read when they "
            "are needed; read them with numpy.asarray, or train one seed after the other"
        )
        raise about(error, x=parts)


def _start(trainer: Trainer, seeds: Sequence[int], batch: Batch, states: Any) -> TrainState:
    """The state of each seed before the first step, stacked."""
    if states is None:
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return jax.vmap(lambda key: trainer.init(key, batch))(keys)
    given = list(states)
    if len(given) != len(seeds) or not all(isinstance(state, TrainState) for state in given):
        error = ValueError(
            f"expected states of {len(seeds)} seeds, as jl.fit_seeds returns them, received {states!r}"
        )
        raise about(error, states=states)
    for state in given:
        trainer.check_state(state)
    return stacked([state.replace(metrics={}) for state in given])
