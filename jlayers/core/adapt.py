"""Learning from data before training: `adapt` gives the same thing with what it learned in its arguments.

Nothing is changed in place, and nothing is hidden: statistics and vocabularies are arguments like others, so
that `repr`, equality, pickle and configurations hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

from jlayers.core.calls import taught
from jlayers.core.errors import add_name
from jlayers.core.layer import Layer
from jlayers.core.registry import Registry
from jlayers.core.shapes import describe
from jlayers.core.spec import Spec
from jlayers.core.spelling import nearest

__all__ = ["adapt", "awaits", "batches", "learns", "numbers"]

Thing = TypeVar("Thing")
Learner = Callable[[dict[str, Any], Any], dict[str, Any]]

# By kind and name: the argument that is None before anything is learned, and the function that learns.
_LEARNERS: dict[tuple[str, str], tuple[str, Learner]] = {}


def learns(kind: str, name: str, argument: str) -> Callable[[Learner], Learner]:
    """Decorator: the function learns `argument`, and maybe others, for what is registered as `name`.

    It is given the arguments and the data, and returns those arguments that follow from the data.
    """

    def decorate(learner: Learner) -> Learner:
        _LEARNERS[kind, name] = argument, learner
        return learner

    return decorate


def awaits(thing: Any) -> bool:
    """True for what cannot be used before it has learned from data."""
    spec: Any = getattr(thing, "spec", None)
    known = _learner_of(spec)
    return known is not None and spec.arguments[known[0]] is None


def _learner_of(spec: Any) -> tuple[str, Learner] | None:
    return _LEARNERS.get((spec.kind, spec.name)) if isinstance(spec, Spec) else None


@taught
def adapt(thing: Thing, data: Any) -> Thing:
    """The same layer or preprocessor with what it learns from data: statistics, boundaries, a vocabulary.

    What was learned before is replaced. Adapt on training data only: what is learned from held-out data
    leaks into the result.

    Args:
        thing: a `Normalization`, a `Discretization`, a lookup or a `TextVectorization`.
        data: an array or a list of samples; or an iterable of such batches, or of batches `(x, y)`, whose
            `y` is left out.

    Raises:
        TypeError: something that learns nothing, or data of another kind.
        ValueError: no data, NaN or infinity in them, or batches that do not fit together.

    >>> import numpy as np, jlayers as jl
    >>> jl.adapt(jl.Normalization(), np.array([[0.0, 5.0], [2.0, 5.0]]))
    Normalization(mean=[1.0, 5.0], variance=[1.0, 0.0])
    >>> jl.adapt(jl.StringLookup(), ["a", "b", "b"])
    StringLookup(vocabulary=['b', 'a'])
    """
    spec: Any = getattr(thing, "spec", None)
    known = _learner_of(spec)
    if known is None:
        names = sorted(name for _, name in _LEARNERS)
        near = nearest(spec.name, names) if isinstance(spec, Spec) else f"valid: {', '.join(names)}"
        raise TypeError(f"adapt: {describe(thing)} learns nothing from data; {near}")
    _, learner = known
    try:
        learned = learner(dict(spec.arguments), data)
    except (TypeError, ValueError) as error:
        add_name(error, spec.name)
        raise
    if isinstance(thing, Layer):
        return cast(Any, thing.replace(**learned))
    return Registry.of(spec.kind).build(spec.name, {**spec.arguments, **learned})


def batches(data: Any) -> Iterator[Any]:
    """The batches of data: an array, or a list of plain values, is one; else what the iterable gives."""
    if isinstance(data, (str, bytes)) or not (hasattr(data, "shape") or hasattr(data, "__iter__")):
        raise TypeError(f"adapt: expected an array, a list or an iterable of batches, received {data!r}")
    if hasattr(data, "shape") or (isinstance(data, (list, tuple)) and not any(map(_is_batch, data))):
        yield data
        return
    for item in data:
        yield item[0] if isinstance(item, tuple) and item and _is_batch(item[0]) else item


def _is_batch(value: Any) -> bool:
    """True for an array, and for a batch `(x, y)` of arrays."""
    return hasattr(value, "shape") or (isinstance(value, tuple) and any(hasattr(v, "shape") for v in value))


def numbers(batch: Any, name: str, index: int = 0) -> np.ndarray:
    """A batch as float64 on the host, checked.

    Raises:
        TypeError: something other than real numbers.
        ValueError: no values, NaN or infinity.
    """
    array = np.asarray(batch)
    if array.dtype.kind in "cOSUTMm":
        raise TypeError(f"{name}: expected real numbers to adapt to, received {describe(array)}")
    if array.size == 0 or array.ndim == 0:
        raise ValueError(f"{name}: expected samples to adapt to, received {describe(array)} as batch {index}")
    array = array.astype(np.float64)
    if bad := int((~np.isfinite(array)).sum()):
        raise ValueError(
            f"{name}: expected finite numbers to adapt to, received {bad} NaN or infinite of {array.size} "
            f"values in batch {index}: fill in or leave out what is missing"
        )
    return array
