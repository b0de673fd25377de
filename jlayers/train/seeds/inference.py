"""`evaluate_seeds` and `predict_seeds`: each seed by itself, all of them in one program."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np

from jlayers.core.calls import taught
from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.train.checks import check_named, check_process
from jlayers.train.inference import outputs_of
from jlayers.train.seeds.ensemble import EnsembleTrainer
from jlayers.train.seeds.states import SeedStates
from jlayers.train.seeds.step import SeedsEvalStep, evaluated_each
from jlayers.train.sources import arrays, look_over, source
from jlayers.train.trainer import Trainer

__all__ = ["evaluate_seeds", "predict_seeds"]


@taught
def evaluate_seeds(
    trainer: Trainer,
    states: SeedStates,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    sample_weight: Any = None,
    steps: int | None = None,
    key: Any = None,
) -> dict[str, np.ndarray]:
    """The loss and the metrics of each seed over all samples; `jl.evaluate` gives those of the ensemble.

    Args:
        trainer: what `jl.compile` returns.
        states: what `jl.fit_seeds` returns.
        x: as in `fit`; all seeds see the same batches.
        y: as in `fit`.
        batch_size: samples per step, 32 if not given; the result does not depend on it.
        sample_weight: factors of the samples' losses.
        steps: batches to take of an iterable; all if not given.
        key: for layers that draw in inference mode, too; all seeds have the same.

    Returns:
        By name an array `(seeds,)`; see `jl.estimate`.

    Raises:
        ValueError: as `fit` does.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((5, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), loss="mse")
    >>> states, _ = jl.fit_seeds(trainer, x, x[:, :1], seeds=3, epochs=2)
    >>> jl.evaluate_seeds(trainer, states, x, x[:, :1])["loss"].shape
    (3,)
    """
    _check("evaluate_seeds", trainer, states)
    data = source("x", x, arrays(x, y, sample_weight), batch_size, steps)
    with contextlib.closing(data):
        if isinstance(trainer.model, Layer):
            check_named(data.first())
        review, data = look_over(trainer.tasks, states[0].to_evaluate(), data)
        if key is None and any(update.task.always_draws for update in trainer.updates):
            key = jax.random.key(0)
        step = SeedsEvalStep.of(trainer.eval_step, review)
        whole = states.to_evaluate()
        keys = None if key is None else jax.numpy.stack([key] * len(states))
        return evaluated_each(step, whole.params, whole.state, data, len(states), 1, keys)


@taught
def predict_seeds(
    trainer: Trainer, states: SeedStates, x: Any, *, batch_size: int | None = None, key: Any = None
) -> Any:
    """The model's outputs for all samples, by each seed; `jl.predict` gives those of the ensemble.

    Args:
        trainer: what `jl.compile` returns.
        states: what `jl.fit_seeds` returns.
        x: as in `predict`.
        batch_size: samples per step, 32 if not given; the result does not depend on it.
        key: for layers that draw in inference mode, too.

    Returns:
        NumPy arrays `(seeds, samples, ...)` in the structure of the model's outputs.

    Raises:
        ValueError: as `predict` does.

    >>> import numpy as np, jlayers as jl
    >>> x = np.ones((5, 2), np.float32)
    >>> trainer = jl.compile(jl.Dense(1), loss="mse")
    >>> states, _ = jl.fit_seeds(trainer, x, x[:, :1], seeds=3)
    >>> members = jl.predict_seeds(trainer, states, x)
    >>> members.shape, bool(np.allclose(members.mean(0), jl.predict(trainer, states, x)))
    ((3, 5, 1), True)
    """
    _check("predict_seeds", trainer, states)
    made = outputs_of(EnsembleTrainer.of(trainer).members_step, states, x, batch_size, key, False)
    return jax.tree.map(lambda a: np.moveaxis(a, 1, 0), made)


def _check(name: str, trainer: Any, states: Any) -> None:
    check_process()
    if not isinstance(trainer, Trainer):
        error = TypeError(
            f"{name}: expected what jl.compile returns, received a {type(trainer).__name__}; write "
            f"jl.{name}(trainer, states, x)"
        )
        raise about(error, trainer=trainer)
    if not isinstance(states, SeedStates):
        error = TypeError(
            f"{name}: expected the states that jl.fit_seeds returns, received a {type(states).__name__}; for "
            f"one state write jl.{name.partition('_')[0]}(trainer, state, x)"
        )
        raise about(error, states=states)
