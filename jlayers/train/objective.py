"""What a model is trained for and judged by: losses and metrics laid over the model's outputs.

A model has one output, a list of them, or a dict. Losses, loss weights, metrics, targets and sample weights
are given in the same structure, or by output name, as in Keras.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers import losses, metrics
from jlayers.core.layer import Layer
from jlayers.core.masks import Masked, mask_of, values_of
from jlayers.core.precision import widen
from jlayers.core.registry import Registry, nearest
from jlayers.core.shapes import as_spec, describe
from jlayers.core.state import is_aux_loss
from jlayers.core.tree import flatten
from jlayers.data.batches import Batch
from jlayers.losses.base import Loss, as_loss, match_axis, wide
from jlayers.metrics.base import beside, name_of, ratio, spread, start
from jlayers.metrics.totals import add, value_of, zero
from jlayers.train.endings import Ending, check_ending, traced_endings
from jlayers.train.state import inputs_of
from jlayers.transform.freeze import trainable_mask

__all__ = ["Objective", "Plan"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Who judges what: fixed once the model's outputs are known.

    Attributes:
        outputs: names of the outputs; [None] for a single one.
        losses: per output its loss, or None.
        weights: per output the factor of its loss.
        metrics: by name in the logs: the metric, the number of its output, whether sample weights count.
        specs: of the outputs, half precision as float32: so losses and metrics see them.
    """

    outputs: Sequence[str | None]
    losses: Sequence[Loss | None]
    weights: Sequence[float]
    metrics: Mapping[str, tuple[Any, int, bool]]
    specs: Sequence[Any]

    @property
    def dtype(self) -> Any:
        """Of the loss: float64 if an output is, else float32."""
        wide = any(spec.dtype == jnp.float64 for spec in jax.tree.leaves(self.specs))
        return jnp.dtype(jnp.float64 if wide else jnp.float32)

    @property
    def keys(self) -> list[str]:
        """The names in the logs, in order."""
        return ["loss", *self.loss_keys.values(), *self.metrics]

    @property
    def loss_keys(self) -> dict[int, str]:
        """The names of the outputs' own losses, by number of the output; none for a single output."""
        if len(self.outputs) == 1:
            return {}
        return {i: f"{self.outputs[i]}_loss" for i, loss in enumerate(self.losses) if loss}

    @property
    def directions(self) -> dict[str, str]:
        """By name in the logs: "min" or "max", whichever is better."""
        return dict.fromkeys(self.keys, "min") | {
            key: getattr(metric, "direction", "max") for key, (metric, _, _) in self.metrics.items()
        }


