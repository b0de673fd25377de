"""The steps of training, evaluation and prediction: pure functions, compiled once.

`fit` calls them and so may anyone; a loop of one's own over `make_train_step` is a full replacement.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jlayers import optimizers
from jlayers.core.layer import Layer
from jlayers.data.batches import Batch
from jlayers.train.augment import augmented, check_augment
from jlayers.train.objective import Objective, Plan
from jlayers.train.scaling import LossScale, LossScaleLike, chosen, held, scale_of, scaled, unscaled
from jlayers.train.state import Moved, TrainState, copied, inputs_of, merge, moved, split

__all__ = ["EvalStep", "TrainStep", "make_eval_step", "make_predict_step", "make_train_step"]


class _Step:
    """A compiled step, with the objective that it was made for."""

    def __init__(self, jitted: Any, objective: Objective):
        self.jitted = jitted
        self.objective = objective
        self._zeros: Callable[[], dict[str, Any]] | None = None

    @property
    def compilations(self) -> int:
        """How many programs it holds: one for each shape of batches that it has seen."""
        return sum(program._cache_size() for program in self._programs())

    def _programs(self) -> Iterable[Any]:
        return [self.jitted]

    def accumulators(self, params: Any, state: Any, x: Any) -> dict[str, Any]:
        """Of everything in the logs, at zero."""
        if self._zeros is None:  # the structure of the outputs is a fact of the model
            plan = self.objective.plan(self.objective.outputs(params, state, x))
            self.objective.check_endings(plan)
            self._zeros = jax.jit(lambda: self.objective.init(plan))
        return self._zeros()


def _one_of(batches: Batch) -> Batch:
    """The form of one of the stacked batches."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), batches)


