"""`evaluate` and `predict`: loops over the compiled forward passes."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from jlayers.core.calls import taught
from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.data.batches import ArrayBatches, Batch, Batches
from jlayers.data.gate import check_finite, check_width
from jlayers.train.checks import as_arrays, check_named, check_process
from jlayers.train.feed import ahead
from jlayers.train.ids import check_ids
from jlayers.train.seeds.ensemble import EnsembleTrainer
from jlayers.train.seeds.states import SeedStates
from jlayers.train.sources import BATCH_SIZE, arrays, look_over, source
from jlayers.train.state import TrainState
from jlayers.train.step import EvalStep, PredictStep
from jlayers.train.tasks import Review
from jlayers.train.trainer import Trainer
from jlayers.train.watch import read

__all__ = ["evaluate", "evaluated", "outputs_of", "predict"]


@taught
def evaluate(
    trainer: Trainer,
    state: Any,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    sample_weight: Any = None,
    steps: int | None = None,
    key: Any = None,
) -> dict[str, float]:
    """The loss and the metrics over all samples, in inference mode.

    Args:
        trainer: what `jl.compile` returns.
        state: what `fit` returns, or a pair `(params, model_state)`. What `fit_seeds` returns is taken as one
            model, an ensemble, which predicts the mean of its members.
        x: as in `fit`.
        y: as in `fit`.
        batch_size: samples per step, 32 if not given; the result does not depend on it.
        sample_weight: factors of the samples' losses.
        steps: batches to take of an iterable; all if not given.
        key: for layers that draw in inference mode, too; tasks are given one that is always the same.

    Raises:
        ValueError: as `fit` does.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((5, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1, kernel_initializer="ones"), loss="mse", metrics=["mae"])
    >>> state, _ = jl.fit(trainer, x, x[:, :1], epochs=0)
    >>> jl.evaluate(trainer, state, x, x[:, :1], batch_size=2)
    {'loss': 1.0, 'mae': 1.0}
    """
    check_process()
    if not isinstance(trainer, Trainer):
        error = TypeError(
            f"evaluate: expected what jl.compile returns, received a {type(trainer).__name__}; write "
            f"jl.evaluate(trainer, state, x, y)"
        )
        raise about(error, trainer=trainer)
    if isinstance(state, SeedStates):
        trainer = EnsembleTrainer.of(trainer)
    data = source("x", x, arrays(x, y, sample_weight), batch_size, steps)
    weights = _weights(state)
    with contextlib.closing(data):
        if isinstance(trainer.model, Layer):
            check_named(data.first())
        review, data = look_over(trainer.tasks, weights, data)
        return evaluated(trainer.eval_step, weights, review, data, 1, key)


def evaluated(
    step: EvalStep, weights: Any, review: Review, data: Batches, together: int = 1, key: Any = None
) -> dict[str, float]:
    accumulators, logs = None, {}
    params, state = weights.params, weights.state
    if key is None and any(update.task.always_draws for update in step.tasks.updates):
        key = jax.random.key(0)
    if together > 1 and key is None:
        for batches, count in data.blocks(together):
            accumulators, logs = step.run(params, state, accumulators, batches, count)
        return read(logs, review)
    with ahead(data) as batches:
        for number, batch in enumerate(batches):
            own = None if key is None else jax.random.fold_in(key, number)
            accumulators, logs = step(params, state, accumulators, batch, own)
    return read(logs, review)


class _Weights(NamedTuple):
    params: Any
    state: Any


def _weights(state: Any) -> TrainState | SeedStates | _Weights:
    """Parameters and model state for a forward pass, from a state or from a pair."""
    if isinstance(state, SeedStates):
        return state.to_evaluate()
    if isinstance(state, TrainState):
        state.check_alive()
        return state.to_evaluate()
    if not isinstance(state, tuple) or len(state) != 2:
        error = TypeError(
            f"expected the state that jl.fit returns, or a pair (params, model_state), as the second "
            f"argument, received {type(state).__name__}; the data come after it"
        )
        raise about(error, state=state)
    return _Weights(*state)


@taught
def predict(
    trainer: Trainer | Layer,
    state: Any,
    x: Any,
    *,
    batch_size: int | None = None,
    key: Any = None,
    train: bool = False,
) -> Any:
    """The model's outputs for all samples, in inference mode, as NumPy arrays.

    Batches are padded to a few sizes, so that few programs are compiled. Rows must not depend on each other,
    and in inference mode they do not.

    Args:
        trainer: what `jl.compile` returns, or a model.
        state: what `fit` returns, or a pair `(params, model_state)`. Of what `fit_seeds` returns the mean of
            the members' outputs is given, of their probabilities where the loss takes logits.
        x: an array, or a tuple or dict of arrays; or an iterable of batches, whose targets are left out.
        batch_size: samples per step, 32 if not given; the result does not depend on it.
        key: for layers that draw in inference mode, too.
        train: run the model as in training, with `key`: Monte-Carlo dropout. No state moves.

    Returns:
        NumPy arrays in the structure of the model's outputs.

    Raises:
        ValueError: data that are not finite, or numbers outside of an embedding's table.

    >>> import jax, numpy as np, jlayers as jl
    >>> model = jl.Dense(3)
    >>> jl.predict(model, model.init(jax.random.key(0), (1, 2)), np.ones((5, 2), np.float32)).shape
    (5, 3)
    """
    check_process()
    return outputs_of(_step_of(trainer, state), state, x, batch_size, key, train)


def _step_of(trainer: Any, state: Any) -> PredictStep:
    if not isinstance(state, SeedStates):
        return trainer.predict_step if isinstance(trainer, Trainer) else _predict_step(trainer)
    if not isinstance(trainer, Trainer):
        error = TypeError(
            "predict: expected what jl.compile returns beside the states of many seeds, since the loss says "
            f"how to join what they predict, received a {type(trainer).__name__}"
        )
        raise about(error, trainer=trainer)
    return EnsembleTrainer.of(trainer).predict_step


def outputs_of(step: PredictStep, state: Any, x: Any, batch_size: int | None, key: Any, train: bool) -> Any:
    """The outputs of a compiled forward pass for all samples; see `predict`."""
    weights = _weights(state)
    stream = not isinstance(x, (dict, list, tuple)) and not hasattr(x, "__array__")
    if stream:
        data: Batches = source("x", x, None, batch_size)
    else:
        x = as_arrays("x", x)
        check_width(x=x)
        data = ArrayBatches(x, batch_size=BATCH_SIZE if batch_size is None else batch_size)
        if data.checked:
            check_finite(x=x)
            check_ids(step.lookups(weights.params, weights.state, data.first().x, key), x)
    outputs: list[Any] = []
    most = BATCH_SIZE if batch_size is None else batch_size

    def filled(batch: Batch) -> tuple[Any, int]:
        """The input of a batch with rows enough for one of a few programs, and how many of them are real."""
        if not data.checked:
            check_finite(x=batch.x)
            check_ids(step.lookups(weights.params, weights.state, batch.x, key), batch.x)
        rows = jax.tree.leaves(batch.x)[0].shape[0]
        size = next(sizes)
        return _filled(batch.x, rows, max(rows, size or min(most, 1 << (rows - 1).bit_length()))), rows

    sizes = itertools.chain([0], itertools.repeat(most))  # a single batch may be a small one
    with contextlib.closing(data), ahead(data, filled) as batches:
        for number, (x, rows) in enumerate(batches):
            own = None if key is None else jax.random.fold_in(key, number)
            outputs.append((step(weights.params, weights.state, x, own, train), rows))
            if len(outputs) > 1:  # one step behind, so that the device has work while the host copies
                outputs[-2] = _on_host(*outputs[-2])
    outputs[-1] = _on_host(*outputs[-1])
    return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


def _filled(x: Any, rows: int, size: int) -> Any:
    """The input with `size` rows: its own again from the first."""
    if rows == size:
        return x
    picked = np.resize(np.arange(rows), size)
    return jax.tree.map(lambda a: a[picked], x)


def _on_host(made: Any, rows: int) -> Any:
    return jax.tree.map(lambda a: a[:rows], jax.device_get(made))


def _predict_step(model: Any) -> PredictStep:
    """The compiled forward pass of a model; the model itself holds it, so that both go together."""
    if not isinstance(model, Layer):
        error = TypeError(
            f"predict: expected what jl.compile returns, or a model, received a {type(model).__name__}"
        )
        raise about(error, trainer=model)
    kept = vars(model)
    if "_predict_step" not in kept:
        kept["_predict_step"] = PredictStep(model)
    return kept["_predict_step"]
