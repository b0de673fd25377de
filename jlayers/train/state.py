"""Everything that a training run carries from one step to the next, in one pytree of plain arrays."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jlayers import optimizers
from jlayers.core.errors import about
from jlayers.core.habits import missing_in
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec, is_shape
from jlayers.core.tree import flatten
from jlayers.train.scaling import LossScale, LossScaleLike, first_scale
from jlayers.train.update import Update

__all__ = [
    "DONATED",
    "Flat",
    "HostCopy",
    "Live",
    "TrainState",
    "carried_over",
    "copied",
    "first_opt_state",
    "inputs_of",
    "named",
    "unnamed",
]


def inputs_of(x: Any) -> tuple[Any, ...]:
    """The positional inputs of a model: a tuple or list is several of them."""
    return tuple(x) if isinstance(x, (tuple, list)) and not is_shape(x) else (x,)


@jax.jit  # one dispatch instead of one per array, and cheaper than jax.device_put
def copied(tree: Any) -> Any:
    """The pytree with arrays of its own, so that a step that donates its input leaves the other one alone."""
    return jax.tree.map(_copy, tree)


def _copy(leaf: Any) -> jax.Array:
    """As `jnp.copy`, which compiles a program for each shape."""
    return jax.device_put(leaf, may_alias=False)


class Live(NamedTuple):
    """The part of a `TrainState` that a step changes, and that passes through each dispatch.

    Attributes:
        params: the parameters, frozen ones included.
        state: what forward passes move, such as running statistics.
        opt_state: state of the optimizer, for the trained parameters only; by task if there are several.
        step: int32, steps taken, those that a dynamic loss scale left without an update included.
        metrics: accumulators of the losses and metrics since they were last reset; empty before the first.
        loss_scale: the factor of the loss and its history if it is dynamic, as it is for models that compute
            in float16; else None.
        average: the moving average of the parameters, if the trainer keeps one (`ema`); else None.
        rate_factor: float32, by which the learning rate is multiplied, if a callback may change it; else
            None.
    """

    params: Any
    state: Any
    opt_state: Any
    step: jax.Array
    metrics: Any
    loss_scale: LossScale | None = None
    average: Any = None
    rate_factor: jax.Array | None = None


class Form:
    """All of a `Flat` but its arrays; one object for each structure, which is fast to compare.

    Attributes:
        tree: the places of the leaves.
        impl: the kind of the run's key.
        measured: whether accumulators are in place.
    """

    def __init__(self, tree: Any, impl: str):
        self.tree, self.impl = tree, impl
        live = jax.tree.unflatten(tree, range(tree.num_leaves))
        self.measured = bool(getattr(live, "metrics", None))


_form = functools.cache(Form)


class Flat:
    """A `Live` as dispatches pass it: JAX takes one tuple apart faster than nested dicts.

    >>> flat = Flat.of(Live({"w": 1}, {}, (), 2, {}), "threefry2x32")
    >>> flat.leaves, flat.live.params
    ((1, 2), {'w': 1})
    """

    __slots__ = ("_live", "form", "leaves")

    def __init__(self, form: Form, leaves: tuple[Any, ...]):
        self.form, self.leaves = form, leaves
        self._live: Live | None = None

    @classmethod
    def of(cls, live: Live, impl: str) -> Flat:
        leaves, tree = jax.tree.flatten(live)
        return cls(_form(tree, impl), tuple(leaves))

    @property
    def live(self) -> Live:
        live = self._live
        if live is None:
            live = self._live = jax.tree.unflatten(self.form.tree, self.leaves)
        return live

    def replace(self, **changes: Any) -> Flat:
        """The same with some entries of `live` changed."""
        return Flat.of(self.live._replace(**changes), self.form.impl)

    def __reduce__(self) -> Any:
        return Flat.of, (self.live, self.form.impl)


jax.tree_util.register_pytree_node(Flat, lambda flat: (flat.leaves, flat.form), Flat)


@dataclasses.dataclass(frozen=True)
class TrainState:
    """The values of a training run; a pytree of plain arrays.

    A step donates the state that it takes: use the one that it returns, or give it `state.copy()`. `fit`
    copies first and leaves the state that it was given untouched. The entries of `live` can also be read as
    `state.params`, `state.opt_state` and so on.

    >>> import jlayers as jl, jax
    >>> state = jl.TrainState.create(jl.Dense(3), "adam", jax.random.key(0), (1, 4))
    >>> state.params["kernel"].shape, int(state.step)
    ((4, 3), 0)

    Attributes:
        flat: what a step moves, `live`, in one tuple.
        key_data: uint32, the bits of the run's key. A step draws from `fold_in(state.key, step)`, so the key
            never moves.
        epoch: int32, epochs finished.
        epoch_start: int32, the step at which the current epoch began.
    """

    flat: Flat
    key_data: jax.Array
    epoch: jax.Array
    epoch_start: jax.Array

    if not TYPE_CHECKING:  # which would take any attribute to exist

        def __getattr__(self, name):
            raise missing_in("state", name)

    @property
    def live(self) -> Live:
        return self.flat.live

    params = property(operator.attrgetter("live.params"))
    state = property(operator.attrgetter("live.state"))
    opt_state = property(operator.attrgetter("live.opt_state"))
    step = property(operator.attrgetter("live.step"))
    metrics = property(operator.attrgetter("live.metrics"))
    loss_scale = property(operator.attrgetter("live.loss_scale"))
    average = property(operator.attrgetter("live.average"))

    @property
    def rate_factor(self) -> jax.Array | None:
        return self.live.rate_factor

    @property
    def impl(self) -> str:
        """The kind of the key."""
        return self.flat.form.impl

    @property
    def key(self) -> jax.Array:
        """The typed key of the run."""
        return jax.random.wrap_key_data(self.key_data, impl=self.impl)

    @property
    def position(self) -> jax.Array:
        """Batches of the current epoch that are done."""
        return self.step - self.epoch_start

    @classmethod
    def create(
        cls,
        model: Layer,
        optimizer: Any,
        key: Any,
        x: Any,
        *,
        params: Any = None,
        state: Any = None,
        loss_scale: LossScaleLike = "auto",
    ) -> TrainState:
        """The state before the first step, for `make_train_step` of the same model and optimizer.

        Args:
            model: any layer.
            optimizer: by name or object.
            key: a typed PRNG key, `jax.random.key(seed)`: one half makes the weights, the other the steps.
            x: the model's input, batch included: arrays, `jax.ShapeDtypeStruct`s or shapes; several in a
                tuple or a dict.
            params: weights to start from instead of fresh ones; they are copied, to the dtypes of the model.
            state: the same for the model's state.
            loss_scale: what the step is made with; see `jl.compile`.

        Raises:
            ValueError: given weights that do not fit the model.
        """
        inputs = tuple(map(as_spec, inputs_of(x)))
        updates = [Update.of_model(model, optimizer)]
        scale = first_scale([model], loss_scale)
        return cls.start(updates, key, lambda key: model.init(key, *inputs), params, state, scale)

    @classmethod
    def start(
        cls,
        updates: Sequence[Update],
        key: Any,
        init: Any,
        params: Any = None,
        state: Any = None,
        loss_scale: LossScale | None = None,
        average: bool = False,
    ) -> TrainState:
        """The state before the first step, from a function `init(key) -> (params, state)` and the updates."""
        init_key, step_key = jax.random.split(key)
        whole = params is not None and state is not None
        fresh = jax.eval_shape(init, init_key) if whole else init(init_key)
        params = fresh[0] if params is None else _fitting("params", params, fresh[0])
        state = fresh[1] if state is None else _fitting("state", state, fresh[1])
        live = Live(
            params=params,
            state=state,
            opt_state=first_opt_state(updates, params),
            step=jnp.zeros((), jnp.int32),
            metrics={},
            loss_scale=loss_scale,
            average=copied(params) if average else None,
        )
        zero = jnp.zeros((), jnp.int32)
        bits, impl = jax.random.key_data(step_key), str(jax.random.key_impl(step_key))
        return cls(Flat.of(live, impl), jnp.copy(bits), zero, jnp.copy(zero))

    def replace(self, **changes: Any) -> TrainState:
        """The state with some values changed, its own or those of `live`."""
        moved = {name: changes.pop(name) for name in list(changes) if name in Live._fields}
        if moved:
            changes["flat"] = self.flat.replace(**moved)
        return TrainState(**vars(self) | changes)

    def copy(self) -> TrainState:
        """The state with arrays of its own, which no later step takes away."""
        self.check_alive()
        return copied(self)

    def part(self, name: str) -> tuple[Any, Any]:
        """Parameters and state of one of a task's models, for `jl.predict(model, state.part(name), x)`."""
        return self.params.get(name, {}), self.state.get(name, {})

    def averaged(self) -> TrainState:
        """The state with the averaged weights as its parameters, to evaluate and predict with.

        Raises:
            ValueError: the trainer keeps no average.
        """
        if self.average is None:
            error = ValueError(
                "expected a state with averaged weights, received average=None; pass ema=0.999 to jl.compile"
            )
            raise about(error, average=None)
        return self.replace(params=self.average, opt_state=optimizers.restarted(self.opt_state, self.average))

    def to_evaluate(self) -> TrainState:
        """The state with the parameters to evaluate and save: others only for a schedule-free optimizer.

        `evaluate`, `predict` and `fit`'s validation call it.
        """
        params = optimizers.averaged(self.opt_state, self.params)
        if params is None:
            return self
        return self.replace(params=params, opt_state=optimizers.restarted(self.opt_state, params))

    def check_alive(self) -> None:
        """Raises a RuntimeError if a step has taken the arrays of this state."""
        for leaf in jax.tree.leaves(self):
            if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.is_deleted():
                raise RuntimeError(DONATED)


