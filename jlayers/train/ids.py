"""Inputs of a model that go into a table of vectors, and a check that the data stay within it.

A compiled step cannot raise on the values of its data, so `Embedding` gives NaN outside of its table. What is
fed to it is therefore looked over on the host, where the place can be said: inputs as they come, and what
layers without weights, such as the `GetItem` of `x[:, 0]`, make of them.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import at_layer
from jlayers.core.layer import Layer
from jlayers.core.masks import values_of
from jlayers.data.gate import leaves
from jlayers.train.endings import TracedCall

__all__ = ["Lookup", "check_ids", "lookups_of"]

_DEEPEST = 32  # layers without weights between an input and a table
_ROWS = 1024  # that go through these layers at a time


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A layer that looks up what an input holds, or what layers without weights make of inputs.

    Attributes:
        path: path of the layer.
        layer: its name.
        rows: rows of its table.
        made: `made(inputs by name)` gives what is looked up; None where that is the input itself.
    """

    path: str
    layer: str
    rows: int
    made: Callable[[Mapping[str, Any]], Any] | None = None


def lookups_of(x: Any, calls: Sequence[TracedCall]) -> dict[str, Lookup]:
    """The tables by the name of what goes into them, such as `x['words']` or `get_item(x)`.

    Of several tables the smallest counts. To be called inside the trace of the calls.
    """
    found: dict[str, Lookup] = {}
    inputs = dict(leaves(x, "x"))
    for path, layer, given, _ in calls:
        if (rows := layer.pair.ids_below) is None:
            continue
        for value in map(values_of, given):
            if not np.issubdtype(value.dtype, np.integer):  # vectors on their way back to numbers
                continue
            source = _source(value, inputs, calls, _DEEPEST)
            if source is not None and (source.name not in found or rows < found[source.name].rows):
                made = None if source.name in inputs else jax.jit(source.made)
                found[source.name] = Lookup(path, layer.spec.name, rows, made)
    return found


@dataclasses.dataclass(frozen=True)
class _Source:
    """The origin of a value: its name in messages, and the function that makes it from the inputs by name."""

    name: str
    made: Callable[[Mapping[str, Any]], Any]


def _source(
    value: Any, inputs: Mapping[str, Any], calls: Sequence[TracedCall], deepest: int
) -> _Source | None:
    for name, leaf in inputs.items():
        if leaf is value:
            return _Source(name, operator.itemgetter(name))
    for path, layer, given, made in calls:
        given_leaves, form = jax.tree.flatten(given)
        made_leaves = jax.tree.leaves(made)
        place = next((i for i, leaf in enumerate(made_leaves) if leaf is value), None)
        if place is None or any(leaf is value for leaf in given_leaves):
            continue
        if not deepest or layer.draws or not _weightless(layer, given):
            return None
        before = [_source(leaf, inputs, calls, deepest - 1) for leaf in given_leaves]
        if None in before:
            return None
        name = f"{path or layer.spec.name}({', '.join(source.name for source in before if source)})"
        return _Source(name, _through(layer, form, [source.made for source in before if source], place))
    return None


def _weightless(layer: Layer, given: Any) -> bool:
    """True if the layer needs nothing but its inputs."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return not jax.tree.leaves(jax.eval_shape(lambda key, given: layer.init(key, *given), key, given))


def _through(
    layer: Layer, form: Any, before: Sequence[Callable[[Any], Any]], place: int
) -> Callable[..., Any]:
    def made(inputs: Mapping[str, Any]) -> Any:
        output, _ = layer.apply({}, {}, *jax.tree.unflatten(form, [source(inputs) for source in before]))
        return jax.tree.leaves(output)[place]

    return made


def check_ids(found: dict[str, Lookup], x: Any) -> None:
    """Refuse NumPy arrays with numbers outside of the table that looks them up.

    >>> check_ids({"x": Lookup("", "Embedding", 5)}, np.array([[1, 7]]))
    Traceback (most recent call last):
    ValueError: Embedding: expected whole numbers from 0 to 4 for input_dim=5, received x[0, 1]=7; ...
    """
    inputs = {name: array for name, array in leaves(x, "x") if isinstance(array, np.ndarray)}
    if not inputs or len({len(array) for array in inputs.values()}) != 1:
        return
    for name, lookup in found.items():
        if lookup.made is None:
            _check(name, lookup, inputs.get(name))
            continue
        rows = len(next(iter(inputs.values())))
        for first in range(0, rows, _ROWS):
            count = min(_ROWS, rows - first)
            # Filled up to a few sizes, so that few programs are compiled.
            picked = np.resize(np.arange(first, first + count), min(_ROWS, 1 << (count - 1).bit_length()))
            part = {name: array[picked] for name, array in inputs.items()}
            _check(name, lookup, np.asarray(lookup.made(part))[:count], first)


def _check(name: str, lookup: Lookup, array: Any, first: int = 0) -> None:
    """Refuse an array, whose first row has this number."""
    if array is None or not array.size or (array.min() >= 0 and array.max() < lookup.rows):
        return
    place = np.argwhere((array < 0) | (array >= lookup.rows))[0].tolist()
    where = f" (layer {lookup.path!r})" if lookup.path else ""
    value = array[tuple(place)]
    place[0] += first
    error = ValueError(
        f"{lookup.layer}: expected whole numbers from 0 to {lookup.rows - 1} for "
        f"input_dim={lookup.rows}{where}, received {name}{place}={value}; count from 0 and "
        f"give unknown ones a number of their own, or make input_dim larger"
    )
    raise at_layer(error, lookup.path)
