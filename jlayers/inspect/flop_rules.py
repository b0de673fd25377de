"""Floating-point operations of each of JAX's primitives, read off one equation of a traced program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

__all__ = ["ELEMENTWISE", "FOREIGN", "FREE", "FREE_PREFIXES", "RULES", "floating_size", "fold", "size_of"]


def size_of(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))


def _is_floating(variable: Any) -> bool:
    return hasattr(variable.aval, "dtype") and jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def floating_size(eqn: Any) -> int:
    """Elements of the result if floating-point numbers go in or come out (a comparison gives bools)."""
    floating = any(map(_is_floating, (*eqn.invars, *eqn.outvars)))
    return max(map(size_of, eqn.outvars)) if floating else 0


def _dot_general(eqn: Any) -> int:
    (contracting, _), _ = eqn.params["dimension_numbers"]
    depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracting)
    return 2 * size_of(eqn.outvars[0]) * depth


def _ragged_dot(eqn: Any) -> int:
    (contracting, _), _ = eqn.params["ragged_dot_dimension_numbers"].dot_dimension_numbers
    depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracting)
    return 2 * size_of(eqn.outvars[0]) * depth


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


def fold(eqn: Any) -> int:
    """Binary operations per element of a reduction's result."""
    if "window_dimensions" in eqn.params:
        return math.prod(eqn.params["window_dimensions"]) - 1
    outputs = size_of(eqn.outvars[0])
    return max(0, size_of(eqn.invars[0]) // outputs - 1) if outputs else 0


def _reduction(eqn: Any) -> int:
    return size_of(eqn.outvars[0]) * fold(eqn) if _is_floating(eqn.invars[0]) else 0


def _cumulative(eqn: Any) -> int:
    return size_of(eqn.outvars[0]) if _is_floating(eqn.invars[0]) else 0


def _updates(eqn: Any) -> int:
    """`scatter-add(operand, indices, updates)`: one operation per element written."""
    return size_of(eqn.invars[-1]) if _is_floating(eqn.invars[-1]) else 0


def _select_and_scatter_add(eqn: Any) -> int:
    """The gradient of max pooling: find the greatest in each window, add to it."""
    return size_of(eqn.invars[0]) * math.prod(eqn.params["window_dimensions"])


def _integer_pow(eqn: Any) -> int:
    """By repeated squaring; a negative power divides once."""
    power = abs(eqn.params["y"])
    products = max(0, power.bit_length() - 1) + max(0, power.bit_count() - 1)
    return floating_size(eqn) * (products + (eqn.params["y"] < 0))


def _fft(eqn: Any) -> int:
    """5 n log2 n for a complex transform of n points, half of it for a real one."""
    points = math.prod(eqn.params["fft_lengths"])
    real = not jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.complexfloating) or not jnp.issubdtype(
        eqn.outvars[0].aval.dtype, jnp.complexfloating
    )
    transforms = max(size_of(eqn.invars[0]), size_of(eqn.outvars[0])) // points
    return round(transforms * 5 * points * math.log2(points) / (2 if real else 1)) if points > 1 else 0


def _cubic(eqn: Any, factor: float) -> int:
    *batch, rows, columns = eqn.invars[0].aval.shape
    return round(factor * math.prod(batch) * rows * columns * min(rows, columns))


def _triangular_solve(eqn: Any) -> int:
    """One multiply-add for each element of the triangle and each element of a right-hand side."""
    side = eqn.invars[0].aval.shape[-1]
    return size_of(eqn.outvars[0]) * side


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


RULES: dict[str, Callable[[Any], int]] = {
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
ELEMENTWISE = {**_words(_ELEMENTWISE_NAMES, 1), "clamp": 2, "one_minus_square": 2}
FREE = frozenset(_FREE_NAMES.split())
FREE_PREFIXES = ("random_", "threefry", "philox")
FOREIGN = frozenset({"custom_linear_solve", "pallas_call"})
