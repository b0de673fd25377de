"""The compiled programs of training, evaluation and prediction: pure functions, compiled once for each form.

`fit` calls them, and so can you: your own loop over `make_train_step` does the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec
from jlayers.data.batches import Batch
from jlayers.metrics.totals import value_of
from jlayers.train.augment import augmented
from jlayers.train.endings import observed_calls
from jlayers.train.gradients import gradients_of
from jlayers.train.ids import Lookup, lookups_of
from jlayers.train.options import Options
from jlayers.train.probes import PROBES, Moment, probed
from jlayers.train.scaling import LossScale, finite, kept, loss_scaling, scale_of
from jlayers.train.state import DONATED, Flat, Live, TrainState, inputs_of, named, unnamed
from jlayers.train.tasks import Review, Tasks
from jlayers.train.update import averaged

__all__ = ["Ended", "EvalStep", "PredictStep", "TrainStep", "one_of"]


def one_of(batches: Batch) -> Batch:
    """The form of one of the stacked batches."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), batches)


def _cut(batches: Batch, i: Any) -> Batch:
    """Number `i` of the stacked batches."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches)


def _scale_in_logs(scale: LossScale | None) -> dict[str, jax.Array]:
    return {} if scale is None else {"loss_scale": scale.scale}


def _counted(batches: Batch, count: int | None) -> np.int32:
    steps: int = jax.tree.leaves(batches)[0].shape[0]
    count = steps if count is None else count
    if not 1 <= count <= steps:
        raise refused(ValueError, f"expected a count of 1 to {steps} stacked batches", count=count)
    return np.int32(count)


class Ended(NamedTuple):
    """Values that are read and made at the end of an epoch.

    Attributes:
        logs: since the accumulators were last reset.
        finite: whether all parameters and statistics are.
        counted: whether a batch had a finite loss, under a dynamic loss scale.
        metrics: accumulators at zero.
        epoch: epochs finished.
        epoch_start: the step at which the next one begins.
    """

    logs: dict[str, jax.Array]
    finite: jax.Array
    counted: jax.Array
    metrics: Any
    epoch: jax.Array
    epoch_start: jax.Array


class TrainStep:
    """`step(state, batch) -> (state, logs)`; see `make_train_step`.

    The programs take and give a `Flat`, and the bits of the key beside it.

    Attributes:
        one: `one(flat, key_data, batch) -> (flat, logs)`; wants accumulators in place.
        nth: `nth(flat, key_data, batches, first) -> flat`: the step on that one of stacked batches which
            follows from the number of steps since `first`, so that one array serves many dispatches.
            Logs would cost a small step a tenth of its time; `logs` reads them.
        many: `many(flat, key_data, batches, start, count) -> (flat, logs)`: steps over stacked batches in a
            loop.
    """

    def __init__(self, tasks: Tasks, options: Options):
        self.tasks, self.options = tasks, options
        self.scaling = loss_scaling(tasks.models, options.loss_scale)
        # Each program calls the same compiled step, so that it is traced once.
        self.step = jax.jit(self._step, static_argnames="impl")
        self.one = jax.jit(self._one, donate_argnums=0)
        self.nth = jax.jit(self._nth, donate_argnums=0)
        self.many = jax.jit(self._many, donate_argnums=0)
        self.programs = [self.one, self.nth, self.many]
        self._read: Any = None
        self._end: Any = None

    @property
    def compilations(self) -> int:
        """The number of programs that it holds: one for each form of batches that it has seen."""
        return _compilations(self.programs)

    def prepare(self, state: TrainState, batch: Any) -> TrainState:
        """The state with accumulators at zero; what a `lax.scan` over steps starts from."""
        return state.replace(metrics=self.tasks.accumulators(state.params, state.state, Batch(*batch)))

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        if not isinstance(batch, Batch):
            batch = Batch(*batch)
        if not state.flat.form.measured:
            state = self.prepare(state, batch)
        return self._moved(self.one, state, batch)

    def _moved(self, program: Any, state: TrainState, *batches: Any) -> Any:
        try:
            flat, logs = program(state.flat, state.key_data, *batches)
        except (RuntimeError, ValueError) as error:
            donated = "has been deleted" in str(error) or "donated" in str(error)
            raise (RuntimeError(DONATED) if donated else error) from None
        return TrainState(flat, state.key_data, state.epoch, state.epoch_start), logs

    def run(
        self, state: TrainState, batches: Any, count: int | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Several steps in one dispatch; the state and the logs are those of that many calls.

        XLA runs convolutions badly inside a loop on a CPU; there `fit` takes such steps one by one.

        Args:
            state: is donated.
            batches: stacked, `(steps, batch, ...)`.
            count: how many of them to take, from the first on; all if not given. Another count compiles
                nothing new.

        Raises:
            ValueError: a count that is none of these batches.

        >>> import jax, jax.numpy as jnp, jlayers as jl
        >>> model = jl.Dense(1)
        >>> step = jl.make_train_step(model, "mse", jl.optimizers.sgd(0.1))
        >>> state = jl.TrainState.create(model, jl.optimizers.sgd(0.1), jax.random.key(0), (4, 1))
        >>> x = jnp.linspace(0.0, 3.0, 64 * 4).reshape(64, 4, 1)
        >>> state, logs = step.run(state, jl.Batch(x, 2 * x + 1))
        >>> int(state.step)
        64
        """
        batches = Batch(*batches)
        steps = _counted(batches, count)
        if not state.flat.form.measured:
            state = self.prepare(state, one_of(batches))
        return self._moved(self.many, state, batches, np.int32(0), steps)

    def logs(self, flat: Flat, batch: Batch) -> dict[str, jax.Array]:
        """The logs of the accumulators, for batches like this one (arrays or specs); donates nothing."""
        if self._read is None:  # what is measured is a fact of the tasks
            self._read = jax.jit(lambda flat: self._logs(flat.live, batch))
        return self._read(flat)

    def end(self, state: TrainState, review: Review) -> Ended:
        """Reads the logs at the end of an epoch, and makes what the next one starts from; donates nothing."""
        if self._end is None:
            self._end = jax.jit(functools.partial(self._ended, review))
        return self._end(state.flat, state.epoch)

    def lower(self, state: TrainState, batch: Any) -> Any:
        """As `jax.jit(step).lower`: for cost analysis and the compiled text."""
        batch = Batch(*batch)
        state = state if state.metrics else self.prepare(state, batch)
        return self.one.lower(state.flat, state.key_data, batch)

    # ------------------------------------------------------------------------------------ the programs

    def _one(self, flat: Flat, key_data: jax.Array, batch: Batch) -> Any:
        live = self.step(flat.live, key_data, batch, impl=flat.form.impl)
        return Flat.of(live, flat.form.impl), self._logs(live, batch)

    def _nth(self, flat: Flat, key_data: jax.Array, batches: Batch, first: jax.Array) -> Flat:
        batch = _cut(batches, flat.live.step - first)
        live = self.step(flat.live, key_data, batch, impl=flat.form.impl)
        return Flat.of(live, flat.form.impl)

    def _many(self, flat: Flat, key_data: jax.Array, batches: Batch, start: Any, count: Any) -> Any:
        def body(i: Any, live: Live) -> Live:
            return self.step(live, key_data, _cut(batches, i), impl=flat.form.impl)

        live = jax.lax.fori_loop(start, start + count, body, flat.live)
        return Flat.of(live, flat.form.impl), self._logs(live, one_of(batches))

    def _logs(self, live: Live, batch: Batch) -> dict[str, jax.Array]:
        review = self.tasks.review(live.params, live.state, batch)
        return self.tasks.logs(review.plans, live.metrics) | _scale_in_logs(live.loss_scale)

    def _ended(self, review: Review, flat: Flat, epoch: jax.Array) -> Ended:
        live = flat.live
        each = named(live.metrics, self.tasks.names).values()
        counts = [value_of(own["means"])[:, 1].sum() for own in each]
        return Ended(
            logs=self._logs(live, review.batch),
            finite=finite((live.params, live.state)),
            counted=jnp.asarray(live.loss_scale is None or sum(counts) > 0),
            metrics=self.tasks.accumulators(live.params, live.state, review.batch),
            epoch=epoch + 1,
            epoch_start=live.step + 0,  # an array of its own
        )

    def _step(self, live: Live, key_data: jax.Array, batch: Batch, impl: str) -> Live:
        """One step: for each task in turn its gradients and its update."""
        dynamic = self.scaling == "dynamic"
        factor = scale_of(live.loss_scale) if dynamic else self.scaling
        key, names = None, self.tasks.names
        if self.tasks.draws or (self.options.augment is not None and self.options.augment.draws):
            key = jax.random.fold_in(jax.random.wrap_key_data(key_data, impl=impl), live.step)
        if self.options.augment is not None:
            batch = augmented(self.options.augment, batch, key)
        params, state = live.params, live.state
        opt_states, metrics = named(live.opt_state, names), named(live.metrics, names)
        good = jnp.array(True)
        for update in self.tasks.updates:
            name, measures = update.name, self.tasks.measures[update.name]
            asked, seen = self.tasks.probes.get(name, ()), dict(metrics[name])
            so_far = seen.pop(PROBES, None)
            gradients = gradients_of(
                update,
                params,
                state,
                seen,
                batch,
                self.tasks.key_of(update, key),
                observe=lambda acc, loss, part, m=measures: m.update(m.plan(loss), acc, loss, part),
                accumulate=self.options.accumulate,
                factor=factor,
            )
            moved, opt_state = update(
                gradients.values, gradients.loss, opt_states[name], params, live.rate_factor
            )
            new = moved, gradients.state, opt_state, gradients.metrics
            if dynamic:  # where anything overflows, nothing but the scale moves
                counts = jnp.isfinite(gradients.loss)
                good = good & counts & finite(gradients.values)
                new = (
                    *kept(good, new[:3], (params, state, opt_states[name])),
                    kept(counts, new[3], seen),
                )
            if asked:
                before, after = update.split(params)[0], update.split(moved)[0]
                now = Moment(
                    gradients.values, before, after, gradients.loss, opt_states[name], live.rate_factor
                )
                values = probed(asked, so_far, now)
                new[3][PROBES] = kept(good, values, so_far) if dynamic else values
            params, state, opt_states[name], metrics[name] = new
        average = live.average
        if self.options.ema is not None:
            average = averaged(average, params, self.options.ema)
        return Live(
            params=params,
            state=state,
            opt_state=unnamed(opt_states),
            step=live.step + 1,
            metrics=unnamed(metrics),
            loss_scale=live.loss_scale.after(good) if dynamic and live.loss_scale else live.loss_scale,
            average=average,
            rate_factor=live.rate_factor,
        )


