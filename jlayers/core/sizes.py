"""Sizes that are not known yet, as in `Input((None, None, 3))`: what a function of shapes gives for them.

JAX can compute with symbols for sizes, but not decide every comparison of them. Where it cannot, the shapes
are inferred from two sets of known sizes: what differs between the two is again not known.
"""

from __future__ import annotations

import ast
import functools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import export

from jlayers.core.errors import details_of

__all__ = ["infer", "is_known", "symbolic"]

# Sizes of the two sets: they can be halved often, lie within common limits of lengths, and differ by axis.
_BATCH = (6, 12)
_AXIS = (192, 384)
_SYMBOL = re.compile(r"n(?P<one>\d+)_(?P<other>\d+)|d(?P<axis>\d+)|batch")
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow}
_FUNCTIONS = {"floordiv": operator.floordiv, "mod": operator.mod, "max": max, "min": min}


@functools.cache
def _scope() -> Any:
    return export.SymbolicScope()


def _symbols(names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(export.symbolic_shape(", ".join(names), scope=_scope()))


def symbolic(shape: Sequence[int | None]) -> tuple[Any, ...]:
    """The shape with a batch in front; None becomes a symbol of its axis."""
    return _symbols(["batch", *(str(d) if d is not None else f"d{i + 1}" for i, d in enumerate(shape))])


def is_known(size: Any) -> bool:
    return not export.is_symbolic_dim(size)


def infer(function: Callable[..., Any], *specs: Any) -> Any:
    """The second of the two pytrees of `jax.ShapeDtypeStruct`s that `function(*specs)` gives.

    Sizes in `specs` may be symbols. The first pytree is what must not depend on them: parameters.

    >>> import jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct(symbolic((None, 3)), jnp.float32)
    >>> infer(lambda x: ({}, jax.eval_shape(lambda x: x[:, :2] if x.shape[1] > 5 else x, x)), x).shape
    (batch, 2, 3)
    """
    sizes = {d for spec in jax.tree.leaves(specs) for d in spec.shape if not is_known(d)}
    if not sizes:
        return function(*specs)[1]
    try:
        return function(*specs)[1]
    except Exception as error:
        if details_of(error).text is not None:  # a layer refuses what it sees, and would for any size
            raise
        undecided = error
    pairs = {d: (_number(d, 0), _number(d, 1)) for d in sizes}
    try:
        (fixed, one), (changed, other) = (function(*_with_sizes(specs, pairs, which)) for which in (0, 1))
    except Exception:
        if isinstance(undecided, jax.errors.InconclusiveDimensionOperation):  # which says nothing to a user
            raise
        raise undecided from None
    if fixed != changed:
        raise undecided
    symbol_of = {pair: d for d, pair in pairs.items()}

    def joined(a: Any, b: Any) -> Any:
        return jax.ShapeDtypeStruct(tuple(map(size, a.shape, b.shape)), a.dtype)

    def size(a: int, b: int) -> Any:
        if a == b:
            return a
        return symbol_of[a, b] if (a, b) in symbol_of else _symbols([f"n{a}_{b}"])[0]

    return jax.tree.map(joined, one, other)


def _number(size: Any, which: int) -> int:
    """The number that a size with symbols stands for in one of the two sets."""

    def value(symbol: re.Match[str]) -> str:
        if symbol["axis"]:
            return str(_AXIS[which] * int(symbol["axis"]))
        return symbol["other" if which else "one"] or str(_BATCH[which])

    text = _SYMBOL.sub(value, str(size)).replace("^", "**")
    return _calculated(ast.parse(text, mode="eval").body)


def _calculated(term: ast.expr) -> int:
    """The number that JAX's text of a size stands for, once its symbols are numbers."""
    match term:
        case ast.Constant(value=int(number)):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_calculated(operand)
        case ast.BinOp(left=left, op=operation, right=right):
            return _OPERATIONS[type(operation)](_calculated(left), _calculated(right))
        case ast.Call(func=ast.Name(id=name), args=parts):
            return _FUNCTIONS[name](*map(_calculated, parts))
    raise ValueError(f"expected a size, received {ast.unparse(term)}")


def _with_sizes(specs: Any, pairs: dict[Any, tuple[int, int]], which: int) -> Any:
    def known(spec: Any) -> Any:
        shape = tuple(d if is_known(d) else pairs[d][which] for d in spec.shape)
        return jax.ShapeDtypeStruct(shape, spec.dtype)

    return jax.tree.map(known, specs)
