"""Inputs through preprocessors, which learn only from the training part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jlayers.core.adapt import adapt, awaits
from jlayers.core.errors import about
from jlayers.core.layer import Layer
from jlayers.core.shapes import describe
from jlayers.core.spelling import nearest
from jlayers.data.lazy import is_lazy

__all__ = ["learn", "transform"]


def learn(preprocess: Mapping[str, Any], x: Any) -> dict[str, Any]:
    """The preprocessors with what they learn from the training inputs; those that know enough stay.

    Args:
        preprocess: preprocessors, or layers without weights, by the name of their input; the name of a single
            input without one is "x".
        x: an array, or a dict of arrays.

    Raises:
        ValueError: no such input, data that cannot be learned from, or a `TextVectorization` whose outputs
            would differ in length.
    """
    inputs = _by_name(x)
    for name, thing in preprocess.items():
        if name not in inputs:
            error = ValueError(f"the data have no input {name!r}: {nearest(name, inputs)}")
            raise about(error, name, preprocess=preprocess)
        options = thing.spec.arguments
        if options.get("output_mode") == "int" and options.get("output_sequence_length", 1) is None:
            error = ValueError(
                f"expected an output_sequence_length for {name!r}, which gives all texts one "
                f"length, received output_sequence_length=None"
            )
            raise about(error, name, preprocess=preprocess)
    return {n: adapt(thing, _read(inputs[n])) if awaits(thing) else thing for n, thing in preprocess.items()}


def transform(preprocess: Mapping[str, Any], x: Any) -> Any:
    """The inputs as the model is given them; a single input is given without its name.

    Raises:
        ValueError: text for which there is no preprocessor.
        TypeError: a layer with weights.
    """
    inputs = _by_name(x)
    made = {name: _apply(preprocess.get(name), value, name) for name, value in inputs.items()}
    alone = not isinstance(x, Mapping) or (preprocess and len(made) == 1)
    return next(iter(made.values())) if alone else made


def _read(x: Any) -> Any:
    """An array, or a lazy one part by part."""
    return (part[:] for part in x.parts()) if is_lazy(x) else x


def _by_name(x: Any) -> Mapping[str, Any]:
    return x if isinstance(x, Mapping) else {"x": x}


def _apply(thing: Any, x: Any, name: str) -> Any:
    if thing is None:
        if x.dtype == object:
            raise ValueError(
                f"expected numbers in the input {name!r}, received text, {describe(x)}; name a "
                f"preprocessor for it, such as TextVectorization"
            )
        return x
    if is_lazy(x):
        return x.map(lambda rows: _apply(thing, rows, name))
    if not isinstance(thing, Layer):
        return thing(x)
    spec = jax.ShapeDtypeStruct(x.shape, x.dtype)
    params, state = jax.eval_shape(lambda: thing.init(jax.random.key(0), spec))
    if jax.tree.leaves((params, state)):
        raise TypeError(f"expected a layer without weights for {name!r}, received {thing!r}")
    return np.asarray(thing.apply(params, state, x)[0])
