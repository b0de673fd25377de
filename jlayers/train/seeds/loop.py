"""The loop of `fit_seeds`: each seed has callbacks, a history and an end of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import noted
from jlayers.core.lifting import MissingKeyError
from jlayers.data.batches import ArrayBatches, Batches
from jlayers.train.callbacks import Callback, Change
from jlayers.train.feed import Runner, StepsPerCall
from jlayers.train.fitting import Fitting
from jlayers.train.keeper import Keeper, Resumed
from jlayers.train.listeners import change_of, directions_of, step_for
from jlayers.train.seeds.rows import SeedRows
from jlayers.train.seeds.states import SeedStates, in_step, member, repeated, stacked
from jlayers.train.seeds.step import (
    SeedsEvalStep,
    SeedsStep,
    evaluated_each,
    mesh_for,
    on_devices,
    state_on_devices,
)
from jlayers.train.seeds.watch import Means, SeedsWatch
from jlayers.train.sources import look_over
from jlayers.train.state import HostCopy, TrainState
from jlayers.train.trainer import Trainer
from jlayers.train.watch import LARGE

__all__ = ["SeedsFit", "SeedsHistory"]

SeedsHistory = dict[str, np.ndarray]  # by name: (epochs, seeds), NaN after the end of a seed


class Member(Callback):
    """One seed: its callbacks, and its last state once it has stopped. A checkpoint keeps both.

    Attributes:
        callbacks: that listen to this seed.
        end: the last state, on the host; None while the seed trains.
    """

    def __init__(self, callbacks: Sequence[Callback], form: Any):
        self.callbacks, self.form = callbacks, form
        self.remembering = [callback for callback in callbacks if callback.remembers]
        self.end: TrainState | None = None
        self.known: list[Any] = []  # what the callbacks remembered at the end; they are closed since then

    def stop(self, state: TrainState) -> None:
        """This is the last state. The program still computes the seed, and the result is ignored."""
        self.known = [callback.state() for callback in self.remembering]
        for callback in self.callbacks:
            state = callback.on_fit_end(state) or state
        for callback in self.callbacks:
            state = callback.to_keep(state)
        self.end = state

    def state(self) -> dict[str, Any]:
        if self.end is None:
            return {"callbacks": [callback.state() for callback in self.remembering]}
        return {"callbacks": self.known, "end": jax.tree.leaves(self.end)}

    def restore(self, state: Mapping[str, Any]) -> None:
        for callback, known in zip(self.remembering, state["callbacks"], strict=True):
            callback.restore(known)
        if "end" in state:
            end = jax.tree.unflatten(self.form, state["end"])
            self.stop(end)
            self.end = end  # as the callbacks left it then


class SeedsFit(Fitting):
    """One call of `fit_seeds`, after the checks: `fit` over a stack of states."""

    def __init__(
        self,
        trainer: Trainer,
        stack: TrainState,
        seeds: Sequence[int],
        data: ArrayBatches,
        validation: Batches | None,
        shared: Sequence[Callback],
        own: Sequence[Sequence[Callback]],
        steps_per_call: StepsPerCall,
    ):
        super().__init__()
        self.trainer, self.seeds, self.shared = trainer, tuple(seeds), shared
        step, first = step_for(own[0], trainer), member(stack, 0)
        review, _ = look_over(step.tasks, first, data)
        self.batch_rows = data.batch_size
        self.validation, held_out = validation, None
        if validation is not None:
            with noted("in the validation data"):
                held_out, self.validation = look_over(trainer.tasks, first, validation)
        self.directions = directions_of(
            trainer, step, first.params, first.state, data.first(), validation is not None
        )
        first = step.prepare(first, data.first())
        mesh = mesh_for(len(self.seeds))
        stack = state_on_devices(
            mesh, in_step(stack.replace(metrics=repeated(first.metrics, len(self.seeds))))
        )
        self.state = stack
        on_device = jax.device_put(data.data)
        self.program = SeedsStep.of(step, review, first, mesh)
        self.programs = self.program.on(on_devices(mesh, on_device))
        self.data = SeedRows(data, self.seeds)
        self.calls = self.program.calls(steps_per_call, stack, self.data.steps or 1)
        self.eval_step = None
        if held_out is not None:
            self.eval_step = SeedsEvalStep.of(trainer.eval_step, held_out, self.program.unrolled)
        self.history: dict[str, list[list[float]]] = {key: [] for key in self.directions}
        form = jax.tree.structure(member(stack, 0))
        self.members = [Member(callbacks, form) for callbacks in own]

    @property
    def training(self) -> np.ndarray:
        """By seed, whether it still trains."""
        return np.array([one.end is None for one in self.members])

    @property
    def places(self) -> list[int]:
        """The places of the seeds that still train."""
        return np.flatnonzero(self.training).tolist()

    @property
    def remembering(self) -> list[Callback]:
        """Everything with a state for a checkpoint: each seed, and callbacks of all seeds."""
        return [*self.members, *(callback for callback in self.shared if callback.remembers)]

    def run(
        self, epochs: int, keeper: Keeper | None = None, resumed: Resumed | None = None
    ) -> tuple[SeedStates, SeedsHistory]:
        with self.interruptible(keeper):
            return self._run(epochs, resumed)

    def _run(self, epochs: int, resumed: Resumed | None) -> tuple[SeedStates, SeedsHistory]:
        if resumed is not None:
            self.state, self.history = resumed.state, resumed.history  # type: ignore[assignment]
        several = len(self.seeds) > 1
        self.plan(epochs, resumed)
        self.tell(
            [*self.shared, *(callback for one in self.members for callback in one.callbacks)],
            self.trainer,
            steps=self.data.steps,
            directions=self.directions,
            note=f"the values are means over {len(self.seeds)} seeds" if several else None,
            rows=self.batch_rows * len(self.seeds),
            resumed=resumed is not None,
        )
        if resumed is not None:
            for one, known in zip(self.remembering, resumed.callbacks, strict=True):
                one.restore(known)
        self.kept = HostCopy(self.state)  # what is known to be healthy
        self.runner = Runner(
            self.programs,  # type: ignore[arg-type]  it has the programs that a runner calls
            self.state,
            self.calls,
            [] if self.keeper is None else self.keeper.every,
            waiting=self.waiting,
            interrupts=self.interrupts,
        )
        try:
            for epoch in range(self.first, self.end):
                if self._epoch(epoch):
                    break
        except BaseException as error:
            self._failed(error)
            raise
        return self._end()

    def _epoch(self, epoch: int) -> bool:
        """Trains for an epoch; True if no seed is left that trains."""
        with self.together():
            for callback in self.shared:
                callback.on_epoch_begin(epoch)
            self._begin(epoch)
        if not self.training.any():
            return True
        runner, first = self.runner, int(self.state.epoch_start)
        done = runner.step - first
        watch = SeedsWatch(
            self.shared, self.program.review, epoch, done, self.seeds, lambda: self.training, self._forgiven
        )
        begun = time.perf_counter()
        with contextlib.closing(runner.epoch(self.data, epoch, done)) as steps:
            for logs in steps:
                watch.add(runner.step - first, logs)
                keeper, at = self.keeper, runner.step - first
                if keeper is not None and at != self.data.steps and keeper.due_at_step(runner.step):
                    watch.read_all()
                    keeper.save(self.current(), self.history)  # type: ignore[arg-type]
        state = self.current()
        ended = self.program.end(state)
        if epoch + 1 < self.end:
            runner.look_ahead(self.data, epoch + 1)
        values = watch.finish_each(ended)
        self.waiting.passed += time.perf_counter() - begun
        validation = self._validate(state, watch)
        with self.together():
            self.end_epoch(ended)
            return self._epoch_over(epoch, values, validation)

    def _begin(self, epoch: int) -> None:
        """Tells the callbacks of each seed that an epoch begins; see `Callback.on_epoch_begin`."""
        keeper, factors = self.keeper, self._factors()
        again = keeper is not None and keeper.begun
        for place in self.places:
            told = [c for c in self.members[place].callbacks if not (again and c.remembers)]
            change = self._ask(told, "on_epoch_begin", epoch)
            if again:
                continue
            if change.rate_factor is not None:
                factors[place] = change.rate_factor
            if change.stop:
                self.members[place].stop(_view(self._host(), place, factors)())
        self._set_factors(factors)
        if keeper is not None:
            keeper.begun = True

    def _epoch_over(self, epoch: int, values: dict[str, Any], validation: dict[str, Any]) -> bool:
        """Tells everybody of the epoch; True if no seed continues."""
        self.kept = HostCopy(self.state)
        if self.keeper is not None:
            self.keeper.begun = False  # the next epoch has not
        host, factors = self._host(), self._factors()
        values |= validation
        counted = self.training
        logs = Means(values, counted)
        for name, row in logs.each.items():
            self.history.setdefault(name, []).append(row.tolist())
        for place in np.flatnonzero(counted).tolist():
            own = {name: float(value[place]) for name, value in values.items()}
            of_validation = {name: own[name] for name in validation}
            stops = False
            events = {"on_validation_end": of_validation} if validation else {}
            for event, told in {**events, "on_epoch_end": own}.items():
                view = _view(host, place, factors)
                change = self._ask(self.members[place].callbacks, event, epoch, told.copy, view)
                stops |= change.stop
                if change.rate_factor is not None:
                    factors[place] = change.rate_factor
            if stops:
                self.members[place].stop(_view(host, place, factors)())
        self._set_factors(factors)
        view = SeedStates(host, self.seeds)
        stops = False
        for callback in self.shared:
            if validation:
                callback.on_validation_end(epoch, {name: logs[name] for name in validation}, view)  # type: ignore[arg-type]
            answer = callback.on_epoch_end(epoch, logs, view)  # type: ignore[arg-type]
            stops |= change_of(callback, answer).stop
        for place in self.places if stops else ():
            self.members[place].stop(_view(host, place, factors)())
        over = not self.training.any()
        keeper, last = self.keeper, over or epoch + 1 == self.end
        if keeper is not None:
            mean = {name: [float(np.nanmean(row)) for row in rows] for name, rows in self.history.items()}
            if last or keeper.due_at_epoch(epoch + 1, self.runner.step, mean):
                history: Any = self.history
                keeper.save(self.state, history, logs=logs, stopped=over, copy=self.kept)
        return over

    def _factors(self) -> Any:
        """The factors of the learning rates, by seed; None if nobody may change them."""
        return None if self.state.rate_factor is None else np.array(self.state.rate_factor)

    def _set_factors(self, factors: Any) -> None:
        old = self.state.rate_factor
        if old is None or (factors == np.asarray(old)).all():
            return
        self.put(self.current().replace(rate_factor=jax.device_put(factors, old.sharding)))
        self.kept = HostCopy(self.state)

    def _ask(self, callbacks: Sequence[Callback], event: str, *arguments: Any) -> Change:
        """The change that the callbacks of one seed ask for."""
        stop, factor = False, None
        for callback in callbacks:
            answer = getattr(callback, event)(*(a() if callable(a) else a for a in arguments))
            change = change_of(callback, answer)
            stop |= change.stop
            factor = factor if change.rate_factor is None else change.rate_factor
        return Change(stop=stop, rate_factor=factor)

    def _forgiven(self, place: int, error: FloatingPointError) -> bool:
        """True if a callback of the seed takes a NaN as its end, after a healthy epoch."""
        if not self.history["loss"] or not any(c.on_error(error) for c in self.members[place].callbacks):
            return False
        self.members[place].stop(member(self._host(), place))
        return True

    def _end(self) -> tuple[SeedStates, SeedsHistory]:
        """The last state of each seed."""
        host = self._host()
        for place in self.places:
            self.members[place].stop(member(host, place))
        states = SeedStates(stacked([one.end for one in self.members]), self.seeds)
        for callback in self.shared:
            callback.on_fit_end(states)  # type: ignore[arg-type]
        return states, self._history()

    def _failed(self, error: BaseException) -> None:
        """Hands over the last healthy states, tells everybody, and makes a last checkpoint."""
        whole = None
        if not isinstance(error, FloatingPointError):
            with contextlib.suppress(RuntimeError):
                whole = self.current()
                whole.check_alive()
        state = self.kept.back() if whole is None else whole
        wide = stacked([member(state, place) for place in range(len(self.seeds))])
        states = SeedStates(wide, self.seeds)
        vars(error).update(state=states, history=self._history())
        if whole is not None:
            self.keep_last(whole, self.history, error)
        for callback in self.shared:
            with contextlib.suppress(Exception):
                callback.on_error(error)
                callback.on_fit_end(states)  # type: ignore[arg-type]
        for place in self.places:
            for callback in self.members[place].callbacks:
                with contextlib.suppress(Exception):
                    callback.on_error(error)
                    callback.on_fit_end(states[place])

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
        weights = {"val_": SeedStates(state, self.seeds).to_evaluate().stack}
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
        assert step is not None
        assert data is not None
        together = self.calls.steps if self.calls.looped else 1
        try:
            return evaluated_each(step, params, model_state, data, len(self.seeds), together)
        except MissingKeyError:  # a layer samples in inference, too
            keys = jax.random.wrap_key_data(state.key_data, impl=state.impl)
            return evaluated_each(step, params, model_state, data, len(self.seeds), 1, keys)


def _view(host: TrainState, place: int, factors: Any) -> Callable[[], TrainState]:
    """Makes the state of one seed for a callback, with its factor of the learning rate as it is now."""
    rate = {} if factors is None else {"rate_factor": factors[place]}
    return lambda: member(host, place).replace(**rate)