_ENTRIES = ("live", "key_data", "epoch", "epoch_start")


def _entries(state: TrainState) -> tuple[list[tuple[Any, Any]], str]:
    return [(jax.tree_util.GetAttrKey(name), getattr(state, name)) for name in _ENTRIES], state.impl


def _from_entries(impl: str, entries: Any) -> TrainState:
    live, *others = entries
    return TrainState(Flat.of(live, impl), *others)


# With its entries by name, so that paths of leaves tell what they are.
jax.tree_util.register_pytree_with_keys(TrainState, _entries, _from_entries)


DONATED = (
    "expected a state that no step has taken: a training step donates the state that it is given, and its "
    "arrays are gone; use the state that the step returns, or give the step state.copy() (in a callback, "
    "keep state.copy())"
)


class HostCopy:
    """Arrays copied off the device, and the way back to where they were.

    Attributes:
        values: the arrays, in the order of the tree's leaves.

    >>> kept = HostCopy({"w": jnp.ones(2)})
    >>> kept.back()["w"].tolist()
    [1.0, 1.0]
    """

    def __init__(self, tree: Any):
        leaves, self._form = jax.tree.flatten(tree)
        self._places = [getattr(leaf, "sharding", None) for leaf in leaves]
        self.values = [np.array(leaf) for leaf in leaves]  # copies, on a CPU too

    def tree(self) -> Any:
        """The arrays on the host."""
        return jax.tree.unflatten(self._form, self.values)

    def back(self) -> Any:
        """The arrays on their devices."""
        placed = [
            jax.device_put(value, place) for value, place in zip(self.values, self._places, strict=True)
        ]
        return copied(jax.tree.unflatten(self._form, placed))


