"""Which inputs of a model go straight into a table of vectors, and whether the data stay within it.

A compiled step cannot raise on the values of its data, so `Embedding` gives NaN outside of its table. What is
fed to it as it comes is therefore looked over on the host, where the place can be said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jlayers.data.gate import leaves
from jlayers.train.endings import Call

__all__ = ["Lookup", "check_ids", "lookups_of"]


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A layer that looks up what an input holds: its path, its name, and how many rows its table has."""

    path: str
    layer: str
    rows: int


def lookups_of(x: Any, calls: Sequence[Call]) -> dict[str, Lookup]:
    """The tables that inputs go into unchanged, by the path of each input, such as `x['words']`.

    Of several tables the smallest counts. Inside the trace of the calls.
    """
    found: dict[str, Lookup] = {}
    for path, layer, given, _ in calls:
        if (rows := layer.pair.ids_below) is None:
            continue
        for name, leaf in leaves(x, "x"):
            taken = any(leaf is value for value in jax.tree.leaves(given))
            if taken and (name not in found or rows < found[name].rows):
                found[name] = Lookup(path, layer.spec.name, rows)
    return found


def check_ids(found: dict[str, Lookup], x: Any) -> None:
    """Refuse NumPy arrays with numbers outside of the table that looks them up.

    >>> check_ids({"x": Lookup("", "Embedding", 5)}, np.array([[1, 7]]))
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
