"""Batches from a Grain `MapDataset`: its seed gives each epoch an order, and any batch is found at once."""

from __future__ import annotations

import os
import sys
from typing import Any

from jlayers.core.errors import about
from jlayers.data.positions import iterator_from
from jlayers.data.stream import Iteration, StreamBatches

__all__ = ["GrainBatches", "is_map_dataset"]


def is_map_dataset(value: Any) -> bool:
    """True for a Grain `MapDataset`, which gives batches by number, in a new order in each epoch."""
    return hasattr(value, "to_iter_dataset") and hasattr(value, "__getitem__") and hasattr(value, "repeat")


class GrainBatches(StreamBatches):
    """Batches of a Grain `MapDataset`, made by a few threads.

    Epoch after epoch is the dataset repeated, so that its `shuffle(seed)` gives each epoch an order of its
    own. A Grain `IterDataset` is an iterable like others, whose position is known.

    Args:
        dataset: whose elements are batches; end it by `.batch(batch_size)`.
        steps: batches in an epoch; the dataset's own number if not given.

    Raises:
        ValueError: a dataset that is repeated without end, without `steps`.

    >>> import grain, numpy as np
    >>> dataset = grain.MapDataset.source(np.arange(6.0)).shuffle(seed=0).batch(4)
    >>> batches = GrainBatches(dataset)
    >>> [batch.x.shape for batch in batches.epoch(0)]
    [(4,), (2,)]
    """

    def __init__(self, dataset: Any, steps: int | None = None):
        import grain

        endless = len(dataset) >= sys.maxsize
        if endless and steps is None:
            error = ValueError(
                "expected a number of batches for each epoch, as the dataset repeats without end; pass "
                "steps_per_epoch (or validation_steps), or leave out .repeat()"
            )
            raise about(error, steps=steps)
        options = grain.ReadOptions(num_threads=min(8, os.cpu_count() or 1), prefetch_buffer_size=8)
        source = (dataset if endless else dataset.repeat()).to_iter_dataset(options)
        super().__init__(source, len(dataset) if steps is None else steps)

    def _begin(self, place: int, number: int = 0) -> Iteration:
        return Iteration(iterator_from(self.source, {"next_index": place}), place)