class Objective:
    """Losses and metrics by name or object, in the structure of the model's outputs; see `jl.compile`."""

    def __init__(
        self,
        model: Layer,
        loss: Any,
        metrics: Any = (),
        loss_weights: Any = None,
        weighted_metrics: Any = (),
    ):
        self.model = model
        self.loss_weights = loss_weights
        self.losses = _resolve(loss, losses.registry)
        self.metrics = _named(metrics)
        self.weighted_metrics = _named(weighted_metrics)

        # Functions of their own, so that JAX remembers their traces from one `fit` to the next.
        def forward(params: Any, state: Any, x: Any) -> Any:
            y_pred, self._endings = traced_endings(model, params, state, inputs_of(x))
            return y_pred

        def judge(y_pred: Any, batch: Batch) -> Any:
            return self.loss(self.plan(y_pred), y_pred, batch)[0]

        self._forward, self._judge = forward, judge
        self._endings: list[Ending | None] = []  # a fact of the model, learned when `forward` is traced

    def outputs(self, params: Any, state: Any, x: Any) -> Any:
        """The specs of the model's outputs."""
        return jax.eval_shape(self._forward, params, state, as_spec(x))

    def check_endings(self, plan: Plan) -> None:
        """Refuse outputs that end in an activation that their losses cannot use."""
        for loss, ending, spec in zip(plan.losses, self._endings, plan.specs, strict=True):
            if loss is not None:
                check_ending(loss, ending, spec)

    def try_out(self, y_pred: Any, batch: Batch) -> None:
        """Raises what the loss has to say of the shapes of predictions and targets."""
        jax.eval_shape(self._judge, y_pred, batch)

    def plan(self, y_pred: Any) -> Plan:
        """The plan for outputs of this structure; `y_pred` may be specs."""
        names = self._names(y_pred)
        single = self.losses is None or callable(self.losses)
        chosen = [self.losses] * len(names) if single else _by_output(names, self.losses, "loss")
        if not any(chosen):
            raise ValueError(f"expected a loss for at least one output, received loss={self.losses!r}")
        weights = self.loss_weights
        if weights is not None and np.ndim(weights) == 0 and not isinstance(weights, Mapping):
            weights = [weights]
        factors = [1.0] * len(names) if weights is None else _by_output(names, weights, "loss_weights")
        judges = [None if loss is None else as_loss(loss) for loss in chosen]
        entries: dict[str, tuple[Any, int, bool]] = {}
        for given, weighted in ((self.metrics, False), (self.weighted_metrics, True)):
            for i, members in enumerate(_metrics_by_output(names, given)):
                for name, metric in members:
                    key = name if names[i] is None else f"{names[i]}_{name}"
                    entries[_unused(key, entries, weighted)] = (beside(judges[i], metric), i, weighted)
        specs = [as_spec(values_of(value)) for value in _seen(y_pred)]
        return Plan(names, judges, [1.0 if f is None else float(f) for f in factors], entries, specs)

    def _names(self, y_pred: Any) -> list[str | None]:
        if not isinstance(y_pred, (dict, list, tuple)):
            return [None]
        if any(isinstance(value, (dict, list, tuple)) for value in _values(y_pred)):
            raise TypeError(
                "expected a model with one output, a list of them or a dict, received outputs nested deeper: "
                f"{jax.tree.structure(y_pred)}"
            )
        if len(y_pred) == 1:
            return [None]
        if isinstance(y_pred, dict):
            return list(y_pred)
        names = self.model.output_names
        if names and len(names) == len(y_pred):
            return [*names]
        return [f"output_{i}" for i in range(len(y_pred))]

    def init(self, plan: Plan) -> dict[str, Any]:
        """Accumulators of everything in the logs, at zero."""
        means = ("loss", *plan.loss_keys.values())
        none = {key: {"total": zero((), plan.dtype), "count": zero((), plan.dtype)} for key in means}
        return none | {key: start(metric, plan.specs[i]) for key, (metric, i, _) in plan.metrics.items()}

    def loss(self, plan: Plan, y_pred: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the outputs' mean losses, and each by its name in the logs; scalars."""
        outputs = _seen(y_pred)
        targets = _targets(plan, batch.y, outputs)
        weights = _weights(plan.outputs, batch.weight)
        total = jnp.zeros((), plan.dtype)
        parts = {}
        for i, loss in enumerate(plan.losses):
            if loss is None:
                continue
            if targets[i] is None:
                raise ValueError(
                    f"expected targets for the output {plan.outputs[i] or 'of the model'}, got None"
                )
            value = _mean(loss, targets[i], outputs[i], weights[i], batch.mask).astype(total.dtype)
            total = total + plan.weights[i] * value
            if i in plan.loss_keys:
                parts[plan.loss_keys[i]] = value
        return total, parts

    def extra(self, params: Any, state: Any) -> jax.Array:
        """What the loss gets besides: regularisers, and `aux_loss` leaves that layers left in their state."""
        total = self.model.penalty(params)
        flat = flatten(state)
        found = list(filter(is_aux_loss, flat))
        trained = flatten(trainable_mask(self.model, state)) if found else {}
        for path in found:
            if trained[path]:
                total = total + jnp.sum(flat[path]).astype(total.dtype)
        return total

    def update(self, plan: Plan, acc: Any, losses: Mapping[str, Any], y_pred: Any, batch: Batch) -> Any:
        """The accumulators with one more batch; `losses` are the batch's means by name in the logs."""
        outputs = _seen(y_pred)
        targets = _targets(plan, batch.y, outputs)
        weights = _weights(plan.outputs, batch.weight)
        rows = jnp.float32(values_of(outputs[0]).shape[0]) if batch.mask is None else batch.mask.sum()
        rows = rows.astype(plan.dtype)
        new = {
            key: {"total": add(acc[key]["total"], value * rows), "count": add(acc[key]["count"], rows)}
            for key, value in losses.items()
        }
        for key, (metric, i, weighted) in plan.metrics.items():
            counted = _product(batch.mask, mask_of(outputs[i]))
            weight = _product(counted, weights[i] if weighted else None)
            new[key] = metric.update(acc[key], targets[i], values_of(outputs[i]), weight)
        return new

    def result(self, plan: Plan, acc: Any) -> dict[str, jax.Array]:
        """The logs: scalars by name."""
        means = ("loss", *plan.loss_keys.values())
        logs = {key: ratio(value_of(acc[key]["total"]), value_of(acc[key]["count"])) for key in means}
        results = {key: metric.result(acc[key]) for key, (metric, _, _) in plan.metrics.items()}
        return logs | {key: _scalar(key, value) for key, value in results.items()}

    def check(self, plan: Plan, y: Any, y_pred: Any) -> None:
        """Let each loss look over its targets on the host: label ranges and the like."""
        outputs = _seen(y_pred)
        targets = _targets(plan, y, outputs)
        for i, loss in enumerate(plan.losses):
            if isinstance(targets[i], np.ndarray) and loss is not None and loss.check is not None:
                loss.check(targets[i], values_of(outputs[i]))
        self.check_endings(plan)


# -------------------------------------------------------------------------------- names and structures


def _resolve(value: Any, table: Registry) -> Any:
    """Names and `{name: arguments}` as objects, anywhere in a list or dict over outputs."""
    if isinstance(value, (list, tuple)):
        return [_resolve(member, table) for member in value]
    if isinstance(value, Mapping) and not _is_spec(value, table):
        return {name: _resolve(member, table) for name, member in value.items()}
    return table.get(value)


def _is_spec(value: Mapping[str, Any], table: Registry) -> bool:
    """True for `{"Huber": {"delta": 2.0}}`, which is one object and not a dict over outputs."""
    return len(value) == 1 and all(name in table and isinstance(v, Mapping) for name, v in value.items())


def _named(value: Any) -> Any:
    """Metrics with their names in the logs: pairs, in the same structure."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [_named(member) for member in value]
    if isinstance(value, Mapping) and not _is_spec(value, metrics.registry):
        return {name: _named(member) for name, member in value.items()}
    metric = metrics.get(value)
    return _Named(name_of(metric, value), metric)


@dataclasses.dataclass(frozen=True)
class _Named:
    name: str
    metric: Any

    def __iter__(self) -> Any:
        return iter((self.name, self.metric))


def _metrics_by_output(names: Sequence[str | None], given: Any) -> list[list[_Named]]:
    if isinstance(given, _Named):
        given = [given]
    if not given:
        return [[] for _ in names]
    if len(names) == 1:
        return [_flat(given)]
    if isinstance(given, list) and len(given) != len(names):
        raise ValueError(
            f"expected metrics for each of the outputs {list(names)}, as a list of {len(names)} entries or a "
            f"dict by output name, received {len(given)} metrics"
        )
    return [_flat(member) for member in _by_output(names, given, "metrics")]


def _flat(given: Any) -> list[_Named]:
    if given is None or isinstance(given, _Named):
        return [given] if given else []
    members = given.values() if isinstance(given, Mapping) else given
    return [named for member in members for named in _flat(member)]


def _unused(key: str, taken: Mapping[str, Any], weighted: bool) -> str:
    if key in taken and weighted:
        key = f"weighted_{key}"
    stem, number = key, 0
    while key in taken:
        number += 1
        key = f"{stem}_{number}"
    return key


def _values(y: Any) -> list[Any]:
    if isinstance(y, Mapping):
        return list(y.values())
    return list(y) if isinstance(y, (list, tuple)) else [y]


def _seen(y_pred: Any) -> list[Any]:
    """The outputs as losses and metrics see them: not in half precision."""
    return [widen(value) for value in _values(y_pred)]


def _by_output(names: Sequence[str | None], value: Any, what: str) -> list[Any]:
    """`value`, given by position or by name, as a list over the outputs; None where a dict lacks one."""
    if isinstance(value, Mapping):
        if len(names) == 1 and len(value) == 1:
            return list(value.values())
        for name in value:
            if name not in names:
                raise KeyError(
                    f"{what} names the output {name!r}, which the model does not have: "
                    f"{nearest(name, [n for n in names if n])}"
                )
        return [value.get(name) for name in names]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(values) != len(names):
        raise ValueError(
            f"expected {what} for {len(names)} outputs"
            + (f" {list(names)}" if names[0] else "")
            + f", received {len(values)}"
        )
    return values


def _targets(plan: Plan, y: Any, outputs: Sequence[Any]) -> list[Any]:
    """The targets of each output, in the shape of its predictions if only an axis of one entry differs."""
    given = _by_output(plan.outputs, y, "y")
    return [match_axis(target, values_of(output)) for target, output in zip(given, outputs, strict=True)]


def _weights(names: Sequence[str | None], weight: Any) -> list[Any]:
    if weight is None or hasattr(weight, "shape"):
        return [weight] * len(names)
    return _by_output(names, weight, "sample_weight")


# ------------------------------------------------------------------------------------------- reduction


def _scalar(name: str, value: Any) -> jax.Array:
    if value.size != 1:
        raise ValueError(
            f"expected one number from each metric in training, received {describe(value)} from {name!r}; "
            f"give it one threshold or an average, such as F1Score(average='macro'), or call it by itself"
        )
    return value.reshape(())


def _product(a: Any, b: Any) -> Any:
    """The product of two weights, each per sample or per time step; either may be missing."""
    if a is None or b is None:
        return b if a is None else a
    short, long = sorted((a, b), key=lambda weight: weight.ndim)
    return spread(short, long) * long.astype(jnp.float32)


def _mean(loss: Loss, y_true: Any, y_pred: Any, weight: Any, mask: Any) -> jax.Array:
    """Keras's mean: the weighted sum over the number of real values, the weights not in the denominator.

    Of a `Masked` prediction the real positions alone count.
    """
    y_pred, real = values_of(y_pred), mask_of(y_pred)
    values = loss(y_true, y_pred, mask)
    if values.ndim == 0:
        raise ValueError(f"expected a loss with a value per sample, received a scalar from {loss.name}")
    if real is not None and (loss.across_rows or real.ndim > values.ndim):
        raise ValueError(
            f"expected a loss with a value per position of the masked predictions "
            f"{describe(Masked(y_pred, real))}, received {describe(values)} from {loss.name}; put "
            f"jl.DropMask() at the model's end to do without the mask"
        )
    values = values.astype(wide(values.dtype))
    counts = loss.counted(y_true, y_pred, mask)
    counted = _product(mask, real)
    counted = None if counted is None else spread(counted, values)
    if counts is not None:
        counted = _product(counted, counts.astype(jnp.float32))
    if weight is not None:
        values = values * spread(weight, values).astype(values.dtype)
    if counted is None:
        return values.mean()
    counted = counted.astype(values.dtype)
    if real is not None:  # what stands in padding may be anything
        values = jnp.where(counted != 0, values, 0)
    return ratio((values * counted).sum(), counted.sum())
