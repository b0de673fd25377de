"""Check "gradients": layers that get none, gradients that vanish or explode, the first NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers.core.tree import flatten
from jlayers.data.batches import Batch
from jlayers.experiments.doctor.case import Case
from jlayers.experiments.doctor.finding import Finding
from jlayers.experiments.doctor.first_nan import first_not_finite
from jlayers.experiments.doctor.inside import layers_with_weights
from jlayers.train.gradients import gradients_of
from jlayers.train.state import TrainState

__all__ = ["check_gradients", "gradients_by_path", "judge_sizes"]

VANISHES = 1e-7  # of the largest gradient of a layer
EXPLODES = 1e5  # times that of the last layer
LAYERS = 3  # with weights, at least, before one speaks of the gradient's way through them


def gradients_by_path(case: Case, state: TrainState, batch: Batch, number: int = 0) -> dict[str, Any]:
    """By the path of each trained array: the root mean square of its gradient, and whether all are finite."""
    tasks = case.trainer.tasks

    def all_gradients(params: Any, state: Any, batch: Batch, key: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for update in tasks.updates:
            made = gradients_of(
                update,
                params,
                state,
                (),
                batch,
                tasks.key_of(update, key),
                observe=lambda acc, loss, part: acc,
            )
            for path, leaf in flatten(made.values).items():
                wide = leaf.astype(jnp.float32)
                found[path] = {
                    "size": jnp.sqrt(jnp.square(wide).mean()) if leaf.size else jnp.float32(0),
                    "none": (leaf == 0).all(),
                    "finite": jnp.isfinite(leaf).all(),
                }
        return found

    key = jax.random.fold_in(state.key, number) if tasks.draws else None
    return jax.device_get(jax.jit(all_gradients)(state.params, state.state, batch, key))


def check_gradients(case: Case) -> list[Finding]:
    """The gradients of some samples before the first step, and of others after a few."""
    at_first = gradients_by_path(case, case.state, case.some)
    if not all(each["finite"] for each in at_first.values()):
        return first_not_finite(case, case.state, case.some)
    none = [path for path, each in at_first.items() if each["none"]]
    later = at_first
    if none and case.task is not None:
        from jlayers.experiments.doctor.trial import trials_of

        trials = trials_of(case)
        _, state = trials.train(trials.whole_batches(10), 1.0)
        later = gradients_by_path(case, state, case.some, 10)
        none = [path for path in none if later[path]["none"]]
    if none:
        return [_none(case, none)]
    return _along(case, at_first, later)


def _none(case: Case, none: Sequence[str]) -> Finding:
    layers = list(dict.fromkeys(path.rpartition("/")[0] for path in none))
    listed = ", ".join(layers[:4]) + (", ..." if len(layers) > 4 else "")
    return Finding(
        "gradients",
        "error",
        layers[0],
        f"{len(none)} trained arrays get no gradient at all, in {listed}: nothing moves them",
        "look for what cuts them off from the loss: an output that no loss uses, jax.lax.stop_gradient, "
        "rounding or argmax, a layer behind them whose units are all dead; or freeze them if that is meant",
        {"arrays": list(none)},
    )


def _along(case: Case, at_first: Any, later: Any) -> list[Finding]:
    """The size of the gradients by layer, from the input to the output."""
    sizes = {}
    for path in layers_with_weights(case):
        own = [
            max(float(measure[name]["size"]) for measure in (at_first, later))
            for name in at_first
            if name.rpartition("/")[0] == path
        ]
        if own:
            sizes[path] = max(own)
    return judge_sizes(sizes)


def judge_sizes(sizes: Mapping[str, float]) -> list[Finding]:
    """A finding if gradients vanish or explode on their way from the last layer to the first.

    Args:
        sizes: the root mean square of the gradient of each layer, in the order in which they run.
    """
    if len(sizes) < LAYERS:
        return []
    paths, values = list(sizes), list(sizes.values())
    shown = {path: float(f"{value:.3g}") for path, value in sizes.items()}
    if values[0] < VANISHES * max(values) and values[0] == min(values[: len(values) // 2 + 1]):
        text = (
            f"the gradient vanishes on its way to the input: {values[0]:.2g} in size at {paths[0]}, "
            f"{max(values):.2g} at {paths[values.index(max(values))]}"
        )
        advice = (
            "use relu or gelu instead of sigmoid and tanh, he_normal weights, normalization between the "
            "layers, or shortcuts (jl.Residual)"
        )
        return [Finding("gradients", "warning", paths[0], text, advice, {"sizes": shown})]
    if values[0] > EXPLODES * values[-1] > 0:
        text = (
            f"the gradient explodes on its way to the input: {values[-1]:.2g} in size at {paths[-1]}, "
            f"{values[0]:.2g} at {paths[0]}"
        )
        advice = (
            "clip it (clip_by_global_norm before the optimizer), start with smaller weights, put "
            "normalization between the layers"
        )
        return [Finding("gradients", "warning", paths[0], text, advice, {"sizes": shown})]
    return []