def named(value: Any, names: Sequence[str]) -> dict[str, Any]:
    """By name of the task; the only one has none, and its value stands alone."""
    return {"": value} if list(names) == [""] else dict(value)


def unnamed(values: Mapping[str, Any]) -> Any:
    """The inverse of `named`."""
    return values[""] if list(values) == [""] else dict(values)


def first_opt_state(updates: Sequence[Update], params: Any) -> Any:
    """The optimizers' states before the first step."""
    return unnamed({update.name: copied(update.init(params)) for update in updates})


def carried_over(old: Any, new: Any) -> Any:
    """`new`, with each array of `old` that has the same place, shape and dtype in it."""
    known = dict(jax.tree_util.tree_leaves_with_path(old))

    def newest(path: Any, leaf: Any) -> Any:
        before = known.get(path)
        fits = before is not None and (before.shape, before.dtype) == (leaf.shape, leaf.dtype)
        return before if fits else leaf

    return jax.tree_util.tree_map_with_path(newest, new)


def _fitting(name: str, weights: Any, expected: Any) -> Any:
    """A copy of `weights` in the dtypes of `expected`, if it has its paths and shapes."""
    have = {path: tuple(jnp.shape(leaf)) for path, leaf in flatten(weights).items()}
    want = {path: tuple(leaf.shape) for path, leaf in flatten(expected).items()}
    for path in want:
        if have.get(path) != want[path]:
            got = f"of shape {have[path]}" if path in have else "that are missing"
            error = ValueError(f"expected {name} with {path!r} of shape {want[path]}, received weights {got}")
            raise about(error, **{name: weights})
    if extra := sorted(set(have) - set(want)):
        error = ValueError(f"expected {name} for this model, received {extra[0]!r}, which it does not have")
        raise about(error, **{name: weights})
    return jax.tree.map(lambda leaf, like: _copy(jnp.asarray(leaf, like.dtype)), weights, expected)
