"""Values in the logs over many batches: means of losses and of their parts, and metrics over outputs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jlayers import metrics
from jlayers.core.errors import about, concerning
from jlayers.core.masks import mask_of, values_of
from jlayers.core.precision import widen
from jlayers.core.registry import Registry
from jlayers.core.shapes import as_spec, describe
from jlayers.core.spelling import nearest
from jlayers.data.batches import Batch
from jlayers.losses.base import match_axis
from jlayers.metrics.base import name_of, product, ratio, start
from jlayers.metrics.totals import add, value_of, zero
from jlayers.train.task import Loss, Part, Task

__all__ = ["Measures", "Plan", "by_output", "output_names", "resolved", "seen", "weights_by_output"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The list of measured values, once the structure of a task's loss is known.

    Attributes:
        means: the parts of the loss by name, sorted, with the factor of each in the loss.
        order: their names in the order in which the task gives them.
        metrics: by name in the logs: the metric, the number of its output, whether sample weights count.
        outputs: names of the outputs; [None] for a single one, [] for none.
        specs: specs of the outputs, half precision as float32: so metrics see them.
        dtype: dtype of the loss.
    """

    means: Mapping[str, float]
    order: Sequence[str]
    metrics: Mapping[str, tuple[Any, int, bool]]
    outputs: Sequence[str | None]
    specs: Sequence[Any]
    dtype: Any

    @property
    def keys(self) -> list[str]:
        """The names in the logs, in order."""
        own = [name for name in self.order if name != "loss" and not name.startswith("_")]
        return ["loss", *own, *self.metrics]

    @property
    def directions(self) -> dict[str, str]:
        """By name in the logs: "min" or "max", whichever is better."""
        return dict.fromkeys(self.keys, "min") | {
            key: getattr(metric, "direction", "max") for key, (metric, _, _) in self.metrics.items()
        }


class Measures:
    """The accumulators of a task's loss and metrics, as pure functions over plain arrays.

    Args:
        metrics: by name or object; for several outputs a list with one entry per output, or a dict by name.
        weighted_metrics: the same, with sample weights.
        task: knows the names of its outputs, and how a metric sees them.
    """

    def __init__(self, task: Task, metrics: Any = (), weighted_metrics: Any = ()):
        self.task = task
        with concerning(metrics=metrics):
            self.metrics = _named(metrics)
        with concerning(weighted_metrics=weighted_metrics):
            self.weighted_metrics = _named(weighted_metrics)

    def plan(self, loss: Loss, order: Sequence[str] = ()) -> Plan:
        """The plan for such a loss (arrays or specs); its parts have this order in the logs."""
        parts = sorted(loss.parts.items())
        means = {name: part.factor if isinstance(part, Part) else 0.0 for name, part in parts}
        names = [] if loss.outputs is None else output_names(loss.outputs, self.task.output_names)
        if names == [] and (self.metrics or self.weighted_metrics):
            error = ValueError(
                "expected a task whose Loss has outputs for these metrics, received none; return "
                "jl.Loss(total, outputs=...)"
            )
            raise about(error, metrics=self.metrics)
        entries: dict[str, tuple[Any, int, bool]] = {}
        for entry, weighted in ((self.metrics, False), (self.weighted_metrics, True)):
            for i, members in enumerate(_metrics_by_output(names, entry)):
                for name, metric in members:
                    key = name if names[i] is None else f"{names[i]}_{name}"
                    with _concerning(key, weighted):
                        metric = self.task.metric(loss.outputs, i, metric)
                    entries[_unused(key, {**means, **entries}, weighted)] = (metric, i, weighted)
        specs = [as_spec(values_of(value)) for value in seen(loss.outputs)] if names else []
        return Plan(means, order, entries, names, specs, loss.total.dtype)

    def zero(self, plan: Plan) -> dict[str, Any]:
        """Accumulators of everything in the logs."""
        means = zero((len(plan.means), 2), plan.dtype)
        return {"means": means} | {key: start(m, plan.specs[i]) for key, (m, i, _) in plan.metrics.items()}

    def update(self, plan: Plan, acc: Any, loss: Loss, batch: Batch) -> dict[str, Any]:
        """The accumulators with one more batch."""
        count = loss.count
        rows = []
        for name in plan.means:
            part = loss.parts[name]
            part = part if isinstance(part, Part) else Part.of(part, count)
            rows += [jnp.asarray(part.total, plan.dtype), jnp.asarray(part.count, plan.dtype)]
        new = {"means": add(acc["means"], jnp.stack(rows).reshape(-1, 2))}
        if plan.metrics:
            outputs = seen(loss.outputs)
            targets = by_output(plan.outputs, batch.y if loss.targets is None else loss.targets, "y")
            weights = weights_by_output(plan.outputs, batch.weight)
            for key, (metric, i, weighted) in plan.metrics.items():
                counted = product(batch.mask, mask_of(outputs[i]))
                weight = product(counted, weights[i] if weighted else None)
                target = match_axis(targets[i], values_of(outputs[i]))
                with _concerning(key, weighted):
                    new[key] = metric.update(acc[key], target, values_of(outputs[i]), weight)
        return new

    def result(self, plan: Plan, acc: Any) -> dict[str, jax.Array]:
        """The logs: scalars by name."""
        means = ratio(*value_of(acc["means"]).T)
        total = means @ jnp.array(list(plan.means.values()), means.dtype)
        logs = {"loss": total}
        for i, name in enumerate(plan.means):
            if name != "loss" and not name.startswith("_"):
                logs[name] = means[i]
        results = {key: metric.result(acc[key]) for key, (metric, _, _) in plan.metrics.items()}
        return logs | {key: _scalar(key, value) for key, value in results.items()}


