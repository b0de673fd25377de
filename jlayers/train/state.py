"""Everything that a training run carries from one step to the next, in one pytree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jlayers import optimizers
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec, is_shape
from jlayers.core.tree import flatten, unflatten
from jlayers.train.scaling import LossScale, LossScaleLike, begun
from jlayers.transform.freeze import trainable_mask

__all__ = ["Moved", "TrainState", "copied", "inputs_of", "merge", "moved", "split"]

Moved = tuple[Any, Any, Any, jax.Array, Any, LossScale | None]  # params to loss_scale, but what stays


def inputs_of(x: Any) -> tuple[Any, ...]:
    """The positional inputs of a model: a tuple or list is several of them."""
    return tuple(x) if isinstance(x, (tuple, list)) and not is_shape(x) else (x,)


@jax.jit  # one dispatch instead of one per array
def copied(tree: Any) -> Any:
    """The pytree with arrays of its own, so that a step that donates its input leaves the other one alone."""
    return jax.tree.map(jnp.copy, tree)


def split(model: Layer, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`params` as two trees: what is trained, and what is frozen. Neither holds places for the other.

    >>> import jlayers as jl, jax
    >>> model = jl.freeze(jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head")), "base")
    >>> params, _ = model.init(jax.random.key(0), (1, 4))
    >>> trained, frozen = split(model, params)
    >>> list(trained), list(frozen)
    (['head'], ['base'])
    """
    if not model.frozen:
        return dict(params), {}
    mask = flatten(trainable_mask(model, params))
    flat = flatten(params)
    trained = unflatten({path: leaf for path, leaf in flat.items() if mask[path]})
    frozen = unflatten({path: leaf for path, leaf in flat.items() if not mask[path]})
    return trained, frozen


def merge(trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `split`."""
    return dict(trained) if not frozen else unflatten({**flatten(trained), **flatten(frozen)})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The values of a training run; a pytree of arrays alone.

    A step donates the state that it takes: use the one that it returns. `fit` copies first and leaves the
    state that it was given untouched.

    >>> import jlayers as jl, jax
    >>> state = jl.TrainState.create(jl.Dense(3), "adam", jax.random.key(0), (1, 4))
    >>> state.params["kernel"].shape, int(state.step)
    ((4, 3), 0)

    Attributes:
        params: the parameters, frozen ones included.
        state: what forward passes move, such as running statistics.
        opt_state: of the optimizer, for the trained parameters alone.
        step: int32, steps taken, those that a dynamic loss scale left without an update included.
        key: the typed PRNG key of the run; a step draws from `fold_in(key, step)`, so the key never moves.
        epoch: int32, epochs finished.
        epoch_start: int32, the step at which the current epoch began.
        metrics: accumulators of the losses and metrics since they were last reset; empty before the first.
        loss_scale: the factor of the loss and its history if it is dynamic, as it is for models that compute
            in float16; else None.
    """

    params: Any
    state: Any
    opt_state: Any
    step: jax.Array
    key: jax.Array
    epoch: jax.Array
    epoch_start: jax.Array
    metrics: Any
    loss_scale: LossScale | None = None

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
        """The state before the first step.

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
        init_key, step_key = jax.random.split(key)
        inputs = tuple(map(as_spec, inputs_of(x)))
        if params is None or state is None:
            fresh = model.init(init_key, *inputs)
        else:
            fresh = jax.eval_shape(lambda: model.init(init_key, *inputs))
        params = fresh[0] if params is None else _fitting("params", params, fresh[0])
        state = fresh[1] if state is None else _fitting("state", state, fresh[1])
        trained, _ = split(model, params)
        return cls(
            params=params,
            state=state,
            opt_state=copied(_init(optimizer, trained)),
            step=jnp.zeros((), jnp.int32),
            key=step_key,
            epoch=jnp.zeros((), jnp.int32),
            epoch_start=jnp.zeros((), jnp.int32),
            metrics={},
            loss_scale=begun(model, loss_scale),
        )

    def adopt(self, model: Layer, optimizer: Any, loss_scale: LossScaleLike = "auto") -> TrainState:
        """The state for another optimizer or for other frozen layers: a fresh `opt_state`, all else kept.

        A dynamic loss scale starts anew, too.

        >>> import jlayers as jl, jax
        >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
        >>> state = jl.TrainState.create(jl.freeze(model, "base"), "adam", jax.random.key(0), (1, 4))
        >>> state = state.adopt(model, jl.optimizers.adam(1e-5))
        """
        new = copied(self)
        trained, _ = split(model, new.params)
        opt_state = copied(_init(optimizer, trained))
        return new.replace(opt_state=opt_state, metrics={}, loss_scale=begun(model, loss_scale))

    def at_next_epoch(self) -> TrainState:
        """The state when the current epoch is over."""
        epoch, epoch_start = _turned(self.epoch, self.step)
        return self.replace(epoch=epoch, epoch_start=epoch_start, metrics={})

    def replace(self, **changes: Any) -> TrainState:
        """The state with some values changed."""
        return dataclasses.replace(self, **changes)

    def after(self, values: Moved) -> TrainState:
        """The state with what a step moves changed; see `moved`."""
        params, state, opt_state, step, metrics, loss_scale = values
        key, epoch, epoch_start = self.key, self.epoch, self.epoch_start
        return TrainState(params, state, opt_state, step, key, epoch, epoch_start, metrics, loss_scale)


def moved(state: TrainState) -> Moved:
    """What a step moves; the rest, the typed key above all, need not pass through each dispatch."""
    return state.params, state.state, state.opt_state, state.step, state.metrics, state.loss_scale


@jax.jit
def _turned(epoch: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    return epoch + 1, jnp.copy(step)


def _init(optimizer: Any, trained: Any) -> optax.OptState:
    with optimizers.lenient():
        return optimizers.get(optimizer).init(trained)


def _fitting(name: str, given: Any, expected: Any) -> Any:
    """A copy of `given` in the dtypes of `expected`, if it has its paths and shapes."""
    have = {path: tuple(jnp.shape(leaf)) for path, leaf in flatten(given).items()}
    want = {path: tuple(leaf.shape) for path, leaf in flatten(expected).items()}
    for path in want:
        if have.get(path) != want[path]:
            got = f"of shape {have[path]}" if path in have else "that are missing"
            raise ValueError(f"expected {name} with {path!r} of shape {want[path]}, received weights {got}")
    if extra := sorted(set(have) - set(want)):
        raise ValueError(f"expected {name} for this model, received {extra[0]!r}, which it does not have")
    return jax.tree.map(lambda leaf, like: jnp.array(leaf, like.dtype), given, expected)