def _cut(batches: Batch, i: Any) -> Batch:
    """Number `i` of the stacked batches."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches)


def _scale_in_logs(scale: LossScale | None) -> dict[str, jax.Array]:
    return {} if scale is None else {"loss_scale": scale.scale}


def _counted(batches: Batch, count: int | None) -> int:
    steps: int = jax.tree.leaves(batches.x)[0].shape[0]
    count = steps if count is None else count
    if not 1 <= count <= steps:
        raise ValueError(f"expected a count of 1 to {steps} stacked batches, received count={count!r}")
    return count


def _loop(step: Callable[[Any, Batch], tuple[Any, Any]], carry: Any, batches: Batch, count: jax.Array) -> Any:
    """The carry and the logs after so many steps. The count is traced, so that one program serves any."""

    def nth(i: Any, reached: Any) -> Any:
        return step(reached[0], _cut(batches, i))

    _, logs = jax.eval_shape(lambda: nth(0, (carry, None)))
    none_yet = jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), logs)
    return jax.lax.fori_loop(0, count, nth, (carry, none_yet))


class TrainStep(_Step):
    """`step(state, batch) -> (state, logs)`; see `make_train_step`.

    What passes through a dispatch costs a small step a good part of its time. So the compiled programs take
    and give what a step moves alone, and the bits of the key: a typed key takes JAX's slow way in.

    Attributes:
        jitted: the step as a function of the whole state, which wants accumulators in place (`prepare`);
            the programs call it, and a caller's own compiled loop may.
        once: the compiled program of one step.
        looped: that of steps over stacked batches, in a loop.
        unrolled: the same, written out.
        objective: the losses and metrics.
    """

    def __init__(self, jitted: Any, objective: Objective):
        super().__init__(jitted, objective)
        self.once = jax.jit(self._step, donate_argnums=0, static_argnums=2)
        self.looped = jax.jit(self._looped, donate_argnums=0, static_argnums=2)
        self.unrolled = jax.jit(self._unrolled, donate_argnums=0, static_argnums=(2, 4))
        self.nths: dict[Any, Any] = {}
        self._logs: Any = None
        self._bits: tuple[Any, Any, Any] = (None, None, None)

    def _programs(self) -> Iterable[Any]:
        return [self.jitted, self.once, self.looped, self.unrolled, *self.nths.values()]

    def prepare(self, state: TrainState, batch: Any) -> TrainState:
        """The state with accumulators at zero; what a `lax.scan` over steps starts from."""
        return state.replace(metrics=self.accumulators(state.params, state.state, Batch(*batch).x))

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        if not isinstance(batch, Batch):
            batch = Batch(*batch)
        if not state.metrics:
            state = self.prepare(state, batch)
        values, logs = self.once(moved(state), *self._key(state), batch)
        return state.after(values), logs

    def run(
        self, state: TrainState, batches: Any, count: int | None = None, *, unroll: bool = False
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Several steps in one dispatch; the state and the logs are those of that many calls, bit for bit.

        Args:
            state: is donated.
            batches: stacked, `(steps, batch, ...)`.
            count: how many of them to take, from the first on; all if not given. Another count compiles
                nothing new in a loop.
            unroll: write the steps out one after the other instead of in a loop, in which a CPU runs
                convolutions badly. It takes as many times as long to compile, and rounding may differ.

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
        count = _counted(batches, count)
        if not state.metrics:
            state = self.prepare(state, _one_of(batches))
        call = (moved(state), *self._key(state), batches)
        values, logs = self.unrolled(*call, count) if unroll else self.looped(*call, np.int32(count))
        return state.after(values), logs

    def each(
        self, state: TrainState, blocks: Iterable[tuple[Batch, int]]
    ) -> Iterator[Callable[[], TrainState]]:
        """The steps over blocks of stacked batches, a dispatch for each; gives the state when called for.

        The dispatches of a block are given the same arrays, so that the host neither cuts nor moves a batch.
        What a step moves stays a flat list, and there are no logs: dicts among the results cost time, too.

        Args:
            state: is donated.
            blocks: of one shape, each with the number of its batches that count: all but in the last one.

        Yields:
            after each step a function that makes the state after it, until the next step is taken.
        """
        blocks = iter(blocks)
        for head in itertools.islice(blocks, 1):
            if not state.metrics:
                state = self.prepare(state, _one_of(head[0]))
            blocks = itertools.chain([head], blocks)
        leaves, form = jax.tree.flatten(moved(state))
        (key, impl), first = self._key(state), copied(state.step)
        nth = self._nth(form, impl)

        def now() -> TrainState:
            return state.after(jax.tree.unflatten(form, leaves))

        for batches, count in blocks:
            batches = jax.device_put(batches)
            for _ in range(count):
                leaves = nth(leaves, key, batches, first)
                yield now

    def logs(self, state: TrainState, plan: Plan) -> dict[str, jax.Array]:
        """The logs that a step to this state has given, from its accumulators."""
        if self._logs is None:  # the plan is a fact of the model
            result = self.objective.result
            self._logs = jax.jit(lambda metrics, scale: result(plan, metrics) | _scale_in_logs(scale))
        return self._logs(state.metrics, state.loss_scale)

    def _key(self, state: TrainState) -> tuple[jax.Array, Any]:
        """The bits of the state's key, and its kind. No step moves the key, so one look serves a run."""
        key, *bits = self._bits
        if key is not state.key:
            bits = jax.random.key_data(state.key), jax.random.key_impl(state.key)
            if not isinstance(bits[0], Tracer):  # of a caller's own trace, which ends
                self._bits = state.key, *bits
        return bits[0], bits[1]

    def _step(self, values: Moved, key: jax.Array, impl: Any, batch: Batch) -> tuple[Moved, dict[str, Any]]:
        params, state, opt_state, number, metrics, scale = values
        key, unread = jax.random.wrap_key_data(key, impl=impl), jnp.zeros((), jnp.int32)
        whole = TrainState(params, state, opt_state, number, key, unread, unread, metrics, scale)
        state, logs = self.jitted(whole, batch)
        return moved(state), logs

    def _looped(self, values: Moved, key: jax.Array, impl: Any, batches: Batch, count: jax.Array) -> Any:
        return _loop(lambda values, batch: self._step(values, key, impl, batch), values, batches, count)

    def _unrolled(self, values: Moved, key: jax.Array, impl: Any, batches: Batch, count: int) -> Any:
        logs: dict[str, jax.Array] = {}
        for i in range(count):
            values, logs = self._step(values, key, impl, jax.tree.map(lambda a, i=i: a[i], batches))
        return values, logs

    def _nth(self, form: Any, impl: Any) -> Any:
        """The compiled step on that one of stacked batches which follows from the steps done."""

        def nth(leaves: list[Any], key: jax.Array, batches: Batch, first: jax.Array) -> Any:
            values: Moved = jax.tree.unflatten(form, leaves)
            i = (values[3] - first) % jax.tree.leaves(batches.x)[0].shape[0]
            values, _ = self._step(values, key, impl, _cut(batches, i))
            return jax.tree.leaves(values)

        if (form, impl) not in self.nths:
            self.nths[form, impl] = jax.jit(nth, donate_argnums=0)
        return self.nths[form, impl]

    def lower(self, state: TrainState, batch: Any) -> Any:
        """As `jax.jit(step).lower`: for cost analysis and the compiled text."""
        batch = Batch(*batch)
        return self.jitted.lower(state if state.metrics else self.prepare(state, batch), batch)


