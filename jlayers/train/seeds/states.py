"""The states of one training with several seeds, in one stack of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.optimizers.schedule_free import schedule_free_places
from jlayers.train.state import Flat, Live, TrainState

__all__ = ["AXES", "SeedStates", "in_step", "live_axes", "member", "repeated", "spec_of_one", "stacked"]


def live_axes(seeds: Any, step: Any) -> Live:
    """For each entry of a `Live` with many seeds a fact of its arrays; all seeds are at the same step."""
    return Live(**{name: step if name == "step" else seeds for name in Live._fields})


AXES = live_axes(0, None)  # for jax.vmap


@dataclasses.dataclass(frozen=True)
class SeedStates:
    """The states of a training with several seeds: each array has a first axis of seeds.

    `states[i]` is the `TrainState` of seed number `i`, as `jl.fit` returns it. `jl.predict` and `jl.evaluate`
    take the whole as an ensemble; `jl.predict_seeds` and `jl.evaluate_seeds` give one result for each seed.

    Attributes:
        stack: a `TrainState` of stacked arrays, as `jax.vmap` takes it.
        seeds: the numbers of the seeds.
    """

    stack: TrainState
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, params: Any, state: Any, seeds: Sequence[int]) -> SeedStates:
        """Stacked weights, such as a run keeps them, to evaluate and predict with."""
        zeros = jnp.zeros(len(seeds), jnp.int32)
        live = Live(params=params, state=state, opt_state=(), step=zeros, metrics={})
        keys = jnp.zeros((len(seeds), 2), jnp.uint32)
        return cls(TrainState(Flat.of(live, "threefry2x32"), keys, zeros, zeros), tuple(seeds))

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, place: int) -> TrainState:
        if not isinstance(place, (int, np.integer)) or not -len(self) <= place < len(self):
            raise IndexError(
                f"expected the place of a seed, 0 to {len(self) - 1} for the seeds {list(self.seeds)}, "
                f"received {place!r}"
            )
        return member(self.stack, int(place))

    def __iter__(self) -> Iterator[TrainState]:
        return (self[place] for place in range(len(self)))

    @property
    def params(self) -> Any:
        return self.stack.params

    @property
    def state(self) -> Any:
        return self.stack.state

    def to_evaluate(self) -> SeedStates:
        """The same with the parameters to evaluate and save; see `TrainState.to_evaluate`."""
        if not schedule_free_places(self.stack.opt_state):
            return self
        return SeedStates(stacked([one.to_evaluate() for one in self]), self.seeds)

    def __repr__(self) -> str:
        return f"SeedStates(seeds={list(self.seeds)})"


jax.tree_util.register_pytree_node(
    SeedStates, lambda s: ((s.stack,), s.seeds), lambda seeds, entries: SeedStates(entries[0], seeds)
)


@jax.jit  # one dispatch, and one program
def stacked(states: Sequence[TrainState]) -> TrainState:
    """States of one form as one, with a first axis for them in each array."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def spec_of_one(stack: Any) -> Any:
    """The shapes and dtypes of one of stacked trees."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), stack)


def repeated(tree: Any, seeds: int) -> Any:
    """The same arrays for each seed."""
    return jax.tree.map(lambda a: jnp.asarray(np.broadcast_to(a, (seeds, *np.shape(a)))), tree)


def member(stack: TrainState, place: int) -> TrainState:
    """One of stacked states; what all of them share may have no axis."""
    live = stack.live
    shared = {"step": live.step} if live.step.ndim == 0 else {}
    one: Live = jax.tree.map(lambda a: a[place], live._replace(**dict.fromkeys(shared)))
    counts = [a if a.ndim == 0 else a[place] for a in (stack.epoch, stack.epoch_start)]
    return TrainState(Flat.of(one._replace(**shared), stack.impl), stack.key_data[place], *counts)


def in_step(stack: TrainState) -> TrainState:
    """Stacked states that are at the same step, with one number for all of them.

    Raises:
        ValueError: they are not, as after early stopping.
    """
    counts = {name: np.asarray(getattr(stack, name)) for name in ("step", "epoch", "epoch_start")}
    for name, value in counts.items():
        if (value != value.flat[0]).any():
            raise refused(
                ValueError,
                f"expected states of seeds that are all at the same {name}",
                instead="continue with one of them by jl.fit(trainer, x, y, state=states[0])",
                **{name: value.tolist()},
            )
    return stack.replace(**{name: jnp.asarray(value.flat[0]) for name, value in counts.items()})
