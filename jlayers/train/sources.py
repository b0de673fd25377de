"""From what a user passes to `fit` to batches: arrays or iterables, checked before any work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from jlayers.data.batches import ArrayBatches, Batch, StreamBatches, rows_of
from jlayers.data.buckets import BucketBatches
from jlayers.data.gate import check_finite, check_width, class_weights
from jlayers.data.split import last_share
from jlayers.train.checks import as_arrays
from jlayers.train.ids import Lookup, check_ids, lookups
from jlayers.train.objective import Objective, Plan
from jlayers.train.trainer import Trainer

__all__ = [
    "Review",
    "Source",
    "arrays",
    "hold_out",
    "length",
    "look_over",
    "refuse_generator",
    "source",
    "validation_source",
    "weighed",
]

Source = ArrayBatches | StreamBatches | BucketBatches


def arrays(x: Any, y: Any, weight: Any = None) -> tuple[Any, Any, Any] | None:
    """`(x, y, sample_weight)` as checked NumPy arrays, or None if `x` is an iterable of batches."""
    if y is None:
        if hasattr(x, "__array__") or isinstance(x, dict):
            raise ValueError("expected targets y beside the arrays x, received y=None")
        if weight is not None:
            raise ValueError(
                "expected sample weights inside the batches, (x, y, sample_weight); received both"
            )
        return None
    x, y, weight = as_arrays("x", x), as_arrays("y", y), as_arrays("sample_weight", weight)
    rows_of(x=x, y=y, sample_weight=weight)
    check_width(x=x, y=y)
    check_finite(x=x, y=y, sample_weight=weight)
    return x, y, weight


def weighed(parts: Any, class_weight: Any) -> Any:
    """`(x, y, sample_weight)` with the factors of the classes in the sample weights."""
    if class_weight is None:
        return parts
    if parts is None:
        raise ValueError("class_weight goes with arrays; put sample weights into the batches instead")
    x, y, weight = parts
    return x, y, class_weights(class_weight, y, weight)


def source(x: Any, parts: Any, batch_size: int, shuffle: bool = False, seed: int = 0) -> Source:
    """Batches from checked arrays, or from the iterable `x`."""
    if parts is not None:
        return ArrayBatches(*parts, batch_size=batch_size, shuffle=shuffle, seed=seed)
    if not isinstance(x, (Iterable, BucketBatches)):
        raise TypeError(f"expected arrays or an iterable of batches (x, y), received {type(x).__name__}")
    return x if isinstance(x, BucketBatches) else StreamBatches(x)


def hold_out(parts: Any, validation_data: Any, share: float) -> tuple[Any, Any]:
    """What is trained on, and the validation data: given, or the last share of the samples."""
    if isinstance(share, (int, float)) and not share:
        return parts, validation_data
    if validation_data is not None:
        raise ValueError("expected validation_data or validation_split, received both")
    if parts is None:
        raise ValueError("validation_split goes with arrays; for batches pass validation_data")
    return last_share(parts, share)


def validation_source(given: Any, batch_size: int, epochs: int) -> Source | None:
    """A tuple is `(x, y)` or `(x, y, sample_weight)` of arrays; anything else is an iterable of batches."""
    if given is None:
        return None
    if isinstance(given, tuple) and len(given) not in (2, 3):
        raise ValueError(
            f"expected validation_data=(x, y) or (x, y, sample_weight), received {len(given)} parts"
        )
    parts = arrays(*given) if isinstance(given, tuple) else None
    data = source(given, parts, batch_size)
    refuse_generator("validation_data", data, epochs)
    return data


def refuse_generator(name: str, data: Source, epochs: int) -> None:
    if isinstance(data, StreamBatches) and data.once and epochs > 1:
        raise ValueError(
            f"expected {name} that can be iterated once per epoch, received a generator for epochs={epochs}, "
            f"which can be run through once only; pass a list, a dataset, or an object with __iter__"
        )


def length(data: Source) -> int | None:
    """Batches per epoch, or None if the data do not tell."""
    try:
        return len(data)
    except TypeError:
        return None


@dataclasses.dataclass(frozen=True)
class Review:
    """What is known of data once their shapes have met the model's."""

    plan: Plan
    y_pred: Any
    objective: Objective
    lookups: dict[str, Lookup]
    streamed: bool

    def checked(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; those of an iterable are looked over on the way, if they are NumPy arrays."""
        for index, batch in enumerate(batches):
            if self.streamed:
                try:
                    check_finite(x=batch.x, y=batch.y, sample_weight=batch.weight)
                    check_ids(self.lookups, batch.x)
                    self.objective.check(self.plan, batch.y, self.y_pred)
                except ValueError as error:
                    error.add_note(f"in batch {index} of the iterable")
                    raise
            yield batch


def look_over(trainer: Trainer, state: Any, data: Source) -> Review:
    """Shapes of targets against outputs, and values against losses and embeddings, before any step."""
    first = data.first()
    objective = trainer.train_step.objective
    plan, y_pred = trainer.plan(state, first.x)
    objective.try_out(y_pred, first)
    found = lookups(trainer.model, state.params, state.state, first.x)
    streamed = not isinstance(data, ArrayBatches)
    if not streamed:
        check_ids(found, data.data.x)
        objective.check(plan, data.data.y, y_pred)
    return Review(plan, y_pred, objective, found, streamed)
