"""The gate for data: one set of rules, and one set of words, for all values that come from outside.

Arrays in memory, batches from loaders, files and new data for a trained model pass through these functions
before anything is computed. A value either arrives unchanged or is refused with its place; nothing is
wrapped, clipped or rounded to something else in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import about, refused
from jlayers.core.shapes import describe
from jlayers.core.spelling import nearest
from jlayers.data.lazy import is_lazy

__all__ = [
    "as_dtype",
    "check_at_least",
    "check_choice",
    "check_finite",
    "check_names",
    "check_resolution",
    "check_width",
    "convert",
    "entry",
    "leaves",
    "like_training",
]

_KINDS = {"b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "fractions", "c": "complex"}


def leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The arrays of a tree with their paths for messages, such as `x['image']`."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from leaves(value, f"{path}[{name!r}]")
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}[{i}]")
    elif tree is not None:
        yield path, tree


# -------------------------------------------------------------------------------------------- dtypes


def convert(where: str, value: Any) -> np.ndarray:
    """An array of numbers on the host, in the dtype in which JAX will hold it.

    Without `jax_enable_x64` that is at most 32 bits: `int64` becomes `int32`, `float64` becomes `float32`.

    Args:
        where: the name of the array in messages.
        value: an array, or what NumPy can make into one.

    Raises:
        TypeError: something other than numbers.
        ValueError: a number beyond the range of the dtype, with its place.

    >>> convert("x", np.array([1, 2])).dtype
    dtype('int32')
    >>> convert("x", np.array([[7], [1_700_000_000_000]]))
    Traceback (most recent call last):
    ValueError: expected whole numbers from -2147483648 to 2147483647 (int32), received x[1, 0]=17000000...
    """
    try:
        array: Any = value if is_lazy(value) else np.asarray(value)
    except (TypeError, RuntimeError) as error:  # of PyTorch: a gradient, bfloat16, another device
        raise TypeError(
            f"expected {where} as arrays that NumPy can read, received a {type(value).__name__}: {error}; "
            f"convert it before, such as by x.detach().float().cpu()"
        ) from error
    if array.dtype.kind not in "biufcV" or array.dtype.names:  # V: bfloat16 and its like
        raise TypeError(f"expected numbers as {where}, received {_found(array)}")
    wide = {np.dtype(np.longdouble): np.float64, np.dtype(np.clongdouble): np.complex128}
    if is_lazy(array):  # each batch that is read comes through here again
        return array
    target = wide.get(array.dtype, array.dtype) if array.dtype.kind in "fc" else array.dtype
    return as_dtype(where, array, jax.dtypes.canonicalize_dtype(target))


def _found(array: np.ndarray) -> str:
    if is_lazy(array) or array.dtype != object or not array.size:
        return f"an array of dtype {array.dtype}; make numbers of text and categories first"
    first = array.ravel()[0]
    if isinstance(first, (list, tuple, np.ndarray)):
        return f"rows of unequal length, {describe(array)}; fill them up with jl.data.pad_sequences"
    odd = next((v for v in array.ravel().tolist() if not isinstance(v, (int, float))), first)
    return f"an array of dtype object that holds {odd!r}; make numbers of text and categories first"


def as_dtype(where: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """The same numbers in another dtype, or an error: whole numbers stay equal, fractions may round.

    Raises:
        ValueError: a number beyond the dtype's range, or a fraction where whole numbers are expected.

    >>> as_dtype("x", np.array([0.0, 255.0]), np.uint8).tolist()
    [0, 255]
    >>> as_dtype("x", np.array([0.0, 300.0]), np.uint8)
    Traceback (most recent call last):
    ValueError: expected whole numbers from 0 to 255 (uint8), received x[1]=300.0; ...
    """
    dtype = np.dtype(dtype)
    if array.dtype == dtype or not array.size:
        return array.astype(dtype, copy=False)
    if dtype.kind in "iu" and array.dtype.kind in "biuf":
        return _whole(where, array, dtype)
    with np.errstate(all="ignore"):
        made = array.astype(dtype)
        total = made.sum(dtype=_wide(dtype)) if dtype.kind in "fc" else 0
    if array.dtype.kind in "fciu" and not np.isfinite(total):
        lost = ~np.isfinite(made) & np.isfinite(array)
        if lost.any():
            most = np.finfo(dtype).max
            raise refused(
                ValueError,
                f"expected numbers of at most {most:.3g} in size ({dtype}), received "
                f"{entry(where, array, lost)}",
                instead="scale the data down first",
            )
    return made


def _wide(dtype: np.dtype) -> Any:
    return np.complex128 if dtype.kind == "c" else np.float64


def _whole(where: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if array.dtype.kind == "f" and (odd := ~np.isfinite(array) | (array != np.round(array))).any():
        raise ValueError(f"expected whole numbers ({dtype}), received {entry(where, array, odd)}")
    # Python's numbers, because NumPy compares int64 with uint64 as float64.
    if int(array.min()) < low or int(array.max()) > high:
        beyond = np.array([not low <= int(v) <= high for v in array.ravel()]).reshape(array.shape)
        fix = "; " + (
            "subtract an offset, number the values anew (jl.IntegerLookup), or enable 64 bits with "
            "jax.config.update('jax_enable_x64', True)"
            if dtype.itemsize == 4
            else "prepare them as the training data were"
        )
        raise ValueError(
            f"expected whole numbers from {low} to {high} ({dtype}), received "
            f"{entry(where, array, beyond)}{fix}"
        )
    return array.astype(dtype)


def entry(where: str, array: np.ndarray, wrong: np.ndarray) -> str:
    """The first wrong entry with its place: `x[3, 0]=300`."""
    place = np.argwhere(wrong)[0].tolist()
    return f"{where}{place or ''}={array[tuple(place)]}"


def like_training(where: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """New data in the dtype of the training data, if they are of the same kind.

    Whole numbers that are written as fractions, as in a CSV file, pass for whole numbers. Nothing else
    changes its kind: bytes given to a model of scaled images would be 255 times too large.

    Raises:
        ValueError: another kind of number, or a number beyond the range of the dtype.

    >>> like_training("input", np.array([True, False]), np.uint8)
    Traceback (most recent call last):
    ValueError: input: expected whole numbers (uint8) prepared as the training data were, received ...
    """
    dtype, kind = np.dtype(dtype), array.dtype.kind
    same = {"b": "b", "i": "iuf", "u": "iuf", "f": "f", "c": "fc"}.get(dtype.kind, "V")
    if array.dtype != dtype and kind not in same:
        expected = f"{_KINDS.get(dtype.kind, 'numbers')} ({dtype})"
        raise ValueError(
            f"{where}: expected {expected} prepared as the training data were, received {describe(array)}; "
            f"convert it as they were"
        )
    return as_dtype(where, array, dtype)


# ------------------------------------------------------------------------------------ shapes and values


def check_width(**trees: Any) -> None:
    """Refuse samples without any value.

    >>> check_width(x=np.zeros((4, 0)))
    Traceback (most recent call last):
    ValueError: expected at least one value in each sample, received x=float64(4, 0)
    """
    for name, tree in trees.items():
        for path, array in leaves(tree, name):
            if 0 in array.shape[1:]:
                error = ValueError(
                    f"expected at least one value in each sample, received {path}={describe(array)}"
                )
                raise about(error, **{name: tree})


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
                error = ValueError(
                    f"expected finite numbers, received {entry(path, array, bad)}; {bad.sum()} of "
                    f"{array.size} are not finite: remove or fill them first"
                )
                raise about(error, **{name: tree})


def check_at_least(name: str, value: Any, least: int) -> None:
    """Refuse what is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise refused(
            ValueError, f"expected {name} to be a whole number of at least {least}", **{name: value}
        )


