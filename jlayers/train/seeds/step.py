"""The compiled programs of a training with several seeds: the step of one, over a stack of states.

The arrays of the data lie on the device once. What passes through a dispatch are numbers of rows, `(seeds,
batch)` where each seed has an order of its own, and `(batch,)` where all have the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jlayers.core.tree import count
from jlayers.data.batches import Batch, Batches
from jlayers.inspect.flops import primitives
from jlayers.metrics.totals import value_of
from jlayers.train.feed import SMALL, SMALL_ELSEWHERE, STEPS, Calls, StepsPerCall
from jlayers.train.scaling import finite
from jlayers.train.seeds.states import AXES, live_axes, repeated, spec_of_one
from jlayers.train.seeds.watch import read_each
from jlayers.train.state import Flat, Live, TrainState, named
from jlayers.train.step import Ended, EvalStep, TrainStep
from jlayers.train.tasks import Review

__all__ = [
    "SEEDS",
    "SeedsEvalStep",
    "SeedsStep",
    "each",
    "evaluated_each",
    "mesh_for",
    "on_devices",
    "state_on_devices",
]

SEEDS = "seeds"  # the axis of a mesh that the seeds are cut over


def mesh_for(seeds: int, devices: Sequence[Any] | None = None) -> Any:
    """As many devices as cut the seeds evenly; None for one."""
    devices = jax.devices() if devices is None else list(devices)
    number = max(n for n in range(1, min(seeds, len(devices)) + 1) if seeds % n == 0)
    return None if number == 1 else jax.sharding.Mesh(np.array(devices[:number]), (SEEDS,))


def on_devices(mesh: Any, tree: Any, *cut: str) -> Any:
    """The arrays on all devices of a mesh, whole or cut along these axes."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P(*cut)))


def state_on_devices(mesh: Any, stack: TrainState) -> TrainState:
    """Stacked states, each seed on its device."""
    if mesh is None:
        return stack
    live = stack.live
    cut = on_devices(mesh, live._replace(step=None), SEEDS)
    step, epoch, start = on_devices(mesh, (live.step, stack.epoch, stack.epoch_start))
    return TrainState(
        Flat.of(cut._replace(step=step), stack.impl), on_devices(mesh, stack.key_data, SEEDS), epoch, start
    )


def each(function: Callable[..., Any], in_axes: Any, out_axes: Any, unrolled: bool) -> Callable[..., Any]:
    """`jax.vmap`, or one call after the other in the same program, for what a loop over seeds does faster."""
    if not unrolled:
        return jax.vmap(function, in_axes, out_axes)
    empty = lambda leaf: leaf is None  # noqa: E731

    def called(*arguments: Any) -> Any:
        axes = [
            jax.tree.broadcast(a, argument, is_leaf=empty)
            for a, argument in zip(in_axes, arguments, strict=True)
        ]

        def one(place: int) -> Any:
            return function(
                *(
                    jax.tree.map(lambda axis, leaf: leaf if axis is None else leaf[place], a, argument,
                                 is_leaf=empty)
                    for a, argument in zip(axes, arguments, strict=True)
                )
            )  # fmt: skip

        cut = [
            leaf.shape[0]
            for a, argument in zip(axes, arguments, strict=True)
            for axis, leaf in zip(
                jax.tree.leaves(a, is_leaf=empty), jax.tree.leaves(argument, is_leaf=empty), strict=True
            )
            if axis is not None and leaf is not None
        ]
        made = [one(place) for place in range(cut[0])]
        axes_out = jax.tree.broadcast(out_axes, made[0], is_leaf=empty)
        return jax.tree.map(
            lambda axis, *leaves: leaves[0] if axis is None else jnp.stack(leaves),
            axes_out, *made, is_leaf=empty,
        )  # fmt: skip

    return called


class Programs(NamedTuple):
    """The programs that a `Runner` calls: `one(flat, key_data, rows)` and so on; see `TrainStep`."""

    one: Callable[..., Any]
    nth: Callable[..., Any]
    many: Callable[..., Any]
    logs: Callable[..., Any]


