"""A look at the layers inside a model as a batch passes through: one compiled program, one entry per call."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from jlayers.core.layer import Layer
from jlayers.core.notes import observe
from jlayers.data.batches import Batch
from jlayers.experiments.doctor.case import Case
from jlayers.train.state import TrainState, inputs_of
from jlayers.train.task import LossValue

__all__ = ["Call", "Look", "layers_with_weights", "own_params"]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer in a forward pass.

    Attributes:
        path: path of the layer; a further call of a shared layer is `path@1`.
        layer: itself.
        noted: the results of the look, as arrays on the host.
    """

    path: str
    layer: Layer
    noted: Any


def own_params(params: Any) -> dict[str, Any]:
    """The arrays that belong to a layer itself and not to layers inside."""
    return {name: leaf for name, leaf in params.items() if not isinstance(leaf, Mapping)}


class Look:
    """One forward pass that notes something of every call of a layer; compiled once for all weights.

    Layers inside a loop or a `Remat` are a part of the layer around them.

    Args:
        case: the experiment, with its tasks and models.
        batch: that passes through.
        note: `note(layer, params, state, inputs, output)` to a pytree of arrays; for the loss of each task
            the layer is None, and the output a `LossValue`.
        train: as in training.
    """

    def __init__(self, case: Case, batch: Batch, note: Callable[..., Any], *, train: bool = True):
        self.batch, self.tasks = batch, case.trainer.tasks
        self._layers: list[tuple[str, Layer]] = []
        self._forward = functools.partial(self._run, note, train)
        self._compiled = jax.jit(self._forward)

    def __call__(self, state: TrainState, number: int = 0) -> tuple[list[Call], Any]:
        """The calls of all layers in their order, and what `note` says of the losses.

        Args:
            state: state of the training.
            number: number of the step, from which the key follows.
        """
        key = jax.random.fold_in(state.key, number) if self.tasks.draws else None
        return self._calls(jax.device_get(self._compiled(state.params, state.state, self.batch, key)))

    def traced_calls(self, state: TrainState) -> list[Call]:
        """The calls, with specs in place of arrays; nothing is compiled."""
        key = state.key if self.tasks.draws else None
        return self._calls(jax.eval_shape(self._forward, state.params, state.state, self.batch, key))[0]

    def _calls(self, made: tuple[list[Any], Any]) -> tuple[list[Call], Any]:
        seen, losses = made
        return [
            Call(path, layer, noted) for (path, layer), noted in zip(self._layers, seen, strict=True)
        ], losses

    def _run(
        self, note: Callable[..., Any], train: bool, params: Any, state: Any, batch: Batch, key: Any
    ) -> Any:
        self._layers.clear()
        seen: list[Any] = []
        uses: Counter[str] = Counter()
        outside = get_opaque_trace_state()

        def observer(path: str, layer: Layer, params: Any, state: Any, inputs: Any, output: Any) -> None:
            if get_opaque_trace_state() != outside:
                return
            self._layers.append((f"{path}@{uses[path]}" if uses[path] else path, layer))
            uses[path] += 1
            seen.append(note(layer, params, state, inputs, output))

        losses = []
        for update in self.tasks.updates:
            with observe(observer):
                loss, _ = update.task.loss(params, state, batch, self.tasks.key_of(update, key), train)
            for name, model in update.task.models.items():
                if not name:  # the only model of a supervised task, which no container calls
                    self._layers.append(("", model))
                    seen.append(note(model, params, state, inputs_of(batch.x), loss.outputs))
            losses.append(note(None, {}, {}, (), LossValue(loss.total)))
        return seen, losses


def layers_with_weights(case: Case) -> list[str]:
    """The paths of the layers with arrays of their own, in the order in which they run."""

    def note(layer: Any, params: Any, state: Any, inputs: Any, output: Any) -> Any:
        return () if layer is None or not own_params(params) else (jnp.zeros(()),)

    calls = Look(case, case.first, note).traced_calls(case.state)
    return list(dict.fromkeys(call.path.partition("@")[0] for call in calls if call.noted))
