"""Looks at the data on the host before any work starts: what is wrong is said with its place and its fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jlayers.core.layer import Layer
from jlayers.data.batches import ArrayBatches, as_data, leaves, map_arrays

__all__ = ["as_arrays", "check_carried", "check_finite", "class_weights", "whole_number"]


def whole_number(name: str, value: Any, least: int, otherwise: str = "") -> int:
    """`value`, if it is a whole number of at least `least`; the message adds what else may be given."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"expected {name} to be a whole number of at least {least}{otherwise}, received {name}={value!r}"
        )
    return int(value)


def as_arrays(name: str, value: Any) -> Any:
    """Arrays on the host, in JAX's dtypes; a list without arrays in it is data and becomes one array.

    Raises:
        TypeError: data that are no numbers.
    """
    if value is None:
        return None

    def leaf(array: Any) -> np.ndarray:
        array = np.asarray(array)
        if array.dtype.kind not in "biufcV":  # V: bfloat16 and its like
            raise TypeError(
                f"expected numbers as {name}, received an array of dtype {array.dtype}; "
                f"make numbers of text and categories first"
            )
        return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)

    return map_arrays(leaf, as_data(value))


def check_carried(model: Layer, data: ArrayBatches) -> None:
    """Refuse batches in which a layer that carries its state on would carry it to other samples.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.LSTM(4, stateful=True), jl.Dense(1))
    >>> check_carried(model, ArrayBatches(np.zeros((8, 3, 2)), batch_size=4, shuffle=True))
    Traceback (most recent call last):
    ValueError: layer 'lstm' carries its state from batch to batch (stateful=True): expected ...
    """
    carries = (path for path, layer in model.walk() if layer.spec.arguments.get("stateful") is True)
    path = next((path for path in carries if path not in model.frozen), None)
    if path is None or not (data.shuffle or data.rows % data.batch_size):
        return
    received = (
        "shuffle=True; pass shuffle=False"
        if data.shuffle
        else f"{data.rows} samples and batch_size={data.batch_size}; leave {data.rows % data.batch_size} "
        f"samples out, or choose a batch size that divides"
    )
    raise ValueError(
        f"layer {path!r} carries its state from batch to batch (stateful=True): expected whole batches in "
        f"their order, received {received}"
    )


def check_finite(**trees: Any) -> None:
    """Refuse NaN and infinity in NumPy arrays.

    >>> check_finite(x=np.array([[1.0, np.nan]]))
    Traceback (most recent call last):
    ValueError: expected finite numbers, received x[0, 1]=nan; ...
    """
    for name, tree in trees.items():
        for path, array in leaves(tree, name):
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc":
                continue
            with np.errstate(all="ignore"):  # one pass without a temporary, for the usual case
                if np.isfinite(array.sum(dtype=np.float64 if array.dtype.kind == "f" else None)):
                    continue
            bad = ~np.isfinite(array)
            if bad.any():
                place = np.argwhere(bad)[0].tolist()
                raise ValueError(
                    f"expected finite numbers, received {path}{place}={array[tuple(place)]}; {bad.sum()} of "
                    f"{array.size} are not finite: remove or fill them first"
                )


def class_weights(weights: Mapping[int, float], y: Any, sample_weight: Any) -> np.ndarray:
    """Weights per sample from weights per class, times `sample_weight`; a class that is not named weighs 1.

    >>> class_weights({1: 4.0}, np.array([0, 1, 1]), None).tolist()
    [1.0, 4.0, 4.0]
    """
    if not hasattr(y, "shape"):
        raise ValueError(
            "class_weight works for a single output, received targets for several; use sample_weight"
        )
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(-1)
    if labels.ndim == 2:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"class_weight needs one class per sample, received y of shape {np.shape(y)}; use sample_weight"
        )
    for label, weight in weights.items():
        if not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"expected class weights of at least 0, received class_weight[{label!r}]={weight!r}"
            )
    per_sample = np.ones(labels.shape, np.float32)
    for label, weight in weights.items():
        per_sample[labels == label] = weight
    return per_sample if sample_weight is None else per_sample * np.asarray(sample_weight, np.float32)
