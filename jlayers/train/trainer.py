"""`Trainer`: a model, its task and its optimizer, with the steps compiled for them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from jlayers.core.errors import about
from jlayers.core.habits import missing_in
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec
from jlayers.data.batches import Batch
from jlayers.train.measures import Measures
from jlayers.train.objective import Supervised
from jlayers.train.options import Options
from jlayers.train.probes import Probe
from jlayers.train.scaling import first_scale, loss_scaling, scale_of
from jlayers.train.stages import models_by_epoch
from jlayers.train.state import TrainState, carried_over, copied, first_opt_state
from jlayers.train.step import EvalStep, PredictStep, TrainStep
from jlayers.train.task import Task
from jlayers.train.tasks import Tasks
from jlayers.train.update import Update

__all__ = ["Trainer"]


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer(Options):
    """The result of `compile`: a fixed record. Its steps are compiled on first use and then kept.

    Attributes:
        model: any layer, a task, or several tasks by name. The others are the arguments of `jl.compile`.
    """

    model: Any

    if not TYPE_CHECKING:  # which would take any attribute to exist

        def __getattr__(self, name):
            raise missing_in("trainer", name)

    @functools.cached_property
    def updates(self) -> list[Update]:
        """The tasks with their optimizers, in the order of their turns in a step."""
        if isinstance(self.model, Layer):
            return [
                Update(
                    "", Supervised(self.model, self.loss, self.loss_weights, self._named()), self.optimizer
                )
            ]
        tasks = {"": self.model} if isinstance(self.model, Task) else dict(self.model)
        return [Update(name, task, _by_task(self.optimizer, name)) for name, task in tasks.items()]

    def _named(self) -> list[str]:
        """The names of outputs that metrics use."""
        by_name = [m for m in (self.metrics, self.weighted_metrics) if isinstance(m, Mapping)]
        return [name for names in by_name for name in names]

    @functools.cached_property
    def tasks(self) -> Tasks:
        """The updates, and what is measured of them."""
        measures = {
            update.name: Measures(
                update.task,
                _by_task(self.metrics, update.name),
                _by_task(self.weighted_metrics, update.name),
            )
            for update in self.updates
        }
        return Tasks(self.updates, measures)

    @functools.cached_property
    def train_step(self) -> TrainStep:
        """The compiled training step; see `jl.make_train_step`."""
        return TrainStep(self.tasks, self)

    def step_with(self, probes: Mapping[str, Sequence[Probe]]) -> TrainStep:
        """The training step that also measures these probes, by task; without any, `train_step`."""
        probes = {name: tuple(own) for name, own in probes.items() if own}
        if not probes:
            return self.train_step
        site = tuple(probes.items())
        if site not in self._probing:
            tasks = Tasks(self.updates, self.tasks.measures, probes)
            self._probing[site] = TrainStep(tasks, self)
        return self._probing[site]

    @functools.cached_property
    def _probing(self) -> dict[Any, TrainStep]:
        return {}

    @functools.cached_property
    def eval_step(self) -> EvalStep:
        """The compiled evaluation step; see `jl.make_eval_step`."""
        return EvalStep(self.tasks)

    @functools.cached_property
    def predict_step(self) -> PredictStep:
        """The compiled forward pass; see `jl.make_predict_step`."""
        if not isinstance(self.model, Layer):
            error = TypeError(
                "expected a trainer of one model to predict with, received one of tasks; pass one of their "
                "models and its part of the state: jl.predict(decoder, state.part('decoder'), x)"
            )
            raise about(error, trainer=self)
        return PredictStep(self.model)

    @functools.cached_property
    def stages(self) -> list[tuple[int, Trainer]]:
        """This trainer, and those with more layers trained, each with the epochs before it takes over."""
        first, *later = models_by_epoch(self.model, self.unfreeze)
        others = [(epochs, dataclasses.replace(self, model=model, unfreeze=None)) for epochs, model in later]
        return [(first[0], self), *others]

    def stage_of(self, epochs: int) -> int:
        """The number of the stage that an epoch after `epochs` of them belongs to."""
        return sum(start <= epochs for start, _ in self.stages) - 1

    def init(self, key: Any, x: Any, y: Any = None, *, params: Any = None, state: Any = None) -> TrainState:
        """The state before the first step.

        Args:
            key: a typed PRNG key, `jax.random.key(seed)`: one half makes the weights, the other the steps.
            x: the model's input, batch included: arrays, `jax.ShapeDtypeStruct`s or shapes; or a `jl.Batch`.
            y: targets, for a task that makes its parameters by them.
            params: weights to start from instead of fresh ones; they are copied, to the dtypes of the model.
            state: the same for the model's state.

        Raises:
            ValueError: given weights that do not fit the model.

        >>> import jlayers as jl, jax
        >>> trainer = jl.compile(jl.Dense(2), "adam", "mse")
        >>> state = trainer.init(jax.random.key(0), (1, 4))
        """
        parts = x if isinstance(x, Batch) else Batch(x, y)
        batch = Batch(*(None if part is None else as_spec(part) for part in parts))
        return TrainState.start(
            self.updates, key, functools.partial(self._fresh, batch=batch), params, state, self._scale(),
            self.ema is not None,
        )  # fmt: skip

    def _fresh(self, key: Any, batch: Batch) -> tuple[Any, Any]:
        """Parameters and state of all tasks; of a model that several have, those of the first."""
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}
        for update in self.updates:
            own = update.task.init(key, batch)
            params, state = {**own[0], **params}, {**own[1], **state}
        return params, state

    def _scale(self) -> Any:
        return first_scale(self.tasks.models, self.loss_scale)

    @functools.cached_property
    def _opt_state_of(self) -> Any:
        """One compiled function, so that JAX traces it once for each form of parameters."""
        updates = self.updates
        return jax.jit(lambda params: first_opt_state(updates, params))

    def adopt(self, state: TrainState, keep_optimizer: bool = False) -> TrainState:
        """A state of another trainer of this model made fit for this one.

        What to do after freezing, unfreezing or changing the optimizer: the optimizer's state is fresh, all
        else is kept. A dynamic loss scale starts anew, too, and so does the learning rate.

        Args:
            state: state of the other trainer.
            keep_optimizer: also keep what the optimizer and the loss scale know, where it has the same
                place and shape in both: after unfreezing, for all that was trained before.

        >>> import jlayers as jl, jax
        >>> model = jl.Sequential(jl.Dense(8, name="base"), jl.Dense(2, name="head"))
        >>> state = jl.compile(jl.freeze(model, "base"), "adam", "mse").init(jax.random.key(0), (1, 4))
        >>> state = jl.compile(model, "sgd", "mse").adopt(state)
        """
        new = state.copy()
        average = None if self.ema is None else new.average or copied(new.params)
        opt_state, loss_scale = first_opt_state(self.updates, new.params), self._scale()
        if keep_optimizer:
            opt_state, loss_scale = carried_over((new.opt_state, new.loss_scale), (opt_state, loss_scale))
        return new.replace(
            opt_state=opt_state,
            metrics={},
            loss_scale=loss_scale,
            average=average,
            rate_factor=new.rate_factor if keep_optimizer else None,
        )

    def check_state(self, state: TrainState) -> None:
        """Refuse a state that a step has taken, or of another optimizer or other frozen layers."""
        state.check_alive()
        if loss_scaling(self.tasks.models, self.loss_scale) == "dynamic":
            scale_of(state.loss_scale)
        if not self.takes(state) or (self.ema is None) != (state.average is None):
            error = ValueError(
                "expected a state of this trainer, received one whose optimizer state was made by another "
                "optimizer or with other layers frozen; write state=trainer.adopt(state) to keep its "
                "weights with a fresh optimizer state"
            )
            raise about(error, state=state)

    def takes(self, state: TrainState) -> bool:
        """True if the optimizer's state in it fits this trainer."""
        expected, own = self._opt_state_of.eval_shape(state.params), state.opt_state
        return jax.tree.structure(expected) == jax.tree.structure(own) and all(
            e.shape == g.shape for e, g in zip(jax.tree.leaves(expected), jax.tree.leaves(own), strict=True)
        )


def _by_task(value: Any, name: str) -> Any:
    """The value for a task, if values are given by names of tasks; else the same value for each."""
    return value.get(name, ()) if name and isinstance(value, Mapping) and name in value else value
