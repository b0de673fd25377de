"""Many seeds as one model: the mean of what they predict, judged like the predictions of one.

Members are averaged as probabilities. Where a loss takes logits, the logits of that average are given, so
that what an ensemble predicts means the same as what one of its members does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.layer import Layer
from jlayers.core.masks import is_masked, mask_of, values_of, with_mask
from jlayers.data.batches import Batch
from jlayers.losses.base import Loss as Record
from jlayers.losses.base import wide
from jlayers.train.measures import values
from jlayers.train.objective import Supervised
from jlayers.train.seeds.states import spec_of_one
from jlayers.train.state import inputs_of
from jlayers.train.step import PredictStep
from jlayers.train.task import Loss
from jlayers.train.trainer import Trainer
from jlayers.train.update import Update

__all__ = ["EnsembleTrainer"]


def mean_of_members(judge: Record | None, output: Any) -> Any:
    """The mean over the first axis of an output, of probabilities where the loss takes logits."""
    a = values_of(output)
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        joined = a.astype(jnp.float32).mean(0)
    elif judge is None or not judge.from_logits:
        joined = a.astype(wide(a.dtype)).mean(0).astype(a.dtype)
    else:
        logits = a.astype(wide(a.dtype))
        share = -jnp.log(jnp.asarray(a.shape[0], logits.dtype))
        if judge.binary:
            yes, no = (jax.nn.logsumexp(jax.nn.log_sigmoid(z), axis=0) + share for z in (logits, -logits))
            joined = (yes - no).astype(a.dtype)
        else:
            joined = (jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) + share).astype(a.dtype)
    return with_mask(joined, mask_of(output)[0]) if is_masked(output) else joined


class _Members(Supervised):
    """The task of a model, on stacked parameters: the members' outputs become one."""

    def outputs(
        self, params: Any, state: Any, x: Any, key: Any = None, train: bool = False
    ) -> tuple[Any, Any]:
        """The outputs of all members, stacked, and their states."""
        apply = functools.partial(self.model.apply, train=train)
        keys = None if key is None else jax.random.split(key, jax.tree.leaves((params, state))[0].shape[0])
        run = lambda params, state, key: apply(params, state, *inputs_of(x), key=key)  # noqa: E731
        return jax.vmap(run, in_axes=(0, 0, None if keys is None else 0))(params, state, keys)

    def joined(self, outputs: Any) -> Any:
        """One output of the members'."""
        _, judges, _ = self.judges(jax.tree.map(lambda a: a[0], outputs))
        made = [mean_of_members(j, o) for j, o in zip(judges, values(outputs), strict=True)]
        if isinstance(outputs, dict):
            return dict(zip(outputs, made, strict=True))
        return type(outputs)(made) if isinstance(outputs, (list, tuple)) else made[0]

    def loss(self, params: Any, state: Any, batch: Batch, key: Any, train: bool) -> tuple[Loss, Any]:
        outputs, moved = self.outputs(params, state, batch.x, key if self.draws else None)
        loss = self.judge(self.joined(outputs), batch)
        return self.with_extras(loss, params, moved, batch), moved

    def _extra(self, params: Any, state: Any) -> jax.Array | None:
        """The mean of the members' penalties."""
        of_one = super()._extra
        made = jax.vmap(of_one)(params, state)
        return None if made is None else made.mean()

    def check_predictions(self, params: Any, state: Any, batch: Batch, endings: Sequence[Any]) -> None:
        """The members were looked at when they were trained."""


class _PredictStep(PredictStep):
    """The forward pass of an ensemble, or of its members side by side."""

    def __init__(self, task: _Members, joined: bool):
        super().__init__(task.model)

        def step(params: Any, state: Any, x: Any, key: Any = None, train: bool = False) -> Any:
            outputs, _ = task.outputs(params, state, x, key, train)
            if joined:
                return task.joined(outputs)
            return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), outputs)  # rows first, as predict has them

        self.one = jax.jit(lambda params, state, x: step(params, state, x))
        self.drawing = jax.jit(step, static_argnames="train")

    def lookups(self, params: Any, state: Any, x: Any, key: Any = None) -> dict[str, Any]:
        return super().lookups(spec_of_one(params), spec_of_one(state), x, key)


class EnsembleTrainer(Trainer):
    """A trainer for `evaluate` and `predict` on stacked states, as `jl.fit_seeds` returns them."""

    @classmethod
    def of(cls, trainer: Trainer) -> EnsembleTrainer:
        """The ensemble of a trainer, made once and kept with it.

        Raises:
            TypeError: a trainer of tasks, whose outputs have no mean that is known.
        """
        if not isinstance(trainer.model, Layer):
            raise TypeError(
                "expected a trainer of one model for an ensemble, received one of tasks; use the states of "
                "its seeds one by one: states[0], states[1], ..."
            )
        kept = vars(trainer)
        if "_ensemble" not in kept:
            options = {f.name: getattr(trainer, f.name) for f in dataclasses.fields(trainer)}
            kept["_ensemble"] = cls(**options)
        return kept["_ensemble"]

    @functools.cached_property
    def updates(self) -> list[Update]:
        task = _Members(self.model, self.loss, self.loss_weights, self._named())
        if task.inner:
            raise ValueError(
                f"expected losses and metrics of the model's outputs for an ensemble, received one of the "
                f"layer {task.inner[0]!r} inside; evaluate the seeds one by one with jl.evaluate_seeds"
            )
        return [Update("", task, self.optimizer)]

    @functools.cached_property
    def predict_step(self) -> PredictStep:
        return _PredictStep(self._task, joined=True)

    @functools.cached_property
    def members_step(self) -> PredictStep:
        """The forward pass that gives `(rows, members, ...)`."""
        return _PredictStep(self._task, joined=False)

    @property
    def _task(self) -> _Members:
        task = self.updates[0].task
        assert isinstance(task, _Members)
        return task
