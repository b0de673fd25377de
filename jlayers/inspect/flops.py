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
    arithmetic on whole numbers, save in matrix products and convolutions. A convolution's multiplications
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
        if name in _FREE or name.startswith(_FREE_PREFIXES):
            return 0
        if name in _ELEMENTWISE:
            return _floating_size(eqn) * _ELEMENTWISE[name]
        if rule := _RULES.get(name):
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
            return _size(eqn.outvars[0]) * _fold(eqn) * self.jaxpr(params["jaxpr"])
        inner = list(_jaxprs(params))
        if len(inner) > 1 or not inner or name in _FOREIGN:
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


def _size(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))


def _is_floating(variable: Any) -> bool:
    return hasattr(variable.aval, "dtype") and jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def _floating_size(eqn: Any) -> int:
    """Elements of the result if floating-point numbers go in or come out (a comparison gives bools)."""
    floating = any(map(_is_floating, (*eqn.invars, *eqn.outvars)))
    return max(map(_size, eqn.outvars)) if floating else 0


# -------------------------------------------------------------------------------------- rules by name


def _dot_general(eqn: Any) -> int:
    (contracting, _), _ = eqn.params["dimension_numbers"]
    depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracting)
    return 2 * _size(eqn.outvars[0]) * depth


def _ragged_dot(eqn: Any) -> int:
    (contracting, _), _ = eqn.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
    depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracting)
    return 2 * _size(eqn.outvars[0]) * depth


def _taps(size: int, kernel: int, out: int, stride: int, before: int, spread: int, dilation: int) -> int:
    """Pairs of an output position and a kernel element that meet a real input element, on one axis."""
    pairs = 0
    for k in range(kernel):
        start = k * dilation - before  # position in the dilated input at output 0
        if spread == 1:
            first = max(0, -(start // stride))
            last = min(out - 1, (size - 1 - start) // stride)
            pairs += max(0, last - first + 1)
        else:
            reach = ((o * stride + start) for o in range(out))
            pairs += sum(p % spread == 0 and 0 <= p // spread < size for p in reach)
    return pairs


def _convolution(eqn: Any) -> int:
    params = eqn.params
    numbers = params["dimension_numbers"]
    lhs, rhs = (v.aval.shape for v in eqn.invars)
    out = eqn.outvars[0].aval.shape
    spatial = zip(
        numbers.lhs_spec[2:],
        numbers.rhs_spec[2:],
        numbers.out_spec[2:],
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    pairs = math.prod(
        _taps(lhs[i], rhs[k], out[o], stride, before, spread, dilation)
        for i, k, o, stride, (before, _), spread, dilation in spatial
    )
    batch, features = out[numbers.out_spec[0]], out[numbers.out_spec[1]]
    depth = rhs[numbers.rhs_spec[1]]  # input channels per group
    return 2 * batch * features * depth * pairs


def _fold(eqn: Any) -> int:
    """Binary operations per element of a reduction's result."""
    if "window_dimensions" in eqn.params:
        return math.prod(eqn.params["window_dimensions"]) - 1
    outputs = _size(eqn.outvars[0])
    return max(0, _size(eqn.invars[0]) // outputs - 1) if outputs else 0


def _reduction(eqn: Any) -> int:
    return _size(eqn.outvars[0]) * _fold(eqn) if _is_floating(eqn.invars[0]) else 0


def _cumulative(eqn: Any) -> int:
    return _size(eqn.outvars[0]) if _is_floating(eqn.invars[0]) else 0


def _updates(eqn: Any) -> int:
    """`scatter-add(operand, indices, updates)`: one operation per element written."""
    return _size(eqn.invars[-1]) if _is_floating(eqn.invars[-1]) else 0


def _select_and_scatter_add(eqn: Any) -> int:
    """The gradient of max pooling: find the greatest in each window, add to it."""
    return _size(eqn.invars[0]) * math.prod(eqn.params["window_dimensions"])


def _integer_pow(eqn: Any) -> int:
    """By repeated squaring; a negative power divides once."""
    power = abs(eqn.params["y"])
    products = max(0, power.bit_length() - 1) + max(0, power.bit_count() - 1)
    return _floating_size(eqn) * (products + (eqn.params["y"] < 0))


def _fft(eqn: Any) -> int:
    """5 n log2 n for a complex transform of n points, half of it for a real one."""
    points = math.prod(eqn.params["fft_lengths"])
    real = not jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.complexfloating) or not jnp.issubdtype(
        eqn.outvars[0].aval.dtype, jnp.complexfloating
    )
    transforms = max(_size(eqn.invars[0]), _size(eqn.outvars[0])) // points
    return round(transforms * 5 * points * math.log2(points) / (2 if real else 1)) if points > 1 else 0


def _cubic(eqn: Any, factor: float) -> int:
    *batch, rows, columns = eqn.invars[0].aval.shape
    return round(factor * math.prod(batch) * rows * columns * min(rows, columns))


def _triangular_solve(eqn: Any) -> int:
    """One multiply-add for each element of the triangle and each element of a right-hand side."""
    side = eqn.invars[0].aval.shape[-1]
    return _size(eqn.outvars[0]) * side


_ELEMENTWISE_NAMES = """
abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil cos cosh digamma div
eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac is_finite le lgamma log log1p
logistic lt max min mul ne neg nextafter polygamma pow regularized_incomplete_beta rem round rsqrt sign sin
sinh sqrt square sub tan tanh zeta
"""

_FREE_NAMES = """
after_all all_gather all_gather_invariant all_to_all and axis_index bitcast_convert_type broadcast
broadcast_in_dim clz complex concatenate conj convert_element_type copy create_token debug_callback
debug_print device_put dim_as_value dimension_size dynamic_slice dynamic_update_slice empty eq_to from_edtype
gather get imag iota iota_2x32_shape layout_constraint le_to lt_to lu_pivots_to_permutation mulhi not
optimization_barrier or pad pbroadcast platform_index pmax pmin population_count ppermute preduced psum
psum_invariant pvary real reduce_and reduce_or reduce_precision reduce_xor reduced_vary_cast_p reshape
reshard rev rng_bit_generator rng_uniform scatter select_n sharding_constraint shift_left
shift_right_arithmetic shift_right_logical slice sort split squeeze stack stop_gradient swap tile to_edtype
top_k transpose unstack xor zeros_like
"""

_REDUCTION_NAMES = """
argmax argmin reduce_max reduce_min reduce_prod reduce_sum reduce_window_max reduce_window_min
reduce_window_sum
"""


def _words(text: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(text.split(), value)


_RULES: dict[str, Callable[[Any], int]] = {
    "dot_general": _dot_general,
    "ragged_dot_general": _ragged_dot,
    "conv_general_dilated": _convolution,
    "integer_pow": _integer_pow,
    "select_and_scatter_add": _select_and_scatter_add,
    "fft": _fft,
    "cholesky": lambda eqn: _cubic(eqn, 1 / 3),
    "lu": lambda eqn: _cubic(eqn, 2 / 3),
    "triangular_solve": _triangular_solve,
    **_words(_REDUCTION_NAMES, _reduction),
    **_words("cumsum cumprod cummax cummin cumlogsumexp", _cumulative),
    **_words("scatter-add scatter-sub scatter-mul scatter-min scatter-max", _updates),
}
_ELEMENTWISE = {**_words(_ELEMENTWISE_NAMES, 1), "clamp": 2, "one_minus_square": 2}
_FREE = frozenset(_FREE_NAMES.split())
_FREE_PREFIXES = ("random_", "threefry", "philox")
_FOREIGN = frozenset({"custom_linear_solve", "pallas_call"})