class EvalStep(_Step):
    """`step(params, model_state, accumulators, batch) -> (accumulators, logs)`; see `make_eval_step`."""

    def __init__(self, jitted: Any, objective: Objective):
        super().__init__(jitted, objective)
        self.looped = jax.jit(self._looped, donate_argnums=2)

    def _programs(self) -> Iterable[Any]:
        return [self.jitted, self.looped]

    def __call__(self, params: Any, state: Any, accumulators: Any, batch: Any) -> tuple[Any, Any]:
        if not isinstance(batch, Batch):
            batch = Batch(*batch)
        return self.jitted(params, state, accumulators or self.accumulators(params, state, batch.x), batch)

    def run(
        self, params: Any, state: Any, accumulators: Any, batches: Any, count: int | None = None
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Several steps in one dispatch, over batches stacked in front; see `TrainStep.run`."""
        batches = Batch(*batches)
        count = _counted(batches, count)
        accumulators = accumulators or self.accumulators(params, state, _one_of(batches).x)
        return self.looped(params, state, accumulators, batches, np.int32(count))

    def _looped(self, params: Any, state: Any, accumulators: Any, batches: Batch, count: jax.Array) -> Any:
        def step(accumulators: Any, batch: Batch) -> Any:
            return self.jitted(params, state, accumulators, batch)

        return _loop(step, accumulators, batches, count)


def make_train_step(
    model: Layer,
    loss: Any,
    optimizer: Any,
    metrics: Any = (),
    *,
    loss_weights: Any = None,
    weighted_metrics: Any = (),
    augment: Layer | None = None,
    loss_scale: LossScaleLike = "auto",
) -> TrainStep:
    """One optimizer step as a compiled function that donates the state it is given.

    The loss is the mean over the batch's real rows, plus the regularisers (`model.penalty`) and the
    `aux_loss` leaves of the new state, neither divided by anything. Gradients are taken for trained
    parameters alone, so XLA drops the backward pass below frozen layers. Constraints (`model.constrain`) are
    imposed after the update. Random layers draw from `fold_in(state.key, state.step)`.

    Args:
        model: any layer.
        loss: by name or object; for several outputs a list or a dict by output name.
        optimizer: by name or object, or a list of them in order.
        metrics: by name or object; for several outputs a list with one entry per output, or a dict.
        loss_weights: factors of the outputs' losses.
        weighted_metrics: metrics in which sample weights count.
        augment: a layer from `(x, y)` to `(x, y)`, such as `jl.MixUp()`, for each batch; without parameters.
        loss_scale: factor of the loss while its gradient is taken; see `jl.compile`.

    Returns:
        `step(state, batch) -> (state, logs)`. `logs` are float32 scalars on the device: the loss and the
        metrics since the state's accumulators were last reset (`state.replace(metrics={})`). The loss of a
        model that computes in float64 is float64. A dynamic `loss_scale` is among the logs.

    Example: a loop of one's own.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> model = jl.Dense(1)
    >>> step = jl.make_train_step(model, "mse", jl.optimizers.sgd(0.1))
    >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    >>> state = jl.TrainState.create(model, jl.optimizers.sgd(0.1), jax.random.key(0), x)
    >>> for _ in range(300):
    ...     state, logs = step(state.replace(metrics={}), jl.Batch(x, 2 * x + 1))
    >>> bool(logs["loss"] < 1e-3), int(state.step)
    (True, 300)
    """
    transformation = optax.with_extra_args_support(optimizers.get(optimizer))
    objective = Objective(model, loss, metrics, loss_weights, weighted_metrics)
    check_augment(augment)
    draws = model.draws or (augment is not None and augment.draws)
    scaling = chosen(model, loss_scale)
    dynamic = scaling == "dynamic"

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        trained, frozen = split(model, state.params)
        factor = scale_of(state) if dynamic else scaling
        key = jax.random.fold_in(state.key, state.step) if draws else None
        if augment is not None:
            batch = augmented(augment, batch, key)

        def total_loss(trained: Any) -> tuple[jax.Array, Any]:
            params = merge(trained, frozen)
            y_pred, moved = model.apply(params, state.state, *inputs_of(batch.x), key=key, train=True)
            plan = objective.plan(y_pred)
            total, parts = objective.loss(plan, y_pred, batch)
            total = total + objective.extra(params, moved).astype(total.dtype)
            return scaled(total, factor), (y_pred, moved, {"loss": total, **parts})

        (_, (y_pred, moved, parts)), gradients = jax.value_and_grad(total_loss, has_aux=True)(trained)
        gradients = unscaled(gradients, factor)
        with optimizers.lenient():
            updates, opt_state = transformation.update(
                gradients, state.opt_state, trained, value=parts["loss"], grad=gradients
            )
            moved_params: Any = optax.apply_updates(trained, updates)
        plan = objective.plan(y_pred)
        accumulators = objective.update(plan, state.metrics, parts, y_pred, batch)
        new = state.replace(
            params=model.constrain(merge(moved_params, frozen)),
            state=moved,
            opt_state=opt_state,
            step=state.step + 1,
            metrics=accumulators,
        )
        if dynamic:
            new = held(state, new, gradients, parts["loss"])
        return new, objective.result(plan, new.metrics) | _scale_in_logs(new.loss_scale)

    return TrainStep(jax.jit(step, donate_argnums=0), objective)


def make_eval_step(
    model: Layer,
    loss: Any,
    metrics: Any = (),
    *,
    loss_weights: Any = None,
    weighted_metrics: Any = (),
) -> EvalStep:
    """A compiled forward pass in inference mode that adds one batch to the loss and the metrics.

    Args:
        model: any layer.
        loss: as in `make_train_step`.
        metrics: as in `make_train_step`.
        loss_weights: as in `make_train_step`.
        weighted_metrics: as in `make_train_step`.

    Returns:
        `step(params, model_state, accumulators, batch) -> (accumulators, logs)`; start with None for the
        accumulators, which each call donates.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> model = jl.Dense(1, kernel_initializer="zeros")
    >>> params, state = model.init(jax.random.key(0), (4, 1))
    >>> step = jl.make_eval_step(model, "mse", metrics=["mae"])
    >>> accumulators, logs = step(params, state, None, jl.Batch(jnp.ones((4, 1)), 2 * jnp.ones((4, 1))))
    >>> {name: float(value) for name, value in logs.items()}
    {'loss': 4.0, 'mae': 2.0}
    """
    objective = Objective(model, loss, metrics, loss_weights, weighted_metrics)

    def step(params: Any, state: Any, accumulators: Any, batch: Batch) -> tuple[Any, dict[str, jax.Array]]:
        y_pred, moved = model.apply(params, state, *inputs_of(batch.x))
        plan = objective.plan(y_pred)
        total, parts = objective.loss(plan, y_pred, batch)
        parts = {"loss": total + objective.extra(params, moved).astype(total.dtype), **parts}
        accumulators = objective.update(plan, accumulators, parts, y_pred, batch)
        return accumulators, objective.result(plan, accumulators)

    return EvalStep(jax.jit(step, donate_argnums=2), objective)


def make_predict_step(model: Layer) -> Callable[..., Any]:
    """The compiled forward pass in inference mode: `step(params, model_state, x) -> outputs`.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> model = jl.Dense(3)
    >>> params, state = model.init(jax.random.key(0), (4, 2))
    >>> jl.make_predict_step(model)(params, state, jnp.ones((4, 2))).shape
    (4, 3)
    """

    def step(params: Any, state: Any, x: Any) -> Any:
        return model.apply(params, state, *inputs_of(x))[0]

    return jax.jit(step)
