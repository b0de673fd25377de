"""Which inputs of a model go straight into a table of vectors, and whether the data stay within it.

A compiled step cannot raise on the values of its data, so `Embedding` gives NaN outside of its table. What is
fed to it as it comes is therefore looked over on the host, where the place can be said.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jlayers.core.layer import Layer
from jlayers.core.registry import Spec
from jlayers.core.shapes import as_spec
from jlayers.core.wiring import observe
from jlayers.data.gate import leaves
from jlayers.train.state import inputs_of

__all__ = ["Lookup", "check_ids", "lookups"]

_TABLES = ("Embedding", "ReversibleEmbedding")


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A layer that looks up what an input holds: its path, its name, and how many rows its table has."""

    path: str
    layer: str
    rows: int


def lookups(model: Layer, params: Any, state: Any, x: Any) -> dict[str, Lookup]:
    """By the path of each input, such as `x['words']`, that goes into tables unchanged: the smallest one."""
    if not any(map(_table, (layer for _, layer in model.walk()))):
        return {}
    found: dict[str, Lookup] = {}

    def forward(params: Any, state: Any, x: Any) -> Any:
        inputs = list(leaves(x, "x"))

        def look(path: str, layer: Layer, params: Any, state: Any, given: Any, output: Any) -> None:
            if (table := _table(layer)) is None:
                return
            rows = table.arguments["input_dim"]
            for name, leaf in inputs:
                taken = any(leaf is value for value in jax.tree.leaves(given))
                if taken and (name not in found or rows < found[name].rows):
                    found[name] = Lookup(path, table.name, rows)

        with observe(look):
            output, _ = model.apply(params, state, *inputs_of(x))
        look("", model, params, state, inputs_of(x), output)
        return output

    jax.eval_shape(forward, params, state, as_spec(x))
    return found


def _table(layer: Layer) -> Spec | None:
    return next((spec for spec in (layer.spec, *layer.adopted) if spec.name in _TABLES), None)


def check_ids(found: dict[str, Lookup], x: Any) -> None:
    """Refuse NumPy arrays with numbers outside of the table that looks them up.

    >>> import jlayers as jl, jax
    >>> ids = np.array([[1, 7]])
    >>> table = jl.Embedding(5, 2)
    >>> check_ids(lookups(table, *table.init(jax.random.key(0), ids), ids), ids)
    Traceback (most recent call last):
    ValueError: Embedding: expected whole numbers from 0 to 4 for input_dim=5, received x[0, 1]=7; ...
    """
    for name, array in leaves(x, "x"):
        lookup = found.get(name)
        if lookup is None or not isinstance(array, np.ndarray) or not array.size:
            continue
        if array.min() >= 0 and array.max() < lookup.rows:
            continue
        place = np.argwhere((array < 0) | (array >= lookup.rows))[0].tolist()
        where = f" (layer {lookup.path!r})" if lookup.path else ""
        raise ValueError(
            f"{lookup.layer}: expected whole numbers from 0 to {lookup.rows - 1} for "
            f"input_dim={lookup.rows}{where}, received {name}{place}={array[tuple(place)]}; count from 0 and "
            f"give unknown ones a number of their own, or make input_dim larger"
        )
