"""Sequences as arrays: lists of unequal length filled up, and a long series cut into windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from jlayers.core.errors import about
from jlayers.core.shapes import describe
from jlayers.data.gate import as_dtype, check_at_least, check_choice

__all__ = ["pad_sequences", "windows"]


def pad_sequences(
    sequences: Iterable[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: Literal["pre", "post"] = "pre",
    truncating: Literal["pre", "post"] = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of unequal length as one array, filled up and cut to one length. As in Keras.

    Numbers must survive the dtype: Keras makes 1.7 into 1 where `dtype` is left out, which is an error here.

    Args:
        sequences: one sequence `(time, ...)` for each sample; they differ in time only.
        maxlen: the length of all; that of the longest if not given.
        dtype: dtype of the result; `object` for texts.
        padding: whether to fill up before or after the values.
        truncating: whether to cut off values at the beginning or at the end.
        value: to fill up with.

    Returns:
        An array `(samples, maxlen, ...)`.

    Raises:
        ValueError: sequences that differ in more than time, numbers that the dtype does not hold, or another
            option.
        TypeError: something that is not a sequence.

    >>> pad_sequences([[1, 2, 3], [4]]).tolist()
    [[1, 2, 3], [0, 0, 4]]
    >>> pad_sequences([[1, 2, 3], [4]], maxlen=2, padding="post", truncating="post", value=9).tolist()
    [[1, 2], [4, 9]]
    """
    check_choice("padding", padding, ("pre", "post"))
    check_choice("truncating", truncating, ("pre", "post"))
    if maxlen is not None:
        check_at_least("maxlen", maxlen, 1)
    dtype = np.dtype(dtype)
    arrays = [_in_dtype(f"sequences[{i}]", sequence, dtype) for i, sequence in enumerate(sequences)]
    shapes = {array.shape[1:] for array in arrays if len(array)}
    if len(shapes) > 1:
        first = next(array for array in arrays if len(array))
        i, odd = next((i, a) for i, a in enumerate(arrays) if len(a) and a.shape[1:] != first.shape[1:])
        raise ValueError(
            f"expected sequences that differ in time only, received sequences[{i}]={describe(odd)} beside "
            f"{describe(first)}"
        )
    length = max(map(len, arrays), default=0) if maxlen is None else maxlen
    filler = _in_dtype("value", value, dtype, scalar=True)
    padded = np.full((len(arrays), length, *next(iter(shapes), ())), filler, dtype)
    for row, array in zip(padded, arrays, strict=True):
        kept = array[max(0, len(array) - length) :] if truncating == "pre" else array[:length]
        if len(kept):
            row[length - len(kept) :] = kept
            if padding == "post":
                row[:] = np.roll(row, len(kept) - length, axis=0)
    return padded


def _in_dtype(where: str, value: Any, dtype: np.dtype, scalar: bool = False) -> np.ndarray:
    """The value in the dtype, without a loss."""
    array = np.asarray(value, dtype=object if dtype.hasobject else None)
    if (array.ndim == 0) != scalar:
        raise TypeError(f"expected {'one value' if scalar else 'a sequence'}, received {where}={value!r}")
    if not array.size or array.dtype == dtype:
        return array.astype(dtype)
    if dtype.kind not in "biufc" or array.dtype.kind not in "biufc":
        raise ValueError(
            f"expected {dtype} in {where}, received {describe(array)}; pass dtype=object for texts"
        )
    return as_dtype(where, array, dtype)


def windows(x: Any, y: Any, length: int, stride: int = 1) -> Any:
    """Windows of a series, each a sample, and the target of each. As Keras's `timeseries_dataset_from_array`.

    Window `i` holds `length` steps from step `i * stride` on, and its target is `y[i * stride]`. To predict
    the step behind each window, pass the series as `x` and the series from step `length` on as `y`.

    Args:
        x: the series `(time, ...)`.
        y: targets by the step where a window begins, or None for no targets. There may be fewer of them
            than steps; windows without a target are left out.
        length: steps in a window.
        stride: steps from the beginning of one window to that of the next.

    Returns:
        Windows `(samples, length, ...)`, a view of `x` that takes no memory of its own and cannot be written
        to; with `y` a pair of the windows and their targets.

    Raises:
        ValueError: fewer steps than `length`, or sizes below 1.

    >>> x, y = windows(np.arange(6), np.arange(6)[3:], length=3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [1, 2, 3], [2, 3, 4]], [3, 4, 5])
    >>> windows(np.arange(6), None, length=2, stride=2).tolist()
    [[0, 1], [2, 3], [4, 5]]
    """
    check_at_least("length", length, 1)
    check_at_least("stride", stride, 1)
    series = np.asarray(x)
    if series.ndim == 0 or len(series) < length:
        error = ValueError(
            f"expected a series (time, ...) of at least length={length} steps, received x={describe(series)}"
        )
        raise about(error, x=x)
    made = np.moveaxis(np.lib.stride_tricks.sliding_window_view(series, length, axis=0), -1, 1)
    if y is None:
        return made[::stride]
    targets = np.asarray(y)
    if targets.ndim == 0 or not len(targets):
        raise about(ValueError(f"expected targets, one for each window, received y={describe(targets)}"), y=y)
    count = min(len(made), len(targets))
    return made[:count:stride], targets[:count:stride]