class SeedsStep:
    """The programs of `TrainStep`, for many seeds at a time; they donate the state that they are given.

    Args:
        step: step of one seed.
        review: what is known of its batches.
        state: state of one seed, accumulators included.
        mesh: the devices that the seeds are cut over, or None for one device.
    """

    def __init__(self, step: TrainStep, review: Review, state: TrainState, mesh: Any = None):
        self.step, self.review, self.mesh, self.impl = step, review, mesh, state.impl
        self.zeros = jax.tree.map(np.asarray, state.metrics)
        traced = jax.make_jaxpr(functools.partial(step.step, impl=self.impl))(
            state.live, state.key_data, review.batch
        )
        # XLA has no fast form of a convolution with a kernel for each image, and none in a loop; see feed.py.
        self.unrolled = _on_cpu() and "conv_general_dilated" in primitives(traced)
        compiled = functools.partial(jax.jit, donate_argnums=1)
        self.one, self.nth, self.many = map(compiled, (self._run_one, self._run_nth, self._run_many))
        self.logs = jax.jit(lambda flat: self._logs(flat.live))
        self._end = jax.jit(self._run_end)

    @classmethod
    def of(cls, step: TrainStep, review: Review, state: TrainState, mesh: Any = None) -> SeedsStep:
        """The programs for such batches, made once and kept with the step of one seed."""
        kept = vars(step).setdefault("_of_seeds", {})
        if (site := (id(review), state.impl, mesh)) not in kept:
            kept[site] = cls(step, review, state, mesh)
        return kept[site]

    def on(self, data: Batch) -> Programs:
        """The programs on these samples, which lie on the device."""
        one, nth, many = (functools.partial(program, data) for program in (self.one, self.nth, self.many))
        return Programs(one, nth, many, lambda flat, rows: self.logs(flat))

    def end(self, state: TrainState) -> Ended:
        """As `TrainStep.end`, with an axis of seeds in what each seed has of its own."""
        return self._end(state.flat, state.epoch)

    def calls(self, steps: StepsPerCall, state: TrainState, of_epoch: int) -> Calls:
        """As many steps per call as were asked for, or as many as pay; see `jlayers.train.feed`."""
        work = count(state.params) * jax.tree.leaves(self.review.batch)[0].shape[0]
        small = work <= (SMALL["cpu"] if _on_cpu() else SMALL_ELSEWHERE)
        together = max(1, min(of_epoch, STEPS if steps == "auto" else steps))
        if self.unrolled or together == 1 or (steps == "auto" and not small):
            return Calls(1 if steps == "auto" else together, block=min(of_epoch, STEPS))
        return Calls(together, looped=True, block=together)

    # ------------------------------------------------------------------------------------ the programs

    def _run_one(self, data: Batch, flat: Flat, key_data: Any, rows: Any) -> Any:
        return self._cut(self._moved)(data, flat.live, key_data, rows)

    def _run_nth(self, data: Batch, flat: Flat, key_data: Any, rows: Any, first: Any) -> Flat:
        here = jax.lax.dynamic_index_in_dim(rows, flat.live.step - first, keepdims=False)
        return self._run_one(data, flat, key_data, here)[0]

    def _run_many(self, data: Batch, flat: Flat, key_data: Any, rows: Any, start: Any, count: Any) -> Any:
        def loop(data: Batch, live: Live, keys: Any, rows: Any, start: Any, count: Any) -> Live:
            def body(i: Any, live: Live) -> Live:
                here = jax.lax.dynamic_index_in_dim(rows, i, keepdims=False)
                return self._moved(data, live, keys, here)

            return jax.lax.fori_loop(start, start + count, body, live)

        return self._cut(loop, stacked=1)(data, flat.live, key_data, rows, start, count)

    def _moved(self, data: Batch, live: Live, key_data: Any, rows: Any) -> Live:
        """One step of each seed."""
        step = lambda live, key, batch: self.step.step(live, key, batch, impl=self.impl)  # noqa: E731
        axes = (AXES, 0, None if rows.ndim == 1 else 0)
        return each(step, axes, AXES, self.unrolled)(live, key_data, taken(data, rows))

    def _cut(self, function: Callable[..., Live], stacked: int = 0) -> Callable[..., Any]:
        """The function, on each device over its seeds, and the logs of the state that it gives."""

        def run(data: Batch, live: Live, key_data: Any, rows: Any, *numbers: Any) -> Any:
            of_live = live_axes(P(SEEDS), P())
            own = P(*[None] * stacked, SEEDS) if rows.ndim > 1 + stacked else P()
            moved = function
            if self.mesh is not None:
                moved = jax.shard_map(
                    function,
                    mesh=self.mesh,
                    in_specs=(P(), of_live, P(SEEDS), own, *(P() for _ in numbers)),
                    out_specs=of_live,
                    check_vma=False,
                )
            live = moved(data, live, key_data, rows, *numbers)
            return Flat.of(live, self.impl), self._logs(live)

        return run

    def _logs(self, live: Live) -> dict[str, jax.Array]:
        plans = self.review.plans
        logs = jax.vmap(lambda metrics: self.step.tasks.logs(plans, metrics))(live.metrics)
        return logs if live.loss_scale is None else logs | {"loss_scale": live.loss_scale.scale}

    def _run_end(self, flat: Flat, epoch: Any) -> Ended:
        live, tasks = flat.live, self.step.tasks

        def own(live: Live) -> tuple[Any, Any]:
            each_task = named(live.metrics, tasks.names).values()
            counts = [value_of(own["means"])[:, 1].sum() for own in each_task]
            return finite((live.params, live.state)), jnp.asarray(live.loss_scale is None or sum(counts) > 0)

        healthy, counted = jax.vmap(own, in_axes=(AXES,))(live)
        seeds = healthy.shape[0]
        return Ended(
            logs=self._logs(live),
            finite=healthy,
            counted=counted,
            metrics=jax.tree.map(lambda a: jnp.broadcast_to(a, (seeds, *a.shape)), self.zeros),
            epoch=epoch + 1,
            epoch_start=live.step + 0,
        )