class EvalStep:
    """`step(params, model_state, accumulators, batch) -> (accumulators, logs)`; see `make_eval_step`."""

    def __init__(self, tasks: Tasks):
        self.tasks = tasks
        self.step = jax.jit(self._step)
        self.one = jax.jit(self._one, donate_argnums=2)
        self.many = jax.jit(self._many, donate_argnums=2)
        self.programs = [self.one, self.many]

    @property
    def compilations(self) -> int:
        """The number of programs that it holds: one for each form of batches that it has seen."""
        return _compilations(self.programs)

    def __call__(
        self, params: Any, state: Any, accumulators: Any, batch: Any, key: Any = None
    ) -> tuple[Any, dict[str, jax.Array]]:
        batch = Batch(*batch)
        return self.one(
            params, state, accumulators or self.tasks.accumulators(params, state, batch), batch, key
        )

    def run(
        self, params: Any, state: Any, accumulators: Any, batches: Any, count: int | None = None
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Several steps in one dispatch, over batches stacked in front; see `TrainStep.run`."""
        batches = Batch(*batches)
        steps = _counted(batches, count)
        accumulators = accumulators or self.tasks.accumulators(params, state, one_of(batches))
        return self.many(params, state, accumulators, batches, steps)

    def _one(self, params: Any, state: Any, acc: Any, batch: Batch, key: Any) -> Any:
        acc = self.step(params, state, acc, batch, key)
        return acc, self.tasks.logs(self.tasks.review(params, state, batch).plans, acc)

    def _many(self, params: Any, state: Any, acc: Any, batches: Batch, count: Any) -> Any:
        def body(i: Any, acc: Any) -> Any:
            return self.step(params, state, acc, _cut(batches, i), None)

        acc = jax.lax.fori_loop(0, count, body, acc)
        return acc, self.tasks.logs(self.tasks.review(params, state, one_of(batches)).plans, acc)

    def _step(self, params: Any, state: Any, acc: Any, batch: Batch, key: Any) -> Any:
        new = {}
        for update in self.tasks.updates:
            loss, _ = update.task.loss(params, state, batch, self.tasks.key_of(update, key), False)
            measures = self.tasks.measures[update.name]
            old = named(acc, self.tasks.names)[update.name]
            new[update.name] = measures.update(measures.plan(loss), old, loss, batch)
        return unnamed(new)


class PredictStep:
    """`step(params, model_state, x, key=None, train=False) -> outputs`; see `make_predict_step`."""

    def __init__(self, model: Layer):
        def step(params: Any, state: Any, x: Any, key: Any = None, train: bool = False) -> Any:
            return model.apply(params, state, *inputs_of(x), key=key, train=train)[0]

        self.model = model
        # A program without a key and options is the cheapest to call.
        self.one: Any = jax.jit(lambda params, state, x: step(params, state, x))
        self.drawing: Any = jax.jit(step, static_argnames="train")
        self._lookups: dict[Any, dict[str, Lookup]] = {}

    @property
    def compilations(self) -> int:
        """The number of programs that it holds: one for each form of inputs that it has seen."""
        return _compilations([self.one, self.drawing])

    def __call__(self, params: Any, state: Any, x: Any, key: Any = None, train: bool = False) -> Any:
        if key is None and not train:
            return self.one(params, state, x)
        return self.drawing(params, state, x, key, train=train)

    def lookups(self, params: Any, state: Any, x: Any, key: Any = None) -> dict[str, Lookup]:
        """The inputs that go into tables, from one trace for each form of x."""
        leaves, form = jax.tree.flatten(as_spec(x))
        site = (form, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves))
        if site not in self._lookups:
            found: dict[str, Lookup] = {}

            def forward(params: Any, state: Any, x: Any, key: Any) -> Any:
                with observed_calls() as calls:
                    y, _ = self.model.apply(params, state, *inputs_of(x), key=key)
                found.update(lookups_of(x, [*calls, ("", self.model, inputs_of(x), y)]))
                return y

            jax.eval_shape(forward, params, state, as_spec(x), key)
            self._lookups[site] = found
        return self._lookups[site]


def _compilations(programs: Iterable[Any]) -> int:
    return sum(program._cache_size() for program in programs)