def check_choice(name: str, value: Any, valid: Sequence[str]) -> None:
    """Refuse what is not in the list."""
    if value not in valid:
        raise refused(ValueError, f"expected {name} out of {', '.join(map(repr, valid))}", **{name: value})


def check_resolution(where: str, low: float, high: float, error: float) -> None:
    """Refuse a column whose spread is lost when it is rounded to float32, such as times in milliseconds.

    >>> check_resolution("t.csv, column 1", 1.7e12, 1.7e12 + 1e6, 65536.0)
    Traceback (most recent call last):
    ValueError: t.csv, column 1: expected numbers that float32 keeps apart, received 1700000000000.0 to ...
    """
    if high > low and error > 0.01 * (high - low):
        raise ValueError(
            f"{where}: expected numbers that float32 keeps apart, received {float(low)!r} to "
            f"{float(high)!r}, which rounding moves by up to {error:g}; subtract an offset first"
        )


def check_names(where: str, given: Iterable[str], expected: Sequence[str], noun: str = "column") -> list[str]:
    """Refuse data that lack a name; returns the names that are not expected, in their order.

    >>> check_names("new.csv", ["id", "b", "a"], ["a", "b"])
    ['id']
    >>> check_names("new.csv", ["hight", "b"], ["height", "b"])
    Traceback (most recent call last):
    ValueError: new.csv: expected the columns 'height', 'b', received 'hight', 'b': 'height' is missing; ...
    """
    given = list(given)
    missing = [name for name in expected if name not in given]
    if not missing:
        return [name for name in given if name not in expected]
    rest = [name for name in given if name not in expected]
    near = f"; is it called {rest[0]!r}?" if len(rest) == len(missing) == 1 else ""
    near = near or (f" ({nearest(missing[0], rest)})" if rest else "")
    raise ValueError(
        f"{where}: expected the {noun}s {_listed(expected)}, received {_listed(given)}: "
        f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing{near}"
    )


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "") if names else "none"
