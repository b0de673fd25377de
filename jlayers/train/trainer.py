"""A model, what it is trained for, and the steps compiled for it: Keras's `compile` as a value."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from jlayers import losses, optimizers
from jlayers.core.calls import taught
from jlayers.core.errors import about, concerning, refused
from jlayers.core.habits import missing_in
from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec
from jlayers.data.batches import Batch
from jlayers.losses import LossLike
from jlayers.metrics import MetricLike
from jlayers.optimizers import OptimizerLike
from jlayers.train.augment import check_augment
from jlayers.train.measures import Measures
from jlayers.train.objective import Supervised
from jlayers.train.options import Options
from jlayers.train.probes import Probe
from jlayers.train.scaling import LossScaleLike, first_scale, loss_scaling, scale_of
from jlayers.train.stages import models_by_epoch
from jlayers.train.state import TrainState, carried_over, copied, first_opt_state
from jlayers.train.step import EvalStep, PredictStep, TrainStep
from jlayers.train.task import Task
from jlayers.train.tasks import Tasks
from jlayers.train.update import Update

__all__ = ["Trainer", "compile", "make_eval_step", "make_predict_step", "make_train_step"]


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
            state: of the other trainer.
            keep_optimizer: what the optimizer and the loss scale know goes on, too, where it has the same
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
                "optimizer or with other layers frozen; write state=trainer.adopt(state) to go on with its "
                "weights and a fresh optimizer state"
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


@taught
def compile(
    model: Layer | Task | Mapping[str, Task],
    optimizer: OptimizerLike | Mapping[str, OptimizerLike] = "adam",
    loss: LossLike | Any = None,
    metrics: MetricLike | Any = (),
    loss_weights: Any = None,
    weighted_metrics: MetricLike | Any = (),
    augment: Layer | None = None,
    loss_scale: LossScaleLike = "auto",
    accumulate: int = 1,
    ema: float | None = None,
    unfreeze: Mapping[int, str | Sequence[str]] | None = None,
) -> Trainer:
    """Join a model with an optimizer, a loss and metrics, as in Keras, for `fit`, `evaluate` and `predict`.

    Args:
        model: any layer; or a `jl.Task`, which says itself what its loss is; or several tasks by name, which
            take turns in each step.
        optimizer: by name, as `{name: arguments}`, as an `optax.GradientTransformation`, or a list of such.
            For several tasks, one for all of them or a dict by their names.
        loss: by name or object; for several outputs a list or a dict by output name. In a dict, the path of a
            layer inside the model, such as `"encoder/dense"`, stands for its output; that of the model, if it
            is one without a name, is then called "output".
        metrics: a list of names or objects; for several outputs a list with one entry (or list) per output,
            or a dict by output name, or by path. Sample weights do not count in them.
        loss_weights: for several outputs: the factors of their losses, a list or a dict.
        weighted_metrics: like `metrics`, with sample weights.
        augment: a layer from `(x, y)` to `(x, y)`, without parameters, that changes each batch of training,
            such as `jl.MixUp()`. What changes x alone, such as `jl.RandomFlip()`, goes into the model.
        loss_scale: factor of the loss while its gradient is taken, so that small gradients survive float16.
            "dynamic" for one that is halved when gradients overflow (nothing but the scale moves in such a
            step) and doubled after 2000 steps without; a number for a fixed one; None for none. "auto" is
            "dynamic" for a model that computes in float16, else None.
        accumulate: how many micro-batches each batch is cut into, to save memory. Their gradients are added
            up before the one update of the step.
        ema: keep a moving average of the weights, with this decay, such as 0.999, in `state.average`.
            `fit` evaluates the validation data with it, too.
        unfreeze: layers that are frozen in the model and trained later: by a number of epochs, after which it
            begins, the patterns that `jl.unfreeze` takes, such as `{3: "base/block5*", 6: "base/**"}`. `fit`
            compiles a step for each; what was trained before keeps its optimizer state.

    Raises:
        KeyError: a name that is not registered.
        ValueError: no loss, or a number out of range.
        TypeError: something else than a layer or tasks as the model, or than a layer as `augment`.

    >>> import jlayers as jl
    >>> trainer = jl.compile(jl.Dense(10), optimizer="adam", loss="mse", metrics=["mae"])
    >>> trainer.optimizer
    adam()
    """
    tasks: Any = model.values() if isinstance(model, Mapping) else [model]
    if isinstance(optimizer, str) and optimizer not in optimizers.registry and optimizer in losses.registry:
        raise refused(
            TypeError,
            "expected the optimizer before the loss",
            raised_by="compile",
            instead=f"write jl.compile(model, 'adam', {optimizer!r})",
            optimizer=optimizer,
        )
    chains: Any = optimizer
    if isinstance(model, Layer):
        if loss is None:
            error = ValueError("compile: expected a loss, received loss=None; for example loss='mse'")
            raise about(error, loss=None)
    elif not tasks or not all(isinstance(task, Task) for task in tasks):
        error = TypeError(f"compile: expected a layer as the model, or tasks, received {model!r}")
        raise about(error, model=model)
    elif loss is not None or loss_weights is not None:
        raise refused(ValueError, "a task says itself what its loss is", raised_by="compile", loss=loss)
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise refused(
            ValueError, "expected a whole number of at least 1", raised_by="compile", accumulate=accumulate
        )
    if ema is not None and not 0 <= ema < 1:
        raise refused(ValueError, "expected a decay of at least 0 and below 1", raised_by="compile", ema=ema)
    check_augment(augment)
    names: Any = model if isinstance(model, Mapping) else ()
    by_name = bool(names) and isinstance(chains, Mapping) and set(chains) <= set(names)
    if by_name and (missing := [name for name in names if name not in chains]):
        error = ValueError(f"compile: expected an optimizer for each task, received none for {missing[0]!r}")
        raise about(error, optimizer=chains)
    with concerning(optimizer=chains):
        chain = {n: optimizers.get(o) for n, o in chains.items()} if by_name else optimizers.get(chains)
    trainer = Trainer(
        model,
        optimizer=chain,
        loss=loss,
        metrics=metrics,
        loss_weights=loss_weights,
        weighted_metrics=weighted_metrics,
        augment=augment,
        loss_scale=loss_scale,
        accumulate=accumulate,
        ema=ema,
        unfreeze=unfreeze,
    )
    trainer.stages  # noqa: B018  a wrong schedule, too
    trainer.train_step  # noqa: B018  a misspelt name fails here and not in fit
    return trainer


def make_train_step(
    model: Layer | Task | Mapping[str, Task], loss: Any, optimizer: Any, metrics: Any = (), **options: Any
) -> TrainStep:
    """One optimizer step as a compiled function that donates the state it is given.

    The loss is the mean over the batch's real rows, plus the regularizers (`model.penalty`) and the
    `aux_loss` leaves of the new state, neither divided by anything. Gradients are taken for trained
    parameters only, so XLA drops the backward pass below frozen layers. Constraints (`model.constrain`) are
    imposed after the update. Random layers draw from `fold_in(state.key, state.step)`.

    Args:
        model: any layer, or a task with `loss=None`.
        loss: by name or object; for several outputs a list or a dict by output name.
        optimizer: by name or object, or a list of them in order.
        metrics: by name or object; for several outputs a list with one entry per output, or a dict.
        **options: the further arguments of `jl.compile`.

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
    return compile(model, optimizer, loss, metrics, **options).train_step


def make_eval_step(
    model: Layer | Task | Mapping[str, Task], loss: Any = None, metrics: Any = (), **options: Any
) -> EvalStep:
    """A compiled forward pass in inference mode that adds one batch to the loss and the metrics.

    Args:
        model: as in `make_train_step`.
        loss: as in `make_train_step`.
        metrics: as in `make_train_step`.
        **options: the further arguments of `jl.compile`.

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
    return compile(model, loss=loss, metrics=metrics, **options).eval_step


def make_predict_step(model: Layer) -> PredictStep:
    """The compiled forward pass: `step(params, model_state, x, key=None, train=False) -> outputs`.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> model = jl.Dense(3)
    >>> params, state = model.init(jax.random.key(0), (4, 2))
    >>> jl.make_predict_step(model)(params, state, jnp.ones((4, 2))).shape
    (4, 3)
    """
    return PredictStep(model)
