"""From what a user passes to `fit` to batches: arrays or iterables, checked before any work starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from jlayers.core.errors import about, concerning, noted, part_of, refused
from jlayers.data.batches import ArrayBatches, Batch, Batches, Wrapped, rows_of
from jlayers.data.class_weights import class_weights
from jlayers.data.gate import check_finite, check_width
from jlayers.data.grains import GrainBatches, is_map_dataset
from jlayers.data.split import last_share
from jlayers.data.stream import StreamBatches
from jlayers.train.checks import as_arrays
from jlayers.train.ids import check_ids
from jlayers.train.tasks import Review, Tasks

__all__ = [
    "WeighedBatches",
    "arrays",
    "look_over",
    "source",
    "split_validation",
    "validation_source",
    "weighed",
]

BATCH_SIZE = 32  # as in Keras


def arrays(x: Any, y: Any, weight: Any = None) -> tuple[Any, Any, Any] | None:
    """`(x, y, sample_weight)` as checked NumPy arrays, or None if `x` is an iterable of batches."""
    if y is None and not hasattr(x, "__array__") and not isinstance(x, dict):
        if weight is not None:
            error = ValueError(
                "expected sample weights inside the batches, (x, y, sample_weight); received both"
            )
            raise about(error, sample_weight=weight)
        return None
    x, y, weight = as_arrays("x", x), as_arrays("y", y), as_arrays("sample_weight", weight)
    rows_of(x=x, y=y, sample_weight=weight)
    check_width(x=x, y=y)
    check_finite(x=x, y=y, sample_weight=weight)
    return x, y, weight


def weighed(parts: Any, class_weight: Any) -> Any:
    """`(x, y, sample_weight)` with the factors of the classes in the sample weights; None stays."""
    if class_weight is None or parts is None:
        return parts
    x, y, weight = parts
    return x, y, class_weights(class_weight, y, weight)


def source(
    name: str,
    x: Any,
    parts: Any,
    batch_size: int | None,
    steps: int | None = None,
    epochs: int = 1,
    **options: Any,
) -> Batches:
    """Batches from checked arrays, or from the iterable `x`.

    Args:
        name: name of the argument, for messages.
        x: as the user gave it.
        parts: what `arrays` made of it.
        batch_size: for arrays; None for the usual one.
        steps: batches to take for an epoch; None for all.
        epochs: number of passes over the data.
        **options: of `ArrayBatches`.

    Raises:
        TypeError: neither arrays nor an iterable.
        ValueError: sizes that do not go with such data.
    """
    if parts is not None:
        data = ArrayBatches(*parts, batch_size=BATCH_SIZE if batch_size is None else batch_size, **options)
        return data if steps is None else _Limited(data, steps)
    if batch_size is not None:
        raise refused(
            ValueError,
            f"expected no batch_size beside an iterable of batches as {name}, which sets its own",
            batch_size=batch_size,
        )
    if isinstance(x, Batches):
        return x if steps is None else _Limited(x, steps)
    if is_map_dataset(x):
        return GrainBatches(x, steps)
    by_number = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    if not isinstance(x, Iterable) and not by_number:
        error = TypeError(f"expected arrays or an iterable of batches (x, y), received {type(x).__name__}")
        raise about(error, **{name: x})
    data = StreamBatches(x, steps)
    if data.once and steps is None and epochs > 1:
        error = ValueError(
            f"expected {name} that can be iterated once per epoch, received a generator for epochs={epochs}, "
            f"which can be run through once only; pass a list, a dataset, an object with __iter__, or say "
            f"how many batches an epoch has (steps_per_epoch, validation_steps)"
        )
        raise about(error, **{name: x})
    return data


class WeighedBatches(Wrapped):
    """Batches with the factors of the classes in their sample weights."""

    def __init__(self, data: Batches, class_weight: Any):
        super().__init__(data)
        self.class_weight = class_weight

    def first(self) -> Batch:
        return self._weighed(self.data.first())

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        return map(self._weighed, self.data.epoch(number, start))

    def _weighed(self, batch: Batch) -> Batch:
        return batch._replace(weight=class_weights(self.class_weight, batch.y, batch.weight, whole=False))


class _Limited(Wrapped):
    """The first batches of each epoch."""

    def __init__(self, data: Batches, steps: int):
        if data.steps is not None and steps > data.steps:
            error = ValueError(
                f"expected at most {data.steps} steps, the batches in an epoch of the data, received {steps}"
            )
            raise about(error, steps=steps)
        super().__init__(data)
        self.steps = steps

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        return itertools.islice(self.data.epoch(number, start), (self.steps or 0) - start)


def split_validation(parts: Any, validation_data: Any, share: float) -> tuple[Any, Any]:
    """The training data and the validation data: given, or the last share of the samples."""
    if isinstance(share, (int, float)) and not share:
        return parts, validation_data
    if validation_data is not None:
        error = ValueError("expected validation_data or validation_split, received both")
        raise about(error, validation_split=share)
    if parts is None:
        error = ValueError("validation_split goes with arrays; for batches pass validation_data")
        raise about(error, validation_split=share)
    return last_share(parts, share)


def validation_source(given: Any, batch_size: int | None, steps: int | None, epochs: int) -> Batches | None:
    """A tuple is `(x, y)` or `(x, y, sample_weight)` of arrays; anything else is an iterable of batches."""
    if given is None:
        if steps is not None:
            error = ValueError(f"expected validation data for validation_steps={steps}, received none")
            raise about(error, validation_steps=steps)
        return None
    if isinstance(given, tuple) and len(given) not in (2, 3):
        error = ValueError(
            f"expected validation_data=(x, y) or (x, y, sample_weight), received {len(given)} parts"
        )
        raise about(error, validation_data=given)
    with noted("in the validation data"), part_of(validation_data=given):
        parts = arrays(*given) if isinstance(given, tuple) else arrays(given, None)
    with concerning(validation_steps=steps):
        return source(
            "validation_data", given, parts, batch_size if parts is not None else None, steps, epochs
        )


class _Checked(Wrapped):
    """Batches that are looked over as they pass."""

    def __init__(self, data: Batches, tasks: Tasks, review: Review):
        super().__init__(data)
        self.tasks, self.review, self.checked = tasks, review, False

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        for index, batch in enumerate(self.data.epoch(number, start), start):
            with noted(f"in batch {index} of the iterable"):
                check_finite(x=batch.x, y=batch.y, sample_weight=batch.weight)
                check_ids(self.review.lookups, batch.x)
                self.tasks.check(self.review, batch)
            yield batch


def look_over(tasks: Tasks, state: Any, data: Batches) -> tuple[Review, Batches]:
    """Shapes of targets against outputs, and values against losses and embeddings, before any step.

    Returns:
        what is known of such batches, and the data, which continue to be looked over if they are a stream.
    """
    review = tasks.review(state.params, state.state, data.first())
    whole = data.data if isinstance(data, _Limited) else data
    if isinstance(whole, ArrayBatches):
        check_ids(review.lookups, whole.data.x)
        tasks.check(review, whole.data)
    if not data.checked:
        data = _Checked(data, tasks, review)
    tasks.check_endings(review)
    tasks.check_predictions(review, state.params, state.state, data.first())
    return review, data
