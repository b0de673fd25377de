"""Floating-point operations of a function, counted by walking the program that JAX traces from it.

The compiler's own `cost_analysis()` counts the body of a loop once, whatever its length. Here a scan
counts as often as it runs. Numbers that the program does not tell are named, never guessed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:  # loading these would bring Pallas along
    from jax.extend.core import ClosedJaxpr, Jaxpr

from jlayers.core.shapes import is_shape
from jlayers.inspect.flop_rules import (
    ELEMENTWISE,
    FOREIGN,
    FREE,
    FREE_PREFIXES,
    RULES,
    floating_size,
    fold,
    size_of,
)

__all__ = ["FlopCount", "flop_count", "flops"]


@dataclasses.dataclass(frozen=True)
class FlopCount:
    """A number of floating-point operations, and the reasons if it is only a bound.

    Attributes:
        total: floating-point operations.
        caveats: what the number leaves out or assumes, in words; empty when it is exact.
    """

    total: int
    caveats: tuple[str, ...] = ()

    def __int__(self) -> int:
        return self.total


def flops(function: Callable[..., Any], *args: Any) -> int:
    """The floating-point operations of `function(*args)`; nothing is computed.

    A multiply-add is two operations; every other arithmetic operation on one floating-point number
    (a sum, a comparison, `exp`, `tanh`) is one. Moving, selecting and casting data are free, and so is
    arithmetic on whole numbers, except in matrix products and convolutions. A convolution's multiplications
    with padding or with the zeros of a dilation are not counted: no work is done for them. A scan counts
    as often as its length says, a branch as its most expensive side. See `flop_count` for programs
    whose number is not exact.

    Args:
        function: any function that JAX can trace.
        *args: its arguments: pytrees of arrays, `jax.ShapeDtypeStruct`s or shape tuples (float32).

    >>> import jlayers as jl
    >>> jl.flops(lambda x, w: x @ w, (8, 100), (100, 10))
    16000
    """
    return flop_count(function, *args).total


def flop_count(function: Callable[..., Any], *args: Any) -> FlopCount:
    """As `flops`, with what the number leaves out: a `while` of unknown length, a foreign kernel.

    Args:
        function: any function that JAX can trace.
        *args: its arguments: pytrees of arrays, `jax.ShapeDtypeStruct`s or shape tuples (float32).

    >>> import jax
    >>> from jlayers.inspect.flops import flop_count
    >>> halve = lambda x: jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x)
    >>> flop_count(halve, (10,)).caveats
    ('while: the number of rounds is not known, counted as one',)
    """
    arguments = tuple(jax.tree.map(_as_argument, arg, is_leaf=is_shape) for arg in args)
    return count_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _as_argument(value: Any) -> Any:
    return jax.ShapeDtypeStruct(tuple(value), jnp.float32) if is_shape(value) else value


def count_jaxpr(jaxpr: Jaxpr) -> FlopCount:
    """The operations of a traced program."""
    walk = _Walk()
    total = walk.jaxpr(jaxpr)
    return FlopCount(total, tuple(walk.caveats))


def primitives(jaxpr: Jaxpr | ClosedJaxpr) -> set[str]:
    """The names of everything that a traced program does, at any depth.

    >>> sorted(primitives(jax.make_jaxpr(jax.jit(lambda x: jnp.sin(x) + 1.0))(0.0)))
    ['add', 'jit', 'sin']
    """
    names: set[str] = set()
    seen: set[Any] = set()
    waiting = [_unwrap(jaxpr)]
    while waiting:
        inner = waiting.pop()
        if inner not in seen:
            seen.add(inner)
            for eqn in inner.eqns:
                names.add(eqn.primitive.name)
                waiting.extend(_jaxprs(eqn.params))
    return names


class _Walk:
    def __init__(self) -> None:
        self.caveats: dict[str, None] = {}
        self.known: dict[Jaxpr, int] = {}  # a jitted function called often is one jaxpr

    def jaxpr(self, jaxpr: Jaxpr | ClosedJaxpr) -> int:
        inner = _unwrap(jaxpr)
        if inner not in self.known:
            self.known[inner] = sum(map(self.equation, inner.eqns))
        return self.known[inner]

    def equation(self, eqn: Any) -> int:
        name, params = eqn.primitive.name, eqn.params
        if name in FREE or name.startswith(FREE_PREFIXES):
            return 0
        if name in ELEMENTWISE:
            return floating_size(eqn) * ELEMENTWISE[name]
        if rule := RULES.get(name):
            return rule(eqn)
        if name == "scan":
            return params["length"] * self.jaxpr(params["jaxpr"])
        if name == "while":
            return self.while_(params)
        if name == "cond":
            return max(map(self.jaxpr, params["branches"]))
        if name == "shard_map":
            shards = math.prod(params["mesh"].shape.values())
            return shards * self.jaxpr(params["jaxpr"])
        if name in ("reduce", "reduce_window"):
            return size_of(eqn.outvars[0]) * fold(eqn) * self.jaxpr(params["jaxpr"])
        inner = list(_jaxprs(params))
        if len(inner) > 1 or not inner or name in FOREIGN:
            counted = "counted as one run of each part" if inner else "counted as none"
            self.caveats[f"{name}: its operations are not known, {counted}"] = None
        return sum(map(self.jaxpr, inner))

    def while_(self, params: Any) -> int:
        once = self.jaxpr(params["cond_jaxpr"]) + self.jaxpr(params["body_jaxpr"])
        if once:
            self.caveats["while: the number of rounds is not known, counted as one"] = None
        return once


def _jaxprs(params: Any) -> Iterator[Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "eqns"):
                yield _unwrap(item)


def _unwrap(jaxpr: Any) -> Jaxpr:
    """The program inside a `ClosedJaxpr`."""
    return getattr(jaxpr, "jaxpr", jaxpr)
