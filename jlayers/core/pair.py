"""A pair of functions and what is known of it, in one value, so that a wrapper cannot lose any of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from jlayers.core.masks import KeepsMask

__all__ = ["Apply", "Init", "Pair"]

Init = Callable[..., Any]
Apply = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """`init` and `apply`, in an author's short form or in the canonical one, and their properties.

    A constructor may return a `Pair` in place of the two functions to say more about them.

    Attributes:
        init: makes parameters and state.
        apply: computes.
        draws: `apply` may draw random numbers and is given keys. None: if it names `key`.
        autocast: a precision policy casts the inputs. False for an `apply` that only hands them on.
        wide: `apply` compares, looks up, normalizes or rescales its inputs, so a policy must not narrow them
            first: if they are wider than the compute dtype, the layer computes in their dtype.
        mixes: the axes that `apply` mixes if it keeps the mask of its input; None if it does not.
        ids_below: the input holds whole numbers from 0 to below this, as that of a table does.
        activation: the name of the activation, if the layer is one, as `Softmax` is; else None.
        carries: training passes the carry in its state from one batch to the next.
    """

    init: Init
    apply: Apply
    draws: bool | None = None
    autocast: bool = True
    wide: bool = False
    mixes: tuple[int, ...] | None = None
    ids_below: int | None = None
    activation: str | None = None
    carries: bool = False

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.apply))

    def wrap(self, *, init: Init | None = None, apply: Apply | None = None) -> Pair:
        """The pair with another function around one of its own, or around both; all else stays."""
        return dataclasses.replace(self, init=init or self.init, apply=apply or self.apply)

    @staticmethod
    def of(value: Any) -> Pair | None:
        """A pair from itself or from two functions, the second maybe marked by `keeps_mask`; else None."""
        if isinstance(value, tuple) and len(value) == 2 and all(map(callable, value)):
            value = Pair(*value)
        if not isinstance(value, Pair):
            return None
        if isinstance(value.apply, KeepsMask):
            return dataclasses.replace(value, apply=value.apply.apply, mixes=value.apply.mixes)
        return value
