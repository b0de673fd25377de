"""`fit_seeds`: the loop of `fit` over a stack of states, one for each seed."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.calls import taught
from jlayers.core.errors import noted, refused
from jlayers.core.layer import Layer
from jlayers.core.lifting import MissingKeyError
from jlayers.data.batches import ArrayBatches, Batch, Batches
from jlayers.data.prefetch import Waiting
from jlayers.train.callbacks import Callback, Change, Run, as_callback
from jlayers.train.checkpoint import Checkpoint, Keeper, Resumed, as_checkpoint, identity
from jlayers.train.checks import check_carried, check_named, check_process, seed_number, whole_number
from jlayers.train.feed import Runner, StepsPerCall
from jlayers.train.interruptions import ENDING, interruptions
from jlayers.train.listeners import directions_of, step_for, with_rate_factor
from jlayers.train.seeds.rows import SeedRows
from jlayers.train.seeds.states import SeedStates, in_step, live_axes, member, stacked
from jlayers.train.seeds.step import SEEDS, SeedsEvalStep, SeedsStep, mesh_for, on_devices
from jlayers.train.seeds.watch import SeedsWatch, means, read_each
from jlayers.train.sources import arrays, look_over, source, split_validation, validation_source, weighed
from jlayers.train.state import Flat, HostCopy, TrainState, copied
from jlayers.train.trainer import Trainer
from jlayers.train.watch import LARGE

__all__ = ["SeedsHistory", "fit_seeds"]

SeedsHistory = dict[str, np.ndarray]  # by name: (epochs, seeds), NaN after the end of a seed


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
        states: to go on from; what an earlier call returned, or one `TrainState` for each seed.
        steps_per_call: as in `fit`.
        checkpoints: as in `fit`, of all seeds together.

    Returns:
        The states, and the history: by name an array `(epochs, seeds)`, with NaN after the last epoch of a
        seed that was stopped early.

    Raises:
        TypeError: samples that are no arrays in memory.
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
        raise TypeError(
            f"fit_seeds: expected what jl.compile(model, optimizer, loss) returns, received a "
            f"{type(trainer).__name__}; write jl.fit_seeds(trainer, x, y, seeds=8)"
        )
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
        raise TypeError(
            f"fit_seeds: expected arrays, of which each seed takes the samples in an order of its own, "
            f"received x as a {type(x).__name__}; make arrays of it, or train the seeds one by one with jl.fit"
        )
    parts, validation_data = split_validation(parts, validation_data, validation_split)
    data = source("x", x, weighed(parts, class_weight), batch_size, shuffle=shuffle, seed=seed)
    if not isinstance(data, ArrayBatches) or not data.checked:
        raise TypeError(
            "fit_seeds: expected arrays in memory, received samples that are read when they are needed; read "
            "them with numpy.asarray, or train the seeds one by one with jl.fit"
        )
    if isinstance(trainer.model, Layer):
        check_named(data.first())
    for model in trainer.tasks.models:
        check_carried(model, data)
    validation = validation_source(validation_data, batch_size, validation_steps, epochs)
    shared, own = listeners_of(callbacks, numbers)
    firsts = _firsts(trainer, numbers, data.first(), states)
    firsts = [with_rate_factor(state, own[0]) for state in firsts]
    checkpoint = None if checkpoints is None else as_checkpoint(checkpoints)
    fit = _SeedsFit(trainer, firsts, numbers, data, validation, shared, own, steps_per_call)
    del firsts
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
    with Keeper(checkpoint, facts, fit.directions, data, [*fit.listeners, fit.ends]) as keeper:
        keeper.first_epoch = int(fit.state.epoch)
        return fit.run(epochs, keeper, keeper.resume(lambda _: fit.state))


def listeners_of(callbacks: Any, seeds: Sequence[int]) -> tuple[list[Callback], list[list[Callback]]]:
    """The callbacks that look at all seeds together, and for each seed its own.

    Raises:
        ValueError: one that asks for single steps, or writes files and is shared by the seeds.
    """
    shared: list[Callback] = []
    if isinstance(callbacks, type) or not callable(callbacks):
        one = isinstance(callbacks, Callback)
        given = [as_callback(value) for value in ([callbacks] if one else callbacks or ())]
        shared = [callback for callback in given if callback.of_all_seeds]
        others = [callback for callback in given if not callback.of_all_seeds]
        for callback in others:
            if type(callback).place is not Callback.place:
                raise ValueError(
                    f"fit_seeds: expected a callback that {len(seeds)} seeds can have copies of, received "
                    f"{type(callback).__name__}, which writes files; give a function of the seed that names "
                    f"them: callbacks=lambda seed: [jl.callbacks.CSVLogger(f'{{seed}}.csv')]"
                )
        own = [copy.deepcopy(others) for _ in seeds]
    else:
        own = [[as_callback(value) for value in callbacks(seed)] for seed in seeds]
        shared = list({id(c): c for each in own for c in each if c.of_all_seeds}.values())
        own = [[callback for callback in each if not callback.of_all_seeds] for each in own]
    for callback in [*shared, *own[0]]:
        if callback.every or callback.at_steps:
            raise refused(
                ValueError,
                f"{type(callback).__name__}: expected a callback that listens to epochs, since the seeds take "
                f"many steps together",
                every=callback.every,
            )
    return shared, own


def _firsts(trainer: Trainer, seeds: Sequence[int], batch: Batch, states: Any) -> list[TrainState]:
    """The state of each seed before the first step."""
    if states is None:
        return [trainer.init(jax.random.key(seed), batch) for seed in seeds]
    given = list(states)
    if len(given) != len(seeds) or not all(isinstance(state, TrainState) for state in given):
        raise ValueError(
            f"expected states of {len(seeds)} seeds, as jl.fit_seeds returns them, received {states!r}"
        )
    for state in given:
        trainer.check_state(state)
    return given


class _Ends(Callback):
    """The last states of seeds that have stopped: a checkpoint keeps them, too."""

    def __init__(self) -> None:
        self.states: dict[int, TrainState] = {}

    def state(self) -> dict[str, Any]:
        return {str(place): jax.tree.leaves(state) for place, state in self.states.items()}

    def back(self, kept: Mapping[str, Any], like: TrainState) -> None:
        """Takes back what `state` gave; `like` is a state of one seed."""
        form = jax.tree.structure(like.replace(metrics={}))
        self.states = {int(place): jax.tree.unflatten(form, leaves) for place, leaves in kept.items()}


class _SeedsFit:
    """One call of `fit_seeds`, after the checks."""

    def __init__(
        self,
        trainer: Trainer,
        firsts: Sequence[TrainState],
        seeds: Sequence[int],
        data: ArrayBatches,
        validation: Batches | None,
        shared: Sequence[Callback],
        own: Sequence[Sequence[Callback]],
        steps_per_call: StepsPerCall,
    ):
        self.trainer, self.seeds, self.shared, self.own = trainer, tuple(seeds), shared, own
        self.listeners = [callback for each in own for callback in each]
        step, first = step_for(own[0], trainer), firsts[0]
        review, _ = look_over(step.tasks, first, data)
        self.batch_rows = data.batch_size
        self.validation = validation
        if validation is not None:
            with noted("in the validation data"):
                val_review, self.validation = look_over(trainer.tasks, first, validation)
        self.directions = directions_of(
            trainer, step, first.params, first.state, data.first(), validation is not None
        )
        prepared = [step.prepare(state, data.first()) for state in firsts]
        mesh = mesh_for(len(self.seeds))
        spec = jax.sharding.PartitionSpec
        stack = in_step(stacked(prepared))
        if mesh is not None:
            of_live, cut = live_axes(spec(SEEDS), spec()), spec(SEEDS)
            specs = jax.tree.broadcast(of_live, stack.live, is_leaf=lambda leaf: leaf is None)
            live = jax.tree.map(
                lambda place, leaf: leaf if leaf is None else on_devices(mesh, leaf, place), specs, stack.live,
                is_leaf=lambda leaf: leaf is None or isinstance(leaf, spec),
            )  # fmt: skip
            stack = stack.replace(flat=Flat.of(live), key_data=on_devices(mesh, stack.key_data, cut))
        self.state = stack
        on_device = jax.tree.map(jnp.asarray, data.data)
        self.program = SeedsStep(step, review, prepared[0], on_devices(mesh, on_device), mesh)
        self.data = SeedRows(data, self.seeds)
        self.calls = self.program.calls(steps_per_call, stack, self.data.steps or 1)
        self.eval_step = None
        if validation is not None:
            self.eval_step = SeedsEvalStep(trainer.eval_step, val_review, self.program.unrolled)
        self.history: dict[str, list[list[float]]] = {key: [] for key in self.directions}
        self.training = np.ones(len(self.seeds), bool)
        self.ends = _Ends()
        self.waiting = Waiting()
        self.torn = False

    def run(
        self, epochs: int, keeper: Keeper | None = None, resumed: Resumed | None = None
    ) -> tuple[SeedStates, SeedsHistory]:
        with interruptions(("SIGINT",) if keeper is None else ENDING) as interrupts:
            self.keeper, self.interrupts = keeper, interrupts
            return self._run(epochs, resumed)

    def _run(self, epochs: int, resumed: Resumed | None) -> tuple[SeedStates, SeedsHistory]:
        start = int(self.state.epoch)
        self.end = start + epochs
        if resumed is not None:
            self.state, self.history = resumed.state, resumed.history  # type: ignore[assignment]
            self.end = resumed.first_epoch + epochs
            start = int(self.state.epoch)
            *_, ends = resumed.callbacks
            self.ends.back(ends, member(self.state, 0))
            self.training[[*self.ends.states]] = False
            if resumed.stopped:
                self.end = start
        run = Run(
            start,
            max(0, self.end - start),
            self.data.steps,
            self.directions,
            None,
            self.waiting,
            self.trainer,
            rows=self.batch_rows,
            step=int(self.state.step),
            resumed=resumed is not None,
        )
        everybody = [*self.shared, *self.listeners]
        for callback in everybody:
            callback.check(run)
        for callback in everybody:
            callback.on_fit_begin(run)
        if resumed is not None:
            for callback, kept in zip(filter(lambda c: c.remembers, self.listeners), resumed.callbacks, strict=False):
                callback.restore(kept)
        self.kept = HostCopy(self.state)  # what is known to be healthy
        self.runner = Runner(
            self.program,  # type: ignore[arg-type]  it has the programs that a runner calls
            self.state,
            self.calls,
            [] if self.keeper is None else self.keeper.every,
            waiting=self.waiting,
            interrupts=self.interrupts,
        )
        try:
            for epoch in range(start, self.end):
                if self._epoch(epoch):
                    break
        except BaseException as error:
            self._failed(error)
            raise
        return self._end()

    def _epoch(self, epoch: int) -> bool:
        """Trains for an epoch; True if no seed is left that trains."""
        with self._together():
            for callback in self.shared:
                callback.on_epoch_begin(epoch)
            self._begin(epoch)
        if not self.training.any():
            return True
        runner, first = self.runner, int(self.state.epoch_start)
        done = runner.step - first
        watch = SeedsWatch(self.shared, self.program.review, epoch, done, self.seeds, self.training, self._forgiven)
        begun = time.perf_counter()
        with contextlib.closing(runner.epoch(self.data, epoch, done)) as steps:
            for logs in steps:
                watch.add(runner.step - first, logs)
                keeper, at = self.keeper, runner.step - first
                if keeper is not None and at != self.data.steps and keeper.due_at_step(runner.step):
                    watch.read_all()
                    keeper.save(self._current(), self.history)  # type: ignore[arg-type]
        state = self._current()
        ended = self.program.end(state)
        if epoch + 1 < self.end:
            runner.look_ahead(self.data, epoch + 1)
        values = watch.finish_each(ended)
        self.waiting.passed += time.perf_counter() - begun
        validation = self._validate(state, watch)
        with self._together():
            place = {"epoch": ended.epoch, "epoch_start": ended.epoch_start}
            self.state = state.replace(metrics=ended.metrics, **place)
            runner.flat = self.state.flat
            return self._epoch_over(epoch, values, validation)

    def _begin(self, epoch: int) -> None:
        """Tells the callbacks of each seed that an epoch begins; see `Callback.on_epoch_begin`."""
        keeper, factors = self.keeper, self._factors()
        again = keeper is not None and keeper.begun
        for place in np.flatnonzero(self.training):
            told = [c for c in self.own[place] if not (again and c.remembers)]
            change = self._ask(told, "on_epoch_begin", epoch)
            if again:
                continue
            if change.rate_factor is not None:
                factors[place] = change.rate_factor
            if change.stop:
                self._stop(place, member(self._host(), place))
        self._set_factors(factors)
        if keeper is not None:
            keeper.begun = True

    def _epoch_over(self, epoch: int, values: dict[str, Any], validation: dict[str, Any]) -> bool:
        """Tells everybody of the epoch; True if no seed goes on."""
        self.kept = HostCopy(self.state)
        if self.keeper is not None:
            self.keeper.begun = False  # the next epoch has not
        host, factors = self._host(), self._factors()
        values |= validation
        counted = self.training.copy()
        for name in [*self.history, *(name for name in values if name not in self.history)]:
            row = np.where(counted, values[name], np.nan).tolist()
            self.history.setdefault(name, []).append(row)
        for place in np.flatnonzero(counted):
            own = {name: float(value[place]) for name, value in values.items()}
            of_validation = {name: own[name] for name in validation}
            changes = []
            if validation:
                changes.append(
                    self._ask(self.own[place], "on_validation_end", epoch, of_validation.copy, _view(host, place))
                )
            changes.append(self._ask(self.own[place], "on_epoch_end", epoch, own.copy, _view(host, place)))
            for change in changes:
                if change.rate_factor is not None:
                    factors[place] = change.rate_factor
            if any(change.stop for change in changes):
                self._stop(place, member(host, place))
        self._set_factors(factors)
        logs = means(values, counted)
        view = SeedStates(host, self.seeds)
        for callback in self.shared:
            if validation:
                callback.on_validation_end(epoch, {name: logs[name] for name in validation}, view)  # type: ignore[arg-type]
            callback.on_epoch_end(epoch, dict(logs), view)  # type: ignore[arg-type]
        over = not self.training.any()
        keeper, last = self.keeper, over or epoch + 1 == self.end
        if keeper is not None:
            mean = {name: [float(np.nanmean(row)) for row in rows] for name, rows in self.history.items()}
            if last or keeper.due_at_epoch(epoch + 1, self.runner.step, mean):
                history: Any = self.history
                keeper.save(self.state, history, logs=logs, stopped=over, kept=self.kept)
        return over

    def _factors(self) -> Any:
        """The factors of the learning rates, by seed; None if nobody may change them."""
        return None if self.state.rate_factor is None else np.array(self.state.rate_factor)

    def _set_factors(self, factors: Any) -> None:
        old = self.state.rate_factor
        if old is None or (factors == np.asarray(old)).all():
            return
        self.state = self._current().replace(rate_factor=jax.device_put(factors, old.sharding))
        self.runner.flat = self.state.flat
        self.kept = HostCopy(self.state)

    def _ask(self, callbacks: Sequence[Callback], event: str, *arguments: Any) -> Change:
        """What the callbacks of one seed want changed."""
        stop, factor = False, None
        for callback in callbacks:
            answer = getattr(callback, event)(*(a() if callable(a) else a for a in arguments))
            change = answer if isinstance(answer, Change) else Change(stop=bool(answer))
            stop |= change.stop
            if change.rate_factor is not None:
                name, factor = type(callback).__name__, change.rate_factor
                if not callback.changes_rate:
                    raise TypeError(f"{name} changes the learning rate: write changes_rate = True in the class")
                if not 0 <= factor < math.inf:
                    raise ValueError(f"{name}: expected a finite rate_factor of at least 0, received {factor}")
        return Change(stop=stop, rate_factor=factor)

    def _stop(self, place: int, state: TrainState) -> None:
        """This is the last state of a seed. The program goes on with it, and nobody looks."""
        for callback in self.own[place]:
            state = callback.on_fit_end(state) or state
        for callback in self.own[place]:
            state = callback.to_keep(state)
        self.training[place] = False
        self.ends.states[int(place)] = state.replace(metrics={})

    def _forgiven(self, place: int, error: FloatingPointError) -> bool:
        """True if a callback of the seed takes a NaN as its end, after a healthy epoch."""
        if not self.history["loss"] or not any(c.on_error(error) for c in self.own[place]):
            return False
        self._stop(place, member(self._host(), place))
        return True

    def _end(self) -> tuple[SeedStates, SeedsHistory]:
        """The last state of each seed."""
        host = self._host()
        for place in np.flatnonzero(self.training):
            self._stop(place, member(host, place))
        ends = [copied(self.ends.states[place]) for place in range(len(self.seeds))]
        states = SeedStates(stacked(ends), self.seeds)
        for callback in self.shared:
            callback.on_fit_end(states)  # type: ignore[arg-type]
        return states, self._history()

    def _failed(self, error: BaseException) -> None:
        """Hands over the last healthy states, tells everybody, and makes a last checkpoint."""
        whole = None
        if not isinstance(error, FloatingPointError):
            with contextlib.suppress(RuntimeError):
                whole = self._current()
                whole.check_alive()
        state = self.kept.back() if whole is None else whole
        wide = stacked([member(state, place) for place in range(len(self.seeds))])
        states = SeedStates(wide, self.seeds)
        vars(error).update(state=states, history=self._history())
        if self.keeper is not None and whole is not None and not self.torn:
            try:
                self.keeper.save(whole, self.history)  # type: ignore[arg-type]
            except Exception as second:
                error.add_note(f"no checkpoint was made of where it ended: {second}")
        for callback in self.shared:
            with contextlib.suppress(Exception):
                callback.on_error(error)
                callback.on_fit_end(states)  # type: ignore[arg-type]
        for place in np.flatnonzero(self.training):
            for callback in self.own[place]:
                with contextlib.suppress(Exception):
                    callback.on_error(error)
                    callback.on_fit_end(states[place])

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """A block that an interruption waits for."""
        self.torn = True
        with self.interrupts.held():
            yield
            self.torn = False

    def _current(self) -> TrainState:
        return self.state.replace(flat=self.runner.flat)

    def _host(self) -> TrainState:
        """The healthy states on the host."""
        return self.kept.tree()

    def _history(self) -> SeedsHistory:
        size = len(self.seeds)
        return {name: np.array(rows, np.float64).reshape(-1, size) for name, rows in self.history.items()}

    def _validate(self, state: TrainState, watch: SeedsWatch) -> dict[str, np.ndarray]:
        if self.validation is None:
            return {}
        values: dict[str, np.ndarray] = {}
        whole = SeedStates(state, self.seeds)
        weights = {"val_": (state if whole.to_evaluate() is whole else whole.to_evaluate().stack)}
        if state.average is not None:
            weights["val_ema_"] = state.averaged()
        for prefix, one in weights.items():
            found = self._evaluated(one.params, one.state, state)
            values |= {f"{prefix}{name}": value for name, value in found.items()}
        watch.require(
            np.isfinite(values["val_loss"]), "the validation loss became NaN or infinite", watch.last, LARGE
        )
        return values

    def _evaluated(self, params: Any, model_state: Any, state: TrainState) -> dict[str, np.ndarray]:
        step, data = self.eval_step, self.validation
        assert step is not None and data is not None
        together = self.calls.steps if self.calls.looped else 1
        try:
            return evaluated_each(step, params, model_state, data, len(self.seeds), together)
        except MissingKeyError:  # a layer samples in inference, too
            keys = jax.random.wrap_key_data(state.key_data, impl=state.impl)
            return evaluated_each(step, params, model_state, data, len(self.seeds), 1, keys)


def evaluated_each(
    step: SeedsEvalStep, params: Any, state: Any, data: Batches, seeds: int, together: int = 1, keys: Any = None
) -> dict[str, np.ndarray]:
    """The logs over all batches, each an array over the seeds."""
    acc = step.accumulators(params, state, seeds)
    if together > 1 and keys is None:
        for batches, count in data.blocks(together):
            acc = step.many(params, state, acc, Batch(*batches), np.int32(count))
    else:
        for number, batch in enumerate(data.epoch()):
            own = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            acc = step.one(params, state, acc, Batch(*batch), own)
    return read_each(step.logs(acc), step.review)


def _view(host: TrainState, place: int) -> Callable[[], TrainState]:
    return lambda: member(host, place)