# -------------------------------------------------------------------------------- names and structures


def output_names(outputs: Any, names: Sequence[str] | None = None) -> list[str | None]:
    """The names of a model's outputs: None for a single one."""
    if not isinstance(outputs, (dict, list, tuple)):
        return [None]
    if any(isinstance(value, (dict, list, tuple)) for value in values(outputs)):
        error = TypeError(
            "expected a model with one output, a list of them or a dict, received outputs nested deeper: "
            f"{jax.tree.structure(outputs)}"
        )
        raise about(error, model=outputs)
    if len(outputs) == 1:
        return [None]
    if isinstance(outputs, dict):
        return list(outputs)
    if names is not None and len(set(names)) == len(outputs):
        return list(names)
    return [f"output_{i}" for i in range(len(outputs))]


def values(y: Any) -> list[Any]:
    """One array, or those of a list or dict, as a list."""
    if isinstance(y, Mapping):
        return list(y.values())
    return list(y) if isinstance(y, (list, tuple)) else [y]


def seen(y_pred: Any) -> list[Any]:
    """The outputs as losses and metrics see them: not in half precision."""
    return [widen(value) for value in values(y_pred)]


def is_spec(value: Mapping[str, Any], table: Registry) -> bool:
    """True for `{"Huber": {"delta": 2.0}}`, which is one object and not a dict over outputs."""
    return len(value) == 1 and all(name in table and isinstance(v, Mapping) for name, v in value.items())


def resolved(value: Any, table: Registry, make: Callable[[Any], Any], missing: Any = None) -> Any:
    """`make` of each object in a list or dict over outputs, in the same structure."""
    if isinstance(value, (list, tuple)):
        return [resolved(member, table, make, missing) for member in value]
    if isinstance(value, Mapping) and not is_spec(value, table):
        return {name: resolved(member, table, make, missing) for name, member in value.items()}
    return missing if value is None else make(value)


def by_output(names: Sequence[str | None], value: Any, what: str) -> list[Any]:
    """`value`, given by position or by name, as a list over the outputs; None where a dict lacks one."""
    if isinstance(value, Mapping):
        if len(names) == 1 and len(value) == 1:
            return list(value.values())
        for name in value:
            if name not in names:
                error = KeyError(
                    f"{what} names the output {name!r}, which the model does not have: "
                    f"{nearest(name, [n for n in names if n])}"
                )
                raise about(error, name, **{what: value})
        return [value.get(name) for name in names]
    each = values(value)
    if len(each) != len(names):
        error = ValueError(
            f"expected {what} for {len(names)} outputs"
            + (f" {list(names)}" if names and names[0] else "")
            + f", received {len(each)}"
        )
        raise about(error, **{what: value})
    return each


def weights_by_output(names: Sequence[str | None], weight: Any) -> list[Any]:
    """Sample weights for each output."""
    if weight is None or hasattr(weight, "shape"):
        return [weight] * len(names)
    return by_output(names, weight, "sample_weight")


def _concerning(key: str, weighted: bool) -> contextlib.AbstractContextManager[None]:
    """Within, errors are about a metric of this name in the logs."""
    return concerning(**{"weighted_metrics" if weighted else "metrics": key})


@dataclasses.dataclass(frozen=True)
class _Named:
    name: str
    metric: Any


def _named(value: Any) -> Any:
    """Metrics with their names in the logs, in the structure in which they were given."""

    def named(value: Any) -> Any:
        metric = metrics.get(value)
        return _Named(name_of(metric, value), metric)

    return resolved(value, metrics.registry, named, [])


def _metrics_by_output(names: Sequence[str | None], value: Any) -> list[list[tuple[str, Any]]]:
    if isinstance(value, _Named):
        value = [value]
    if not value:
        return [[] for _ in names]
    if len(names) == 1:
        return [_flat(value)]
    if isinstance(value, list) and len(value) != len(names):
        error = ValueError(
            f"expected metrics for each of the outputs {list(names)}, as a list of {len(names)} entries or a "
            f"dict by output name, received {len(value)} metrics"
        )
        raise about(error, metrics=value)
    return [_flat(member) for member in by_output(names, value, "metrics")]


def _flat(value: Any) -> list[tuple[str, Any]]:
    if value is None or isinstance(value, _Named):
        return [(value.name, value.metric)] if value else []
    members = value.values() if isinstance(value, Mapping) else value
    return [pair for member in members for pair in _flat(member)]


def _unused(key: str, taken: Mapping[str, Any], weighted: bool) -> str:
    if key in taken and weighted:
        key = f"weighted_{key}"
    stem, number = key, 0
    while key in taken:
        number += 1
        key = f"{stem}_{number}"
    return key


def _scalar(name: str, value: Any) -> jax.Array:
    if value.size != 1:
        error = ValueError(
            f"expected one number from each metric in training, received {describe(value)} from {name!r}; "
            f"give it one threshold or an average, such as F1Score(average='macro'), or call it by itself"
        )
        raise about(error, metrics=name)
    return value.reshape(())
