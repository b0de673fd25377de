"""A look at the layers inside a model as a batch passes through: one compiled program, one entry per call."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import get_opaque_trace_state

from jlayers.core.layer import Layer
from jlayers.core.notes import observe
from jlayers.data.batches import Batch
from jlayers.experiments.doctor.case import Case
from jlayers.train.state import TrainState, inputs_of
from jlayers.train.task import LossValue

__all__ = ["Call", "look_inside", "own_params"]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer in a forward pass.

    Attributes:
        path: of the layer; a further call of a shared layer is `path@1`.
        layer: itself.
        noted: the results of the look, as arrays on the host.
    """

    path: str
    layer: Layer
    noted: Any


def own_params(params: Any) -> dict[str, Any]:
    """The arrays that belong to a layer itself and not to layers inside."""
    return {name: leaf for name, leaf in params.items() if not isinstance(leaf, Mapping)}


def look_inside(
    case: Case,
    state: TrainState,
    batch: Batch,
    note: Callable[..., Any],
    *,
    train: bool = True,
    number: int = 0,
) -> tuple[list[Call], Any]:
    """The calls of all layers in one forward pass, in their order, and what `note` says of the loss.

    Layers inside a loop or a `Remat` are a part of the layer around them.

    Args:
        case: gives tasks and models.
        state: of the training.
        batch: that passes through.
        note: `note(layer, params, state, inputs, output)` to a pytree of arrays; for the loss of each task
            the layer is None, and the output a `LossValue`.
        train: as in training.
        number: of the step, from which the key follows.
    """
    layers: list[tuple[str, Layer]] = []
    tasks = case.trainer.tasks

    def forward(params: Any, state: Any, batch: Batch, key: Any) -> Any:
        layers.clear()
        seen: list[Any] = []
        uses: Counter[str] = Counter()
        outside = get_opaque_trace_state()

        def observer(path: str, layer: Layer, params: Any, state: Any, inputs: Any, output: Any) -> None:
            if get_opaque_trace_state() != outside:
                return
            layers.append((f"{path}@{uses[path]}" if uses[path] else path, layer))
            uses[path] += 1
            seen.append(note(layer, params, state, inputs, output))

        losses = []
        for update in tasks.updates:
            with observe(observer):
                loss, _ = update.task.loss(params, state, batch, tasks.key_of(update, key), train)
            for name, model in update.task.models.items():
                if not name:  # the only model of a supervised task, which no container calls
                    layers.append(("", model))
                    seen.append(note(model, params, state, inputs_of(batch.x), loss.outputs))
            losses.append(note(None, {}, {}, (), LossValue(loss.total)))
        return seen, losses

    key = jax.random.fold_in(state.key, number) if tasks.draws else None
    seen, losses = jax.device_get(jax.jit(forward)(state.params, state.state, batch, key))
    return [Call(path, layer, noted) for (path, layer), noted in zip(layers, seen, strict=True)], losses
