"""Arithmetic and indexing as layers: what `a / b`, `a * 2` and `a[:, 0]` on nodes of a graph become."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Num

from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.masks import keeps_mask, with_mask
from jlayers.core.pair import Pair
from jlayers.layers._arguments import choice
from jlayers.layers.merging import merging_pair

__all__ = ["Arithmetic", "GetItem"]

Numbers = Num[Array, "batch *rest"]
Operation = Literal["add", "subtract", "multiply", "divide", "power", "floor_divide", "remainder", "matmul"]
OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "add": operator.add,
        "subtract": operator.sub,
        "multiply": operator.mul,
        "divide": operator.truediv,
        "power": operator.pow,
        "floor_divide": operator.floordiv,
        "remainder": operator.mod,
        "matmul": operator.matmul,
    }
)


@layer
def Arithmetic(operation: Operation, number: int | float | None = None, swapped: bool = False):
    """An arithmetic operation on two inputs, or on one input and a number.

    On nodes, `a / b` and `2 - a` make this layer. Numbers take the dtype of the input, as in `jax.numpy`, and
    whole numbers become fractions where the operation gives fractions. A division by zero gives infinity or
    NaN.

    Shapes: two inputs of one batch size, whose other sizes are equal or 1; smaller ranks gain axes after the
    batch; "matmul" multiplies `(batch, ..., n, m)` by `(batch, ..., m, k)`. Masks are kept, and joined.

    Args:
        operation: "add", "subtract", "multiply", "divide", "power", "floor_divide", "remainder" or
            "matmul".
        number: the second operand; None for a second input.
        swapped: the number comes first, as in `2 - a`.

    Raises:
        ValueError: an unknown operation, a number with "matmul", inputs that do not fit.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.Arithmetic("divide", 2.0).apply({}, {}, jnp.array([[1.0, 3.0]]))[0].tolist()
    [[0.5, 1.5]]
    >>> x = jl.Input((2,), name="x")
    >>> (2 - x) / x
    <Node float32(None, 2) of Arithmetic('divide')>
    """
    choice("operation", operation, list(OPERATIONS))
    function = OPERATIONS[operation]
    if operation == "matmul":
        if number is not None:
            raise refused(ValueError, "expected two inputs to multiply as matrices", number=number)
        return no_params, lambda params, a, b: jnp.matmul(a, b)
    if number is None:
        if swapped:
            raise refused(ValueError, "expected a number to stand first", swapped=swapped)
        return merging_pair(lambda xs: function(*xs), exactly=2)

    @keeps_mask
    def apply(params: Any, x: Numbers) -> Numbers:
        return function(number, x) if swapped else function(x, number)

    return Pair(no_params, apply, wide=True)


# ------------------------------------------------------------------------------------------ indexing

_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(?::(-?\d+)?)?")


@layer
def GetItem(index: Sequence[int | str]):
    """A part of the input; the batch stays whole. On nodes, `a[:, 0]` and `a[:, 1:-1, None]` make this layer.

    Shapes: those of `x[index]` in NumPy. A mask is indexed along its axes, too.

    Args:
        index: one entry per axis, the batch first: a whole number, a slice such as `":"`, `"1:"` or `"::2"`,
            `"..."` for the axes in between, or `"newaxis"`.

    Raises:
        ValueError: an entry that is none of these, a batch that is not left whole, or an index that the axis
            does not have.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> jl.GetItem([":", 0]).apply({}, {}, jnp.array([[1.0, 2.0], [3.0, 4.0]]))[0].tolist()
    [1.0, 3.0]
    >>> jl.Input((5, 3))[:, 1:, 0]
    <Node float32(None, 4) of GetItem([':', '1:', 0])>
    """
    entries = [_entry(part, index) for part in index]
    if not entries or entries[0] not in (slice(None), Ellipsis):
        raise refused(
            ValueError,
            "expected the batch to be left whole, with ':' as the first entry",
            instead="samples are chosen from the data, before the model",
            index=list(index),
        )

    def index_entries(x: Any) -> list[Any]:
        """One entry for each axis, besides new ones."""
        used = sum(entry not in (None, Ellipsis) for entry in entries)
        missing = x.ndim - used
        if missing < 0 or entries.count(Ellipsis) > 1:
            raise refused(ValueError, "expected at most one entry per axis", x, index=list(index))
        at = entries.index(Ellipsis) if Ellipsis in entries else len(entries)
        full = [*entries[:at], *[slice(None)] * missing, *entries[at + 1 :]]
        sizes = iter(x.shape)
        for entry in full:
            size = None if entry is None else next(sizes)
            if isinstance(entry, int) and isinstance(size, int) and not -size <= entry < size:
                raise refused(
                    ValueError, f"expected an index from {-size} to {size - 1}", x, index=list(index)
                )
        if full[0] != slice(None):
            raise refused(ValueError, "expected the batch to be left whole", x, index=list(index))
        return full

    def apply(params: Any, x: Numbers, *, mask: Any) -> Any:
        full = index_entries(x)
        if mask is None:
            return x[tuple(full)]
        axes = 0
        covered: list[Any] = []
        for entry in full:
            if axes == mask.ndim:
                break
            axes += entry is not None
            covered.append(entry)
        return with_mask(x[tuple(full)], mask[tuple(covered)])

    return no_params, apply


def _entry(part: Any, index: Any) -> Any:
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    if part in ("...", "newaxis"):
        return Ellipsis if part == "..." else None
    if isinstance(part, str) and (found := _SLICE.fullmatch(part)) and found[3] != "0":
        return slice(*(None if number is None else int(number) for number in found.groups()))
    raise refused(
        ValueError,
        "expected whole numbers, slices such as ':' or '1:', '...' or 'newaxis'",
        index=list(index),
    )
