"""A model, what it is trained for, and the steps compiled for it: Keras's `compile` as a value."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from jlayers import optimizers
from jlayers.core.layer import Layer
from jlayers.losses import LossLike
from jlayers.metrics import MetricLike
from jlayers.optimizers import OptimizerLike
from jlayers.train.objective import Plan
from jlayers.train.scaling import LossScaleLike, chosen, scale_of
from jlayers.train.state import TrainState, split
from jlayers.train.step import (
    EvalStep,
    TrainStep,
    make_eval_step,
    make_predict_step,
    make_train_step,
)

__all__ = ["Trainer", "compile"]


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """What `compile` returns: a fixed record. Its steps are compiled on first use and then kept.

    Attributes:
        model: any layer.
        loss: by name or object, as it was given.
        optimizer: an `optax.GradientTransformation`.
        metrics: as they were given.
        loss_weights: factors of the outputs' losses.
        weighted_metrics: metrics in which sample weights count.
        augment: a layer that changes each batch of training, or None.
        loss_scale: factor of the loss while its gradient is taken.
    """

    model: Layer
    loss: Any
    optimizer: optax.GradientTransformation
    metrics: Any = ()
    loss_weights: Any = None
    weighted_metrics: Any = ()
    augment: Layer | None = None
    loss_scale: LossScaleLike = "auto"

    @functools.cached_property
    def train_step(self) -> TrainStep:
        """The compiled training step; see `jl.make_train_step`."""
        return make_train_step(
            self.model,
            self.loss,
            self.optimizer,
            self.metrics,
            loss_weights=self.loss_weights,
            weighted_metrics=self.weighted_metrics,
            augment=self.augment,
            loss_scale=self.loss_scale,
        )

    @functools.cached_property
    def eval_step(self) -> EvalStep:
        """The compiled evaluation step; see `jl.make_eval_step`."""
        return make_eval_step(
            self.model,
            self.loss,
            self.metrics,
            loss_weights=self.loss_weights,
            weighted_metrics=self.weighted_metrics,
        )

    @functools.cached_property
    def predict_step(self) -> Callable[..., Any]:
        """The compiled forward pass; see `jl.make_predict_step`."""
        return make_predict_step(self.model)

    def init(self, key: Any, x: Any, *, params: Any = None, state: Any = None) -> TrainState:
        """The state before the first step; see `TrainState.create`.

        >>> import jlayers as jl, jax
        >>> trainer = jl.compile(jl.Dense(2), "adam", "mse")
        >>> state = trainer.init(jax.random.key(0), (1, 4))
        """
        return TrainState.create(
            self.model, self.optimizer, key, x, params=params, state=state, loss_scale=self.loss_scale
        )

    def adopt(self, state: TrainState) -> TrainState:
        """A state of another trainer of this model made fit for this one; see `TrainState.adopt`.

        What to do after freezing, unfreezing or changing the optimizer.
        """
        return state.adopt(self.model, self.optimizer, self.loss_scale)

    def plan(self, state: Any, x: Any) -> tuple[Plan, Any]:
        """Which loss and metric goes with which output, and the outputs' specs."""
        objective = self.train_step.objective
        y_pred = objective.outputs(state.params, state.state, x)
        return objective.plan(y_pred), y_pred

    def check_state(self, state: TrainState) -> None:
        """Refuse a state whose optimizer part was made by another optimizer or for other frozen layers."""
        if chosen(self.model, self.loss_scale) == "dynamic":
            scale_of(state)
        trained, _ = split(self.model, state.params)
        with optimizers.lenient():
            expected = jax.eval_shape(self.optimizer.init, trained)
        given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state.opt_state)
        fits = jax.tree.structure(expected) == jax.tree.structure(given) and all(
            e.shape == g.shape for e, g in zip(jax.tree.leaves(expected), jax.tree.leaves(given), strict=True)
        )
        if not fits:
            raise ValueError(
                "expected a state of this trainer, received one whose optimizer state was made by another "
                "optimizer or with other layers frozen; write state=trainer.adopt(state) to go on with its "
                "weights and a fresh optimizer state"
            )


def compile(
    model: Layer,
    optimizer: OptimizerLike = "adam",
    loss: LossLike | Any = None,
    metrics: MetricLike | Any = (),
    loss_weights: Any = None,
    weighted_metrics: MetricLike | Any = (),
    augment: Layer | None = None,
    loss_scale: LossScaleLike = "auto",
) -> Trainer:
    """What a model is trained for, as in Keras: a record, for `fit`, `evaluate` and `predict`.

    Args:
        model: any layer.
        optimizer: by name, as `{name: arguments}`, as an `optax.GradientTransformation`, or a list of such.
        loss: by name or object; for several outputs a list or a dict by output name.
        metrics: a list of names or objects; for several outputs a list with one entry (or list) per output,
            or a dict by output name. Sample weights do not count in them.
        loss_weights: for several outputs: the factors of their losses, a list or a dict.
        weighted_metrics: like `metrics`, with sample weights.
        augment: a layer from `(x, y)` to `(x, y)`, without parameters, that changes each batch of training,
            such as `jl.MixUp()`. What changes x alone, such as `jl.RandomFlip()`, goes into the model.
        loss_scale: factor of the loss while its gradient is taken, so that small gradients survive float16.
            "dynamic" for one that is halved when gradients overflow (nothing but the scale moves in such a
            step) and doubled after 2000 steps without; a number for a fixed one; None for none. "auto" is
            "dynamic" for a model that computes in float16, else None.

    Raises:
        KeyError: a name that is not registered.
        ValueError: no loss, or a loss scale that is none.
        TypeError: something else than a layer as the model or as `augment`.

    >>> import jlayers as jl
    >>> trainer = jl.compile(jl.Dense(10), optimizer="adam", loss="mse", metrics=["mae"])
    >>> trainer.optimizer
    adam()
    """
    if not isinstance(model, Layer):
        raise TypeError(f"compile: expected a layer as the model, received {model!r}")
    if loss is None:
        raise ValueError("compile: expected a loss, received loss=None; for example loss='mse'")
    chain = optimizers.get(optimizer)
    trainer = Trainer(model, loss, chain, metrics, loss_weights, weighted_metrics, augment, loss_scale)
    trainer.train_step  # noqa: B018  a misspelt name fails here and not in fit
    return trainer
