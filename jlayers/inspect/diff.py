"""The differences between two models, or between two trees of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.calls import taught
from jlayers.core.layer import Layer
from jlayers.core.shapes import shape_text
from jlayers.core.tree import flatten

__all__ = ["Diff", "diff"]

_ABSENT = "absent"


@dataclasses.dataclass(frozen=True)
class Diff:
    """The differences by path; false if there are none.

    Attributes:
        layers: by path of a layer what it is in the first model and in the second, or "absent".
        weights: by path of an array, which starts with "params" or "state", what differs: dtype and shape, or
            the largest difference of the values.
    """

    layers: Mapping[str, tuple[str, str]]
    weights: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.layers or self.weights)

    def __str__(self) -> str:
        if not self:
            return "no difference"
        rows = [f"layer {path or '(the model)'}: {a} -> {b}" for path, (a, b) in self.layers.items()]
        return "\n".join([*rows, *(f"{path}: {text}" for path, text in self.weights.items())])


@taught
def diff(a: Any, b: Any) -> Diff:
    """The differences between two models or their weights.

    Args:
        a: a layer, parameters, or a tuple `(params, state)`, `(layer, params)` or `(layer, params, state)`.
        b: likewise, with the same parts.

    Returns:
        A `Diff`, which prints one difference per line. Layers of one path are compared by the call that made
        them, by whether they are frozen and by their precision policy. Values are compared exactly; two NaNs
        are equal.

    Raises:
        TypeError: the two do not have the same parts.

    >>> import jax, jlayers as jl
    >>> old = jl.Sequential(jl.Dense(8), jl.Dropout(0.5), jl.Dense(2, name="head"))
    >>> new = jl.replace_head(jl.freeze(old, "dense"), jl.Dense(5, name="head"))
    >>> print(jl.diff(old, new))
    layer dense: trained -> frozen
    layer head: Dense(2, name='head') -> Dense(5, name='head')
    >>> params, _ = old.init(jax.random.key(0), (1, 4))
    >>> bool(jl.diff((old, params), (old, params)))
    False
    """
    first, second = _parts(a), _parts(b)
    if list(first) != list(second):
        raise TypeError(
            f"diff: expected two of one kind, each a layer, parameters, or (layer, params, state), received "
            f"{' and '.join(first)} on one side, {' and '.join(second)} on the other"
        )
    layers: dict[str, tuple[str, str]] = {}
    weights: dict[str, str] = {}
    for part, value in first.items():
        if part == "layer":
            layers = _layers(value, second[part])
        else:
            weights |= _arrays(part, value, second[part])
    return Diff(layers, weights)


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, Layer):
        return {"layer": value}
    if isinstance(value, tuple):
        layer = ("layer",) if value and isinstance(value[0], Layer) else ()
        return dict(zip((*layer, "params", "state"), value, strict=False))
    return {"params": value}


def _layers(a: Layer, b: Layer) -> dict[str, tuple[str, str]]:
    first, second = dict(a.walk()), dict(b.walk())
    found: dict[str, tuple[str, str]] = {}
    for path in dict.fromkeys([*first, *second]):
        if path not in first or path not in second:
            around = path.rpartition("/")[0]
            if path and around in first and around in second:  # else the layer around says it
                found[path] = (_text(first.get(path)), _text(second.get(path)))
            continue
        one, other = first[path], second[path]
        before, after = _facts(one), _facts(other)
        changed = [name for name in before if before[name] != after[name]]
        if "call" in changed:
            found[path] = (_text(one), _text(other))
        elif changed:
            found[path] = tuple(", ".join(facts[name] for name in changed) for facts in (before, after))  # type: ignore[assignment]
    return found


def _text(layer: Layer | None) -> str:
    return _ABSENT if layer is None else repr(layer.spec)


def _facts(layer: Layer) -> dict[str, str]:
    """The facts of the layer itself; the layers inside it are compared by themselves."""
    whole = layer.spec.name if layer.children else repr(layer.spec)
    frozen = "frozen" if "" in layer.frozen else "trained"
    policy = layer.precision.get("")
    return {"call": whole, "frozen": frozen, "precision": "no policy" if policy is None else repr(policy)}


def _arrays(part: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, str]:
    first, second = flatten(a), flatten(b)
    found: dict[str, str] = {}
    for path in dict.fromkeys([*first, *second]):
        one, other = (_form(tree.get(path)) for tree in (first, second))
        if one != other:
            found[f"{part}/{path}"] = f"{one} -> {other}"
        elif text := _values(first[path], second[path]):
            found[f"{part}/{path}"] = text
    return found


def _form(leaf: Any) -> str:
    return _ABSENT if leaf is None else f"{leaf.dtype}{shape_text(leaf.shape)}"


def _values(a: Any, b: Any) -> str:
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in (a, b)):
        return ""
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    one, other = np.asarray(a), np.asarray(b)
    if one.tobytes() == other.tobytes():
        return ""
    wide = np.result_type(np.float64, *(v.dtype for v in (one, other) if v.dtype.kind in "fc"))
    one, other = one.astype(wide), other.astype(wide)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return ""
    apart = np.abs(one - other)[~same]
    return f"{int((~same).sum())} of {same.size} values differ, by at most {apart.max():.3g}"