class SeedsEvalStep:
    """The program of `EvalStep`, for many seeds at a time on the same batches.

    Args:
        step: step of one seed.
        review: what is known of the batches.
        unrolled: see `each`.
    """

    def __init__(self, step: EvalStep, review: Review, unrolled: bool = False):
        self.step, self.review, self.unrolled = step, review, unrolled
        self.one = jax.jit(self._one, donate_argnums=2)
        self.many = jax.jit(self._many, donate_argnums=2)
        self.logs = jax.jit(jax.vmap(functools.partial(step.tasks.logs, review.plans)))

    @classmethod
    def of(cls, step: EvalStep, review: Review, unrolled: bool = False) -> SeedsEvalStep:
        """The programs for such batches, made once and kept with the step of one seed."""
        kept = vars(step).setdefault("_of_seeds", {})
        site = (id(review), unrolled)
        if site not in kept:
            kept[site] = cls(step, review, unrolled)
        return kept[site]

    def accumulators(self, params: Any, state: Any, seeds: int) -> Any:
        """At zero, for each seed."""
        own = (spec_of_one(params), spec_of_one(state), self.review.batch)
        zeros = self.step.tasks.accumulators(*own)
        return repeated(zeros, seeds)

    def _one(self, params: Any, state: Any, acc: Any, batch: Batch, keys: Any) -> Any:
        axes = (0, 0, 0, None, None if keys is None else 0)
        return each(self.step.step, axes, 0, self.unrolled)(params, state, acc, batch, keys)

    def _many(self, params: Any, state: Any, acc: Any, batches: Batch, count: Any) -> Any:
        def body(i: Any, acc: Any) -> Any:
            batch = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches)
            return self._one(params, state, acc, batch, None)

        return jax.lax.fori_loop(0, count, body, acc)


def evaluated_each(
    step: SeedsEvalStep,
    params: Any,
    state: Any,
    data: Batches,
    seeds: int,
    together: int = 1,
    keys: Any = None,
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


def taken(data: Batch, rows: Any) -> Batch:
    """The rows of all arrays by their numbers."""

    def of(a: Any) -> Any:
        flat = a.reshape(a.shape[0], -1)  # XLA's CPU compiler takes rows of one axis many times as fast
        return flat.at[rows].get(mode="promise_in_bounds").reshape(*rows.shape, *a.shape[1:])

    return jax.tree.map(of, data)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
