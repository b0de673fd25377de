"""Texts and whole numbers sorted into bins by a hash: no vocabulary, and no end of new values."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jlayers.core.errors import refused
from jlayers.core.shapes import describe
from jlayers.preprocessing.base import as_integers, as_texts, check_mode, encoded, register
from jlayers.preprocessing.fingerprint import combined, farmhash, siphash

__all__ = ["HashedCrossing", "Hashing", "Salt", "salt_key"]

Salt = int | Sequence[int] | None
_CROSSING_SEED = 0xDECAFCAFFE  # TensorFlow's


@register
def Hashing(
    num_bins: int,
    mask_value: str | int | None = None,
    salt: Salt = None,
    output_mode: Literal["int", "one_hot", "multi_hot", "count"] = "int",
):
    """Texts or whole numbers as one of `num_bins` numbers, by a hash. As in Keras, without sparse outputs.

    The bins are Keras's: FarmHash64 of the text, or of the decimal digits of a number, and with a salt
    SipHash-2-4. They are the same in each process and on each machine.

    Shapes: as the layers' `CategoryEncoding`; "int" keeps the shape and is int32 where Keras has int64.

    Args:
        num_bins: how many bins, that of `mask_value` included.
        mask_value: goes to bin 0, which is then its own.
        salt: a number, or two, that make other bins.
        output_mode: the bin, a vector for each value, or per sample which bins occur or how often.

    Raises:
        ValueError: no bins, or a salt that is neither one nor two whole numbers.
        TypeError: inputs that are neither texts nor whole numbers.

    >>> import jlayers as jl
    >>> jl.Hashing(3)(["A", "B", "C", "D", "E"]).tolist()
    [1, 0, 1, 1, 2]
    """
    _check_bins("Hashing", num_bins)
    check_mode("Hashing", output_mode)
    key = None if salt is None else salt_key("Hashing", salt)
    masked = mask_value is not None and num_bins > 1

    @functools.lru_cache(maxsize=1 << 16)
    def bin_of(value: Any) -> int:
        if masked and value == mask_value:
            return 0
        data = str(value).encode()
        return (farmhash(data) if key is None else siphash(data, key)) % (num_bins - masked) + masked

    def apply(inputs: Any) -> np.ndarray:
        values = _values("Hashing", inputs)
        bins = np.fromiter(map(bin_of, values.ravel().tolist()), np.int64, values.size)
        return encoded("Hashing", bins.reshape(values.shape), output_mode, num_bins)

    return apply


@register
def HashedCrossing(num_bins: int, output_mode: Literal["int", "one_hot"] = "int"):
    """Several features as one: their values together, sorted into bins by a hash. Bins and names are Keras's.

    Called on a tuple of at least two features, each `(batch,)` or `(batch, 1)`, of texts or whole numbers.

    Args:
        num_bins: how many bins.
        output_mode: the bin, in the shape of the features, or a vector `(batch, num_bins)`.

    Raises:
        ValueError: no bins, fewer than two features, or features of other or different shapes.
        TypeError: inputs that are neither texts nor whole numbers.

    >>> import jlayers as jl
    >>> jl.HashedCrossing(5)((["A", "B", "A", "B", "A"], [101, 101, 101, 102, 102])).tolist()
    [1, 4, 1, 1, 3]
    """
    _check_bins("HashedCrossing", num_bins)
    check_mode("HashedCrossing", output_mode, ("int", "one_hot"))

    def apply(inputs: Any) -> np.ndarray:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ValueError("HashedCrossing: expected a tuple of two features or more, received one")
        features = [_values("HashedCrossing", value) for value in inputs]
        shape = features[0].shape
        if any(f.shape != shape for f in features) or not (len(shape) == 1 or shape[1:] == (1,)):
            raise ValueError(
                f"HashedCrossing: expected features of one shape, (batch,) or (batch, 1), received "
                f"{', '.join(str(f.shape) for f in features)}"
            )
        rows = zip(*(f.ravel().tolist() for f in features), strict=True)
        bins = np.array([_crossed(row) % num_bins for row in rows], np.int64).reshape(shape)
        return encoded("HashedCrossing", bins, output_mode, num_bins)

    return apply


def _crossed(row: tuple[Any, ...]) -> int:
    mixed = _CROSSING_SEED
    for value in row:
        mixed = combined(mixed, farmhash(value.encode()) if isinstance(value, str) else value & (1 << 64) - 1)
    return mixed


def _values(name: str, inputs: Any) -> np.ndarray:
    """Texts or whole numbers as an array."""
    array = inputs if hasattr(inputs, "dtype") else np.asarray(inputs, dtype=object)
    if array.dtype.kind in "iu":
        return as_integers(name, array)
    if array.dtype.kind == "f":
        raise TypeError(f"{name}: expected texts or whole numbers, received {describe(array)}")
    if array.dtype == object and all(isinstance(v, int) for v in array.ravel().tolist()):
        return array
    return as_texts(name, array)


def salt_key(name: str, salt: Any) -> tuple[int, int]:
    """Two numbers as SipHash's key; one counts twice."""
    pair = (salt, salt) if isinstance(salt, int) else salt
    valid = isinstance(pair, (list, tuple)) and len(pair) == 2
    if not valid or not all(isinstance(s, int) and not isinstance(s, bool) for s in pair):
        raise refused(ValueError, "expected salt as one or two whole numbers", raised_by=name, salt=salt)
    return pair[0], pair[1]


def _check_bins(name: str, num_bins: Any) -> None:
    if isinstance(num_bins, bool) or not isinstance(num_bins, int) or num_bins < 1:
        raise refused(ValueError, "expected num_bins of at least 1", raised_by=name, num_bins=num_bins)
