"""The use of gradients in a step: the optimizer, constraints, and the average of the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jlayers import optimizers
from jlayers.core.layer import Layer
from jlayers.core.tree import flatten, unflatten
from jlayers.optimizers.patterns import beside_frozen
from jlayers.train.task import Task

__all__ = ["Update", "averaged", "join_params", "split_params"]


def split_params(mask: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`params` as two trees: what is trained, and what is not. Neither holds places for the other.

    >>> import jlayers as jl, jax
    >>> model = jl.freeze(jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head")), "base")
    >>> params, _ = model.init(jax.random.key(0), (1, 4))
    >>> trained, frozen = split_params(jl.trainable_mask(model, params), params)
    >>> list(trained), list(frozen)
    (['head'], ['base'])
    """
    flags, flat = flatten(mask), flatten(params)
    if all(flags.values()):
        return dict(params), {}
    trained = unflatten({path: leaf for path, leaf in flat.items() if flags[path]})
    frozen = unflatten({path: leaf for path, leaf in flat.items() if not flags[path]})
    return trained, frozen


def join_params(trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `split_params`."""
    return dict(trained) if not frozen else unflatten({**flatten(trained), **flatten(frozen)})


@dataclasses.dataclass(frozen=True)
class Update:
    """A task's turn in a step: the parameters that it trains, and their optimizer.

    Attributes:
        name: name of the task; "" for the only one.
        task: whose loss is minimized.
        optimizer: an `optax.GradientTransformation`.
    """

    name: str
    task: Task
    optimizer: Any

    @classmethod
    def of_model(cls, model: Layer, optimizer: Any) -> Update:
        return cls("", Task({"": model}), optimizers.get(optimizer))

    def split(self, params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters that the task trains, and the others."""
        return split_params(self.task.mask(params), params)

    def init(self, params: Any) -> optax.OptState:
        """The optimizer's state before the first step."""
        trained, frozen = self.split(params)
        with optimizers.lenient(), beside_frozen(frozen):
            return self.optimizer.init(trained)

    def __call__(
        self, gradients: Any, loss: jax.Array, opt_state: Any, params: Any, rate_factor: Any = None
    ) -> tuple[Any, Any]:
        """The parameters and the optimizer's state after a step down these gradients."""
        trained, frozen = self.split(params)
        optimizer = optax.with_extra_args_support(self.optimizer)
        with optimizers.lenient(), beside_frozen(frozen):
            if rate_factor is not None:
                optimizer = optimizers.with_rate_factor(optimizer, rate_factor)
            updates, opt_state = optimizer.update(gradients, opt_state, trained, value=loss, grad=gradients)
            moved: Any = optax.apply_updates(trained, updates)
        return self.task.constrain(join_params(moved, frozen)), opt_state


def averaged(average: Any, params: Any, decay: float) -> Any:
    """The exponential moving average of the parameters after one more step."""
    return jax.tree.map(
        lambda old, new: (decay * old + (1 - decay) * new).astype(old.dtype) if _is_float(old) else new,
        average,
        params,
    )


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
