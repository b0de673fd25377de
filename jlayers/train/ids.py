"""Which inputs of a model go straight into a table of vectors, and whether the data stay within it.

A compiled step cannot raise on the values of its data, so `Embedding` gives NaN outside of its table. What is
fed to it as it comes is therefore looked over on the host, where the place can be said.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jlayers.core.layer import Layer
from jlayers.core.wiring import observe
from jlayers.data.gate import leaves

__all__ = ["Lookup", "check_ids", "tables_of"]


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A layer that looks up what an input holds: its path, its name, and how many rows its table has."""

    path: str
    layer: str
    rows: int


@contextlib.contextmanager
def tables_of(x: Any, found: dict[str, Lookup]) -> Iterator[Callable[[Layer, Any], None]]:
    """Within, each table that an input of `x` goes into unchanged is entered into `found`.

    By the path of the input, such as `x['words']`; of several tables the smallest counts. Layers report when
    a container runs them; call what is given for a layer that is in no container.
    """
    inputs = list(leaves(x, "x"))

    def look(path: str, layer: Layer, params: Any, state: Any, given: Any, output: Any) -> None:
        if (rows := layer.pair.ids_below) is None:
            return
        for name, leaf in inputs:
            taken = any(leaf is value for value in jax.tree.leaves(given))
            if taken and (name not in found or rows < found[name].rows):
                found[name] = Lookup(path, layer.spec.name, rows)

    with observe(look):
        yield lambda layer, given: look("", layer, None, None, given, None)


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
