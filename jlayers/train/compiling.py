"""`compile`, which makes a trainer and checks its arguments, and compiled steps without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jlayers import losses, optimizers
from jlayers.core.calls import taught
from jlayers.core.errors import about, concerning, refused
from jlayers.core.layer import Layer
from jlayers.losses import LossLike
from jlayers.metrics import MetricLike
from jlayers.optimizers import OptimizerLike
from jlayers.train.augment import check_augment
from jlayers.train.scaling import LossScaleLike
from jlayers.train.step import EvalStep, PredictStep, TrainStep
from jlayers.train.task import Task
from jlayers.train.trainer import Trainer

__all__ = ["compile", "make_eval_step", "make_predict_step", "make_train_step"]


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
        TypeError: something other than a layer or tasks as the model, or than a layer as `augment`.

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

    Example: your own loop.

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
