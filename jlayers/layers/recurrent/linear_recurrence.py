"""Recurrent layers whose state moves linearly, so that its steps can be computed in parallel."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.registry import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike
from jlayers.core.shapes import param_dtype, shape_text, wide_dtype
from jlayers.core.wiring import child_key
from jlayers.layers._arguments import need_features, need_floating, need_rank, positive
from jlayers.layers.recurrent._recurrence import activation_function
from jlayers.ops.linear_recurrence import linear_recurrence

__all__ = ["LRU", "MinGRU"]

_SEQUENCE = "(batch, time, features)"


@layer
def MinGRU(
    units: int,
    activation: ActivationLike | None = None,
    recurrent_activation: ActivationLike | None = "sigmoid",
    use_bias: bool = True,
    kernel_initializer: InitializerLike = "glorot_uniform",
    bias_initializer: InitializerLike = "zeros",
    kernel_regularizer: RegularizerLike | None = None,
    bias_regularizer: RegularizerLike | None = None,
    kernel_constraint: ConstraintLike | None = None,
    bias_constraint: ConstraintLike | None = None,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
):
    """A GRU whose gates do not see the state (Feng et al., 2024, https://arxiv.org/abs/2410.01201).

    The state follows `h_t = (1 - z_t) * h_(t-1) + z_t * candidate_t`, where gate and candidate depend only on
    the input: `z = recurrent_activation(x @ kernel_z + bias_z)`, `candidate = activation(x @ kernel_h +
    bias_h)`. So all steps can be computed in parallel, in `O(log(time))` depth, and are on accelerators, in
    float32 or wider. The paper goes by logarithms, which its cumulative sums need; joining steps in pairs
    divides by nothing and is stable without, for candidates of either sign.

    Takes sequences `(batch, time, features)`, float, and optionally the initial state `h`,
    `(batch, units)`. Gives the last output `(batch, units)`, or all of them `(batch, time, units)`; with
    `return_state` the tuple `(output, h)`. Parameters: `kernel` `(features, 2 * units)` and `bias`
    `(2 * units,)`, with gate z and candidate h side by side.

    Args:
        units: width of the output.
        activation: activation of the candidate; None for none, as in the paper.
        recurrent_activation: activation of the gate, with values from 0 to 1.

    Raises:
        ValueError: an input that is not a sequence of at least one step, `units` below 1, an initial state
            that does not fit.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> rnn = jl.MinGRU(16, return_sequences=True)
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = rnn.init(jax.random.key(0), x)
    >>> rnn.apply(params, state, x)[0].shape
    (2, 5, 16)
    """
    positive("units", units)
    activate, gate = activation_function(activation), activation_function(recurrent_activation)
    make_kernel, make_bias = initializers.get(kernel_initializer), initializers.get(bias_initializer)

    def init(key: Any, x: Any, *initial: Any) -> dict[str, Any]:
        _check(x, initial, units)
        kernel_key, bias_key = jax.random.split(key)
        params = {"kernel": make_kernel(kernel_key, (x.shape[-1], 2 * units), param_dtype(x))}
        if use_bias:
            params["bias"] = make_bias(bias_key, (2 * units,), param_dtype(x))
        return params

    def apply(
        params: Any, x: Float[Array, "batch time features"], *initial: Float[Array, "batch units"]
    ) -> Any:
        _check(x, initial, units)
        need_features(x, 2, params["kernel"].shape[0], "features")
        z = x @ params["kernel"].astype(x.dtype)
        if use_bias:
            z = z + params["bias"].astype(x.dtype)[None, None, :]
        decay, candidate = jnp.split(_in_order(z, go_backwards).astype(wide_dtype(x.dtype)), 2, axis=2)
        decay = gate(decay)
        start = initial[0].astype(decay.dtype) if initial else None
        h = linear_recurrence(1 - decay, decay * activate(candidate), start).astype(x.dtype)
        output = h if return_sequences else h[:, -1]
        return (output, h[:, -1]) if return_state else output

    return init, apply


@layer
def LRU(
    units: int,
    state_units: int | None = None,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
):
    """A linear recurrent unit, of complex diagonal state (Orvieto et al., 2023, https://arxiv.org/abs/2303.06349).

    The state follows `h_t = l * h_(t-1) + gamma * (B @ x_t)` with the stable `l = exp(-exp(nu_log) +
    i * exp(theta_log))`, and the output is `Re(C @ h_t) + D @ x_t`. All steps can be computed in
    parallel, in `O(log(time))` depth, and are on accelerators, in float32 or wider. What is not linear stands
    around it, such as an `activation="gelu"` of a `Dense`.

    Takes sequences `(batch, time, features)`, float, and optionally the initial state, `(batch, 2 *
    state_units)`: real parts, then imaginary ones. Gives the last output `(batch, units)`, or all of them
    `(batch, time, units)`; with `return_state` the tuple `(output, state)`.

    Parameters: `nu_log`, `theta_log`, `gamma_log`, `(state_units,)`; `input_kernel` `(features, 2 *
    state_units)`, real and imaginary part of B side by side; `output_kernel` `(2 * state_units, units)`, the
    real part of C above the imaginary one with its sign turned; `feedthrough_kernel` D `(features, units)`.

    Args:
        units: width of the output.
        state_units: complex numbers in the state; `units` if not given.
        r_min: least absolute value of `l` at the start; the nearer to 1, the longer the memory.
        r_max: greatest absolute value of `l` at the start.
        max_phase: greatest angle of `l` at the start; small ones for long sequences.

    Raises:
        ValueError: an input that is not a sequence of at least one step, sizes below 1, radii that are not
            `0 <= r_min < r_max <= 1`, an initial state that does not fit.
        TypeError: complex numbers as input.

    >>> import jax, jlayers as jl
    >>> block = jl.Residual(jl.Sequential(jl.LRU(8, r_min=0.9, return_sequences=True), jl.Dense(8, "gelu")))
    >>> x = jax.numpy.ones((2, 5, 8))
    >>> params, state = block.init(jax.random.key(0), x)
    >>> block.apply(params, state, x)[0].shape
    (2, 5, 8)
    """
    positive("units", units)
    size = positive("state_units", units if state_units is None else state_units)
    if not 0 <= r_min < r_max <= 1:
        raise refused(ValueError, "expected 0 <= r_min < r_max <= 1", r_min=r_min, r_max=r_max)
    if not max_phase > 0:
        raise refused(ValueError, "expected max_phase > 0", max_phase=max_phase)

    def init(key: Any, x: Any, *initial: Any) -> dict[str, Any]:
        _check(x, initial, 2 * size)
        features, dtype = x.shape[-1], param_dtype(x)

        def normal(name: str, shape: tuple[int, int], variance: float) -> Any:
            values = initializers.random_normal(stddev=math.sqrt(variance))
            return values(child_key(key, name), shape, dtype)

        def eigenvalues(name: str) -> Any:
            # Above 0, whose logarithm has no gradient.
            uniform = initializers.random_uniform(1e-6, 1.0)
            return uniform(child_key(key, name), (size,), wide_dtype(dtype))

        nu = -0.5 * jnp.log(eigenvalues("nu_log") * (r_max**2 - r_min**2) + r_min**2)
        theta = max_phase * eigenvalues("theta_log")
        gamma_log = 0.5 * jnp.log(-jnp.expm1(-2 * nu))  # of sqrt(1 - |l|^2), so that inputs keep their size
        return {
            "nu_log": jnp.log(nu).astype(dtype),
            "theta_log": jnp.log(theta).astype(dtype),
            "gamma_log": gamma_log.astype(dtype),
            "input_kernel": normal("input_kernel", (features, 2 * size), 1 / (2 * features)),
            "output_kernel": normal("output_kernel", (2 * size, units), 1 / size),
            "feedthrough_kernel": normal("feedthrough_kernel", (features, units), 1 / features),
        }

    def apply(
        params: Any, x: Float[Array, "batch time features"], *initial: Float[Array, "batch parts"]
    ) -> Any:
        _check(x, initial, 2 * size)
        need_features(x, 2, params["input_kernel"].shape[0], "features")
        dtype = wide_dtype(x.dtype)
        wide = {name: value.astype(dtype) for name, value in params.items()}
        x_wide = _in_order(x, go_backwards).astype(dtype)
        radius, phase = jnp.exp(-jnp.exp(wide["nu_log"])), jnp.exp(wide["theta_log"])
        factor = jax.lax.complex(radius * jnp.cos(phase), radius * jnp.sin(phase))[None, None, :]
        gamma = jnp.tile(jnp.exp(wide["gamma_log"]), 2)[None, None, :]
        added = _complex(x_wide @ wide["input_kernel"] * gamma)
        start = _complex(initial[0].astype(dtype)) if initial else None
        h = linear_recurrence(jnp.broadcast_to(factor, (1, *added.shape[1:])), added, start)
        if not return_sequences:
            h, x_wide = h[:, -1:], x_wide[:, -1:]
        parts = jnp.concatenate([h.real, h.imag], axis=2)
        y = (parts @ wide["output_kernel"] + x_wide @ wide["feedthrough_kernel"]).astype(x.dtype)
        output = y if return_sequences else y[:, -1]
        return (output, parts[:, -1].astype(x.dtype)) if return_state else output

    return init, apply


def _check(x: Any, initial: tuple[Any, ...], width: int) -> None:
    need_floating(x)
    need_rank(x, 3, _SEQUENCE)
    if isinstance(x.shape[1], int) and x.shape[1] < 1:
        raise refused(ValueError, f"expected at least one time step {_SEQUENCE}", x)
    expected = (x.shape[0], width)
    if len(initial) > 1 or any(tuple(h.shape) != expected for h in initial):
        raise refused(ValueError, f"expected one initial state of shape {shape_text(expected)}", initial)


def _in_order(x: Array, backwards: bool) -> Array:
    return jnp.flip(x, axis=1) if backwards else x


def _complex(parts: Array) -> Array:
    return jax.lax.complex(*jnp.split(parts, 2, axis=-1))
