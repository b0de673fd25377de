"""Checks of arguments and inputs that the layers share.

They raise without the name of the layer, which `@layer` adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jlayers.core.errors import NotFloatingError, refused
from jlayers.core.spelling import nearest

__all__ = [
    "DataFormat",
    "above_zero",
    "axis_of",
    "channels_at_edge",
    "choice",
    "fraction",
    "need_features",
    "need_floating",
    "need_rank",
    "not_negative",
    "per_axis",
    "positive",
    "refused_argument",
    "reshaped_to",
    "spatial_shape",
]

DataFormat = Literal["channels_last", "channels_first"]
_SPATIAL = {1: "steps", 2: "height, width", 3: "depth, height, width"}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def refused_argument(name: str, value: Any, expected: str, instead: str = "") -> ValueError:
    """The error for an argument whose name is a value, as in the checks below."""
    received: dict[str, Any] = {name: value}
    return refused(ValueError, f"expected {name} {expected}", instead=instead, **received)


def positive(name: str, value: int, most: int | None = None) -> int:
    """A whole number of at least 1, and at most `most` where each one is written into the program."""
    if not _is_int(value) or value < 1:
        raise refused_argument(name, value, "to be a positive whole number")
    if most is not None and value > most:
        raise refused_argument(name, value, f"to be at most {most}")
    return value


def above_zero(name: str, value: float) -> float:
    if not value > 0:
        raise refused_argument(name, value, "> 0")
    return value


def not_negative(name: str, value: float) -> float:
    if not value >= 0:
        raise refused_argument(name, value, ">= 0")
    return value


def fraction(name: str, value: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        instead = "it is the fraction to drop, not per cent" if name == "rate" else ""
        raise refused_argument(name, value, "between 0 and 1", instead)
    return value


def choice(name: str, value: Any, valid: Sequence[str]) -> Any:
    if value not in valid:
        close = nearest(value, valid)
        raise refused_argument(
            name,
            value,
            f"out of {', '.join(map(repr, valid))}",
            instead=close if close.endswith("?") else "",
        )
    return value


def per_axis(name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """One whole number per spatial axis, from one for all or a sequence."""
    values = (value,) * rank if _is_int(value) else value
    fits = isinstance(values, (tuple, list)) and len(values) == rank
    if not fits or not all(_is_int(v) and v >= least for v in values):
        several = f", or {rank} of them" if rank > 1 else ""
        raise refused_argument(name, value, f"to be a whole number of at least {least}{several}")
    return tuple(values)


def need_floating(x: Any) -> None:
    """Refuse an input that is not floating; `lift` then gives whole numbers and booleans as fractions."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        error = refused(
            NotFloatingError,
            "expected a floating input",
            x,
            instead="convert it with x.astype('float32'), or put an Embedding before if these are indices",
        )
        error.x = x
        raise error


def need_rank(x: Any, rank: int, shape: str) -> None:
    if len(x.shape) != rank:
        missing = "the batch dimension may be missing: add one with x[None]"
        raise refused(
            ValueError,
            f"expected an input of {rank} dimensions {shape}",
            x,
            instead=missing if len(x.shape) == rank - 1 else "",
        )


def need_features(x: Any, axis: int, size: int, what: str) -> None:
    """Refuse data with another number of features than `size`, for which the parameters were made."""
    if x.shape[axis] != size:
        raise refused(
            ValueError, f"expected {size} {what} (axis {axis}), for which the parameters were made", x
        )


def spatial_shape(rank: int, data_format: str | None = None) -> str:
    """The shape of data for messages: `(batch, height, width, channels)`."""
    if data_format == "channels_first":
        return f"(batch, channels, {_SPATIAL[rank]})"
    return f"(batch, {_SPATIAL[rank]}, channels)"


def axis_of(x: Any, axis: int) -> int:
    """`axis` counted from the front."""
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise refused(
            ValueError, f"expected an axis from {-rank} to {rank - 1}, which the input has", x, axis=axis
        )
    return axis % rank


def reshaped_to(x: Any, vector: Any, axes: Sequence[int]) -> Any:
    """`vector`, in the dtype of `x`, laid along `axes` (in order) of the rank of `x`, ready to broadcast."""
    shape = [1] * x.ndim
    for axis, size in zip(axes, vector.shape, strict=True):
        shape[axis] = size
    return vector.astype(x.dtype).reshape(shape)


def channels_at_edge(data_format: str | None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Functions that move the channels to the end on the way in and back on the way out.

    The first takes arrays and shape structs alike.
    """
    choice("data_format", data_format or "channels_last", ("channels_last", "channels_first"))
    if data_format != "channels_first":
        return lambda x: x, lambda y: y

    def last(x: Any) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct((x.shape[0], *x.shape[2:], x.shape[1]), x.dtype)
        return jnp.moveaxis(x, 1, -1)

    return last, lambda y: jnp.moveaxis(y, -1, 1) if y.ndim > 2 else y
