"""Checks of the data on the host before any work starts; errors name the place and the fix."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jlayers.core.errors import about, at_layer, concerning, refused
from jlayers.core.layer import Layer
from jlayers.data.batches import ArrayBatches, Batch, Batches, as_data, map_arrays
from jlayers.data.gate import convert

__all__ = ["as_arrays", "check_carried", "check_named", "check_process", "seed_number", "whole_number"]


def seed_number(seed: Any) -> int:
    """The seed, if a key holds all of it: JAX takes 2**32 for 0."""
    if whole_number("seed", seed, 0) >= 2**32:
        raise refused(ValueError, "expected a seed in [0, 2**32)", seed=seed)
    return int(seed)


def whole_number(name: str, value: Any, least: int, otherwise: str = "") -> int:
    """`value`, if it is a whole number of at least `least`; the message adds what else may be given."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise refused(
            ValueError,
            f"expected {name} to be a whole number of at least {least}{otherwise}",
            **{name: value},
        )
    return int(value)


def as_arrays(name: str, value: Any) -> Any:
    """Arrays on the host, in JAX's dtypes; a list without arrays in it is data and becomes one array.

    Raises:
        TypeError: data that are not numbers.
        ValueError: numbers that JAX's dtypes do not hold; see `jlayers.data.gate`.
    """
    if value is None:
        return None

    with concerning(**{name: value}):
        return map_arrays(lambda array: convert(name, array), as_data(value))


def check_carried(model: Layer, data: Batches) -> None:
    """Refuse batches in which a layer that carries its state on would carry it to other samples.

    >>> import jlayers as jl
    >>> model = jl.Sequential(jl.LSTM(4, stateful=True), jl.Dense(1))
    >>> check_carried(model, ArrayBatches(np.zeros((8, 3, 2)), batch_size=4, shuffle=True))
    Traceback (most recent call last):
    ValueError: layer 'lstm' carries its state from batch to batch (stateful=True): expected ...
    """
    carries = (path for path, layer in model.walk() if layer.pair.carries)
    path = next((path for path in carries if path not in model.frozen), None)
    if path is None or not isinstance(data, ArrayBatches):
        return
    if not data.shuffle and data.rows % data.batch_size == 0:
        return
    received = (
        "shuffle=True; pass shuffle=False"
        if data.shuffle
        else f"{data.rows} samples and batch_size={data.batch_size}; leave {data.rows % data.batch_size} "
        f"samples out, or choose a batch size that divides"
    )
    error = ValueError(
        f"layer {path!r} carries its state from batch to batch (stateful=True): expected whole batches in "
        f"their order, received {received}"
    )
    raise at_layer(error, path)


def check_named(batch: Batch) -> None:
    """Refuse a batch that is a dict of columns without a word on which are the targets.

    >>> check_named(Batch({"pixels": np.zeros((2, 4)), "label": np.zeros(2)}))
    Traceback (most recent call last):
    ValueError: expected batches (x, y), received dicts with the names 'pixels', 'label'; say which are ...
    """
    if isinstance(batch.x, dict) and batch.y is None:
        names = ", ".join(map(repr, batch.x))
        error = ValueError(
            f"expected batches (x, y), received dicts with the names {names}; say which are inputs and which "
            f"are targets: jl.data.named(data, x='...', y='...')"
        )
        raise about(error, x=batch.x)


_process: list[int] = []  # in which JAX was first used from here


def check_process() -> None:
    """Refuses to hang: JAX's threads are not in a process that was forked after JAX was used."""
    if not _process:
        _process.append(os.getpid())
    elif _process[0] != os.getpid():
        raise RuntimeError(
            "expected the process in which JAX was first used, received a fork of it, in which JAX hangs; "
            "start workers by multiprocessing.get_context('spawn')"
        )
