"""The tasks of a trainer taken together: what is known of a batch before a step, and what the logs say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jlayers.core.layer import Layer
from jlayers.core.shapes import as_spec
from jlayers.core.wiring import child_key
from jlayers.data.batches import Batch
from jlayers.train.endings import Ending, endings_of, observed_calls
from jlayers.train.ids import Lookup, lookups_of
from jlayers.train.measures import Measures, Plan
from jlayers.train.probes import PROBES, Probe, results_of, zeros_for
from jlayers.train.state import inputs_of, named, unnamed
from jlayers.train.task import Loss
from jlayers.train.update import Update

__all__ = ["Review", "Tasks"]

FORMS = 64  # of batches that are remembered


class Review(NamedTuple):
    """Facts about batches of one form, from a trace with the models.

    Attributes:
        batch: the form, as specs.
        losses: by task, what its loss gives, as specs.
        plans: by task, what is measured.
        lookups: the inputs that go into tables; see `jlayers.train.ids`.
        endings: by task, the activations in which its outputs end; see `jlayers.train.endings`.
        probes: by task, what callbacks ask of the step.
    """

    batch: Batch
    losses: dict[str, Loss]
    plans: dict[str, Plan]
    lookups: dict[str, Lookup]
    endings: dict[str, list[Ending | None]]
    probes: Mapping[str, Sequence[Probe]]

    @property
    def directions(self) -> dict[str, str]:
        """By name in the logs, in their order: "min" or "max", whichever is better."""
        each = [
            (name, plan.directions | {probe.name: probe.better for probe in self.probes.get(name, ())})
            for name, plan in self.plans.items()
        ]
        if list(self.plans) == [""]:
            return each[0][1]
        return {"loss": "min"} | {f"{n}_{key}": way for n, ways in each for key, way in ways.items()}


class Tasks:
    """The updates of a step, in the order of their turns, and what is measured of each.

    Attributes:
        updates: see `Update`.
        measures: by name of the task.
        probes: by name of the task, what callbacks ask of the step; see `Probe`.
    """

    def __init__(
        self,
        updates: Sequence[Update],
        measures: Mapping[str, Measures],
        probes: Mapping[str, Sequence[Probe]] | None = None,
    ):
        self.updates = list(updates)
        self.measures = dict(measures)
        self.probes = dict(probes or {})
        self.names = [update.name for update in self.updates]
        self._reviews: dict[Any, Review] = {}
        self._zeros: Any = None

    @property
    def models(self) -> list[Layer]:
        return [model for update in self.updates for model in update.task.models.values()]

    @property
    def draws(self) -> bool:
        """True if a task needs a key."""
        return any(update.task.draws for update in self.updates)

    def review(self, params: Any, state: Any, batch: Batch) -> Review:
        """The facts about batches of this form (arrays or specs); each form is traced once.

        Raises:
            ValueError: shapes that do not go together, as the losses say it.
        """
        batch = Batch(*(None if part is None else as_spec(part) for part in batch))
        leaves, form = jax.tree.flatten(batch)
        site = (form, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        if site not in self._reviews:
            if len(self._reviews) >= FORMS:
                self._reviews.clear()
            self._reviews[site] = self._traced(params, state, batch)
        return self._reviews[site]

    def _traced(self, params: Any, state: Any, batch: Batch) -> Review:
        lookups: dict[str, Lookup] = {}
        order: dict[str, list[str]] = {}  # of the parts, which a pytree sorts by name
        endings: dict[str, list[Ending | None]] = {}

        def losses(params: Any, state: Any, batch: Batch, key: Any) -> dict[str, Loss]:
            made = {}
            for update in self.updates:
                with observed_calls() as calls:
                    loss, _ = update.task.loss(params, state, batch, self.key_of(update, key), False)
                for model in (model for name, model in update.task.models.items() if not name):
                    calls.append(("", model, inputs_of(batch.x), loss.outputs))
                lookups.update(lookups_of(batch.x, calls))
                endings[update.name] = endings_of(loss.outputs, calls)
                made[update.name] = loss
                order[update.name] = list(loss.parts)
            return made

        key = jax.random.key(0) if self.draws else None
        made = jax.eval_shape(losses, params, state, batch, key)
        plans = {name: self.measures[name].plan(loss, order[name]) for name, loss in made.items()}
        for name, asked in self.probes.items():
            known = plans[name].keys
            for probe in asked:
                if probe.name in known:
                    raise ValueError(
                        f"expected another name for a probe than {probe.name!r}, which is in the logs already"
                    )
                known.append(probe.name)
        return Review(batch, made, plans, lookups, endings, self.probes)

    def accumulators(self, params: Any, state: Any, batch: Batch) -> Any:
        """The accumulators of all values in the logs, at zero."""
        if self._zeros is None:  # the structure of what is measured is a fact of the tasks
            review = self.review(params, state, batch)
            self.check_endings(review)
            plans, probes = review.plans, self.probes
            asked = {n: {PROBES: zeros_for(own)} for n, own in probes.items() if own}
            self._zeros = jax.jit(
                lambda: unnamed({n: self.measures[n].zero(p) | asked.get(n, {}) for n, p in plans.items()})
            )
        return self._zeros()

    def logs(self, plans: Mapping[str, Plan], metrics: Any) -> dict[str, jax.Array]:
        """The means since the accumulators were last reset; scalars on the device."""
        each = named(metrics, self.names)
        results = {name: self.measures[name].result(plans[name], acc) for name, acc in each.items()}
        for name, asked in self.probes.items():
            if asked:
                results[name] |= results_of(asked, each[name][PROBES])
        if self.names == [""]:
            return results[""]
        logs = {"loss": sum((result["loss"] for result in results.values()), start=jnp.float32(0))}
        return logs | {f"{n}_{key}": value for n, result in results.items() for key, value in result.items()}

    def check(self, review: Review, batch: Batch) -> None:
        """Lets each task look over the values of targets on the host."""
        for update in self.updates:
            update.task.check(batch, review.losses[update.name])

    def check_endings(self, review: Review) -> None:
        """Lets each task refuse the activations in which its outputs end."""
        for update in self.updates:
            update.task.check_endings(review.losses[update.name], review.endings[update.name])

    def check_predictions(self, review: Review, params: Any, state: Any, batch: Batch) -> None:
        """Lets each task look at the model's predictions for a first batch, where that is needed."""
        for update in self.updates:
            update.task.check_predictions(params, state, batch, review.endings[update.name])

    def key_of(self, update: Update, key: Any) -> Any:
        """A task's own key in a step."""
        if key is None or not update.task.draws:
            return None
        return child_key(key, update.name) if update.name else key
