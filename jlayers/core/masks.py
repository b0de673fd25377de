"""Masks as values: an array beside the mask that says which of its positions are real.

A mask is never an attribute that an operation could lose: a layer transforms it, consumes it, or raises.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

from jlayers.core.errors import refused
from jlayers.core.shapes import describe

__all__ = [
    "KeepsMask",
    "LostMaskError",
    "Masked",
    "combine",
    "expand",
    "intersection",
    "is_masked",
    "keeps_mask",
    "leaves",
    "mask_of",
    "refusal",
    "split",
    "values_of",
    "with_mask",
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """Values, and a mask over their leading axes: True where a position is real, False where it is padding.

    A pytree like any other: it goes through `jit`, `grad` and `vmap`, and from layer to layer. `Embedding`
    with `mask_zero=True`, `Masking` and `AttachMask` make one. What stands in padding has no meaning.

    Attributes:
        values: such as `(batch, time, features)`.
        mask: boolean, of the leading axes of the values, such as `(batch, time)`.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> x = jl.Masked(jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]]))
    >>> jl.GlobalAveragePooling1D().apply({}, {}, x)[0].tolist()
    [[2.0]]
    """

    values: Shaped[Array, ...]
    mask: Bool[Array, ...]

    def __describe__(self) -> str:
        return f"{describe(self.values)} with mask {describe(self.mask)}"

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(self._told("an operation"))

    def _told(self, what: str) -> str:
        return (
            f"received {what} on masked values, {describe(self)}, which would lose the mask; write "
            f"jl.Add() and other layers on them, x.values for the values with their padding, or in a layer "
            f"of your own jlayers.core.masks.combine(function, a, b)"
        )

    if not TYPE_CHECKING:  # which would take any attribute to exist

        def __getattr__(self, name):
            if name.startswith("__") or name in ("values", "mask"):  # copying asks before they are there
                raise AttributeError(name)
            raise AttributeError(self._told(repr(f".{name}")), name=name)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _refuse
    __neg__ = __abs__ = __matmul__ = __rmatmul__ = __getitem__ = __len__ = __iter__ = _refuse
    __array__ = __jax_array__ = __float__ = __int__ = __bool__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse
    __hash__ = object.__hash__


def is_masked(value: Any) -> bool:
    return isinstance(value, Masked)


def values_of(value: Any) -> Any:
    """The values without their mask; what has no mask as it is."""
    return value.values if isinstance(value, Masked) else value


def mask_of(value: Any) -> Any:
    """The mask, or None."""
    return value.mask if isinstance(value, Masked) else None


def with_mask(values: Any, mask: Any) -> Any:
    """The values as `Masked`, or as they are if the mask is None."""
    return values if mask is None else Masked(values, mask)


def leaves(tree: Any) -> list[Any]:
    """The leaves of a pytree in which a `Masked` counts as one."""
    return jax.tree.leaves(tree, is_leaf=is_masked)


@dataclasses.dataclass(frozen=True, eq=False)
class KeepsMask:
    """A short `apply` that keeps the mask of its input; see `keeps_mask`."""

    apply: Callable[..., Any]
    mixes: tuple[int, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply(*args, **kwargs)


def keeps_mask(apply: Any = None, *, mixes: Sequence[int] = ()) -> Any:
    """Mark a short `apply` that works on each position by itself: its output has the mask of its first input.

    Args:
        apply: the function; None to give `mixes` first, as a decorator with arguments.
        mixes: axes along which elements are mixed. A mask over one of them is refused.

    >>> import jlayers as jl
    >>> from jlayers.core.layer import no_params
    >>> @jl.layer
    ... def Negated():
    ...     @jl.keeps_mask
    ...     def apply(params, x):
    ...         return -x
    ...     return no_params, apply
    """
    if apply is None:
        return lambda apply: keeps_mask(apply, mixes=mixes)
    return KeepsMask(apply, tuple(mixes))


class LostMaskError(TypeError):
    """A layer refuses an input whose mask it would lose."""


def refusal(inputs: Any, reason: str = "which it neither keeps nor uses") -> LostMaskError:
    """The error of a layer that would lose a mask."""
    return refused(
        LostMaskError,
        f"received {describe(inputs)}, {reason}, so padding would mix with what is real; put jl.DropMask() "
        f"before it to do without the mask, pool over time before it, or, if it is a layer of yours, let its "
        f"apply name mask as a keyword or mark it with jl.keeps_mask",
    )


def split(inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The plain values, and for each the mask or None, in the same structure."""
    for value in leaves(inputs):
        if not isinstance(value, Masked):
            continue
        shape = tuple(value.mask.shape)
        if value.mask.dtype != jnp.bool_ or not shape or shape != tuple(value.values.shape[: len(shape)]):
            raise refused(
                ValueError,
                "expected a boolean mask over the leading axes of its values, such as (batch, time)",
                value,
            )
    return (
        jax.tree.map(values_of, inputs, is_leaf=is_masked),
        jax.tree.map(mask_of, inputs, is_leaf=is_masked),
    )


def expand(mask: Any, rank: int) -> Any:
    """The mask with axes of size 1 at its end: ready to broadcast against values of that rank."""
    return mask.reshape(mask.shape + (1,) * (rank - mask.ndim))


def intersection(*masks: Any) -> Any:
    """True where all masks are, each of the leading axes of the longest; None is True everywhere."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    rank = max(mask.ndim for mask in given)
    total = expand(given[0], rank)
    for mask in given[1:]:
        total = total & expand(mask, rank)
    return total


def combine(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function` of the values, real where all inputs are: for values of one shape, in a container.

    >>> import jax.numpy as jnp, jlayers as jl
    >>> x = jl.Masked(jnp.ones((1, 2)), jnp.array([[True, False]]))
    >>> combine(jnp.add, x, jnp.ones((1, 2))).mask.tolist()
    [[True, False]]
    """
    return with_mask(function(*map(values_of, inputs)), intersection(*map(mask_of, inputs)))
