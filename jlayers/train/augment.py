"""Augmentation of whole batches in the training step: a layer from (x, y) to (x, y)."""

from __future__ import annotations

from typing import Any

import jax

from jlayers.core.errors import about, refused
from jlayers.core.layer import Layer
from jlayers.core.notes import note_errors
from jlayers.core.shapes import as_spec, describe
from jlayers.core.wiring import child_key
from jlayers.data.batches import Batch

__all__ = ["augmented", "check_augment"]


def check_augment(augment: Any) -> None:
    if augment is not None and not isinstance(augment, Layer):
        raise refused(
            TypeError,
            "expected augment to be a layer from (x, y) to (x, y), such as jl.MixUp()",
            augment=augment,
        )


def augmented(augment: Layer, batch: Batch, key: Any) -> Batch:
    """The batch as the layer leaves it in training; its key is folded from the step's.

    Raises:
        ValueError: the layer has parameters or state, which nothing would train or keep, or it returns
            something other than x and y of the shapes that it was given.
    """
    given = (batch.x, batch.y)
    with note_errors("augment", augment, given):
        params, state = jax.eval_shape(lambda: augment.init(jax.random.key(0), *map(as_spec, given)))
        if params or state:
            raise refused(
                ValueError,
                "expected a layer without parameters and state as augment",
                instead="put layers that learn into the model",
                augment=augment,
            )
        made, _ = augment.apply(
            {}, {}, *given, key=child_key(key, "augment") if augment.draws else None, train=True
        )
        made = tuple(made) if isinstance(made, list) else made  # a graph of two outputs may say either
        same = jax.tree.structure(made) == jax.tree.structure(given) and all(
            new.shape == old.shape
            for new, old in zip(jax.tree.leaves(made), jax.tree.leaves(given), strict=True)
        )
        if not same:
            error = ValueError(
                f"expected augment to return (x, y) in the shapes of {describe(given)}, received "
                f"{describe(made)}; put layers that change x alone into the model"
            )
            raise about(error, augment=augment)
    return batch._replace(x=made[0], y=made[1])
