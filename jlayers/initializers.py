"""First values of parameters: functions `f(key, shape, dtype) -> array` by Keras's names and defaults.

Keys are given at the call, so there is no `seed`. Draws are made in float32 or wider and then rounded, so
that half precision keeps the distribution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.core.registry import Registry
from jlayers.core.shapes import wide_dtype

__all__ = [
    "STFT",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "register",
    "stft",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

Initializer = Callable[..., jax.Array]

registry = Registry("initializer")
get = registry.get
# `@jl.initializers.register` enters a factory of one's own: options in, `f(key, shape, dtype)` out.
register = registry.factory()

_SIZES = (2**14, 2**16, 2**18, 2**20, 2**22)
_TRUNCATED_STD = 0.87962566103423978  # standard deviation of a unit normal cut at -2 and 2


Draw = Callable[[Any, tuple[int, ...], Any], jax.Array]


def _draw(sample: Draw, key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """`sample(key, shape, dtype)`, by way of few sizes.

    JAX compiles a generator anew for each size, up to a second on a CPU: the many small kernels of a model
    share five sizes. JAX's generator numbers its draws, so that the values stay those of the direct call.
    """
    size = math.prod(shape)
    if not isinstance(size, int) or size > _SIZES[-1]:
        return sample(key, shape, dtype)
    common = next(s for s in _SIZES if s >= size)
    return jax.lax.slice(sample(key, (common,), dtype), (0,), (size,)).reshape(shape)


def _rounded(draw: Draw) -> Initializer:
    """An initializer that draws in at least float32 and then takes the wanted dtype."""

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return draw(key, tuple(shape), wide_dtype(dtype)).astype(dtype)

    return init


def _uniform(low: float, high: float) -> Draw:
    return functools.partial(
        _draw, lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, low, high)
    )


def _truncated(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, shape, dtype)


@registry.factory("zero")
def zeros() -> Initializer:
    """All 0.

    >>> import jax, jlayers as jl
    >>> jl.initializers.zeros()(jax.random.key(0), (2,), "float32").tolist()
    [0.0, 0.0]
    """
    return lambda key, shape, dtype=jnp.float32: jnp.zeros(shape, dtype)


@registry.factory("one")
def ones() -> Initializer:
    """All 1.

    >>> import jax, jlayers as jl
    >>> jl.initializers.ones()(jax.random.key(0), (2,), "float32").tolist()
    [1.0, 1.0]
    """
    return lambda key, shape, dtype=jnp.float32: jnp.ones(shape, dtype)


@registry.factory()
def constant(value: float = 0.0) -> Initializer:
    """All `value`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.constant(0.5)(jax.random.key(0), (2,), "float32").tolist()
    [0.5, 0.5]
    """
    return lambda key, shape, dtype=jnp.float32: jnp.full(shape, value, dtype)


@registry.factory("eye", "IdentityInitializer")
def identity(gain: float = 1.0) -> Initializer:
    """`gain` on the diagonal of a matrix, 0 elsewhere.

    Raises:
        ValueError: on use, a shape that is no matrix.

    >>> import jax, jlayers as jl
    >>> jl.initializers.identity()(jax.random.key(0), (2, 3), "float32").tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 2:
            raise ValueError(f"identity: expected 2 dimensions, received shape={tuple(shape)}")
        return gain * jnp.eye(*shape, dtype=dtype)

    return init


@registry.factory("normal")
def random_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Normal with this mean and standard deviation.

    >>> import jax, jlayers as jl
    >>> jl.initializers.random_normal()(jax.random.key(0), (3, 2), "float32").shape
    (3, 2)
    """
    _not_negative("stddev", stddev)
    return _rounded(lambda key, shape, dtype: mean + stddev * _draw(jax.random.normal, key, shape, dtype))


@registry.factory("uniform")
def random_uniform(minval: float = -0.05, maxval: float = 0.05) -> Initializer:
    """Uniform over [minval, maxval).

    Raises:
        ValueError: `minval` above `maxval`.

    >>> import jax, jlayers as jl
    >>> w = jl.initializers.random_uniform(-1.0, 1.0)(jax.random.key(0), (1000,), "float32")
    >>> bool(w.min() < -0.9), bool(w.max() > 0.9)
    (True, True)
    """
    if minval > maxval:
        raise refused(
            ValueError, "expected minval <= maxval", raised_by="random_uniform", minval=minval, maxval=maxval
        )
    return _rounded(_uniform(minval, maxval))


@registry.factory()
def truncated_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Normal, drawn again beyond two standard deviations; `stddev` is that before the cut (0.88 of it stays).

    >>> import jax, jlayers as jl
    >>> w = jl.initializers.truncated_normal(stddev=1.0)(jax.random.key(0), (1000,), "float32")
    >>> bool(abs(w).max() < 2)
    True
    """
    _not_negative("stddev", stddev)
    return _rounded(lambda key, shape, dtype: mean + stddev * _draw(_truncated, key, shape, dtype))


def _not_negative(name: str, value: float) -> None:
    if value < 0:
        received: dict[str, Any] = {name: value}
        raise refused(ValueError, f"expected {name} >= 0", **received)


def _fans(shape: tuple[int, ...], input_axes: Any, output_axes: Any) -> tuple[int, int]:
    """Inputs and outputs of one unit: of a matrix (in, out), of a kernel (*window, in, out)."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@registry.factory()
def variance_scaling(
    scale: float = 1.0,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    distribution: Literal["truncated_normal", "untruncated_normal", "uniform", "normal"] = "truncated_normal",
    input_axes: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
) -> Initializer:
    """Mean 0 and variance `scale / fan`, where the fan counts what a unit is joined to. As in Keras.

    Args:
        scale: factor of the variance.
        mode: inputs, outputs or their mean: `window * in` and `window * out` of a kernel (*window, in, out).
        distribution: "normal" means the truncated one.
        input_axes: of other layouts, the axes whose sizes multiply to the inputs.
        output_axes: the axes whose sizes multiply to the outputs.

    Raises:
        ValueError: a scale of 0 or less, another mode or distribution.

    >>> import jax, jlayers as jl
    >>> init = jl.initializers.variance_scaling(2.0, distribution="uniform")
    >>> float(abs(init(jax.random.key(0), (6, 1000), "float32")).max()) <= 1.0
    True
    """
    if scale <= 0:
        raise refused(ValueError, "expected scale > 0", raised_by="variance_scaling", scale=scale)
    modes, kinds = ("fan_in", "fan_out", "fan_avg"), ("truncated_normal", "untruncated_normal", "uniform")
    if mode not in modes:
        raise refused(ValueError, f"expected mode out of {modes}", raised_by="variance_scaling", mode=mode)
    if distribution not in (*kinds, "normal"):
        raise refused(
            ValueError,
            f"expected distribution out of {kinds}",
            raised_by="variance_scaling",
            distribution=distribution,
        )

    def draw(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        fan_in, fan_out = _fans(shape, input_axes, output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        std = math.sqrt(scale / max(1.0, fan))
        if distribution == "uniform":
            limit = math.sqrt(3.0) * std
            return _uniform(-limit, limit)(key, shape, dtype)
        if distribution == "untruncated_normal":
            return std * _draw(jax.random.normal, key, shape, dtype)
        return std / _TRUNCATED_STD * _draw(_truncated, key, shape, dtype)

    return _rounded(draw)


@registry.factory()
def glorot_normal(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Truncated normal of variance 2 / (inputs + outputs) (Glorot, Bengio, 2010); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.glorot_normal()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_avg", "truncated_normal", input_axes, output_axes)


@registry.factory()
def glorot_uniform(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Uniform of variance 2 / (inputs + outputs) (Glorot, Bengio, 2010); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.glorot_uniform()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_avg", "uniform", input_axes, output_axes)


@registry.factory()
def he_normal(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Truncated normal of variance 2 / inputs (He et al., 2015); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.he_normal()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", input_axes, output_axes)


@registry.factory()
def he_uniform(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Uniform of variance 2 / inputs (He et al., 2015); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.he_uniform()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(2.0, "fan_in", "uniform", input_axes, output_axes)


@registry.factory()
def lecun_normal(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Truncated normal of variance 1 / inputs (LeCun et al., 1998); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.lecun_normal()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", input_axes, output_axes)


@registry.factory()
def lecun_uniform(
    input_axes: tuple[int, ...] | None = None, output_axes: tuple[int, ...] | None = None
) -> Initializer:
    """Uniform of variance 1 / inputs (LeCun et al., 1998); axes: `variance_scaling`.

    >>> import jax, jlayers as jl
    >>> jl.initializers.lecun_uniform()(jax.random.key(0), (3, 3, 8, 16), "float32").shape
    (3, 3, 8, 16)
    """
    return variance_scaling(1.0, "fan_in", "uniform", input_axes, output_axes)


@registry.factory("OrthogonalInitializer")
def orthogonal(gain: float = 1.0) -> Initializer:
    """A random matrix with orthonormal columns (rows, if there are fewer of them), times `gain`.

    More than two dimensions are flattened to a matrix of shape (all but the last, last) (Saxe et al., 2014).

    Raises:
        ValueError: on use, fewer than two dimensions.

    >>> import jax, jax.numpy as jnp, jlayers as jl
    >>> w = jl.initializers.orthogonal()(jax.random.key(0), (4, 3), "float32")
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(3), atol=1e-5))
    True
    """

    def draw(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal: expected at least 2 dimensions, received shape={shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        sides = (max(rows, columns), min(rows, columns))
        q, r = jnp.linalg.qr(_draw(jax.random.normal, key, sides, dtype))
        signs = jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)  # makes the distribution uniform (Haar)
        q = q * signs[None, :]
        return gain * (q.T if rows < columns else q).reshape(shape)

    return _rounded(draw)


# Of windows that are sums of cosines: the factors of cos(0), -cos(t), cos(2t), ...
_WINDOWS = {
    "boxcar": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "nuttall": (0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
}


def window_values(window: str | Sequence[float], length: int, periodic: bool) -> np.ndarray:
    if not isinstance(window, str):
        values = np.asarray(window, np.float64)
        if values.shape != (length,):
            raise ValueError(
                f"stft: expected a window of {length} values, as long as the kernel, received {values.shape}"
            )
        return values
    if length == 1:
        return np.ones(1)
    angles = 2 * np.pi * np.arange(length) / (length if periodic else length - 1)
    return np.sum([a * np.cos(k * (angles - np.pi)) for k, a in enumerate(_WINDOWS[window])], axis=0)


@registry.factory("STFTInitializer")
def stft(
    side: Literal["real", "imag"] = "real",
    window: str | Sequence[float] | None = "hann",
    scaling: Literal["density", "spectrum"] | None = "density",
    periodic: bool = False,
) -> Initializer:
    """The kernel with which a `Conv1D` computes one side of a short-time Fourier transform. As in Keras.

    Shape: `(frame, 1, frequencies)`, with `length // 2 + 1` frequencies, the first half.

    Args:
        side: "real" or "imag", of the complex result.
        window: "hann", "hamming", "blackman", "nuttall", "blackmanharris", "boxcar", or its values; None for
            none. Keras takes all windows of SciPy.
        scaling: divide by the root of the sum of the window's squares ("density"), or by its sum
            ("spectrum").
        periodic: the window is one period of a periodic one, and does not end as it began.

    Raises:
        ValueError: another side, scaling or window; on use, another shape.

    >>> import jax, jlayers as jl
    >>> kernel = jl.initializers.stft(window=None)(jax.random.key(0), (4, 1, 3), "float32")
    >>> [[round(v) for v in row] for row in kernel[:, 0].tolist()]
    [[1, 1, 1], [1, 0, -1], [1, -1, 1], [1, 0, -1]]
    """
    if side not in ("real", "imag"):
        raise refused(ValueError, "expected side 'real' or 'imag'", raised_by="stft", side=side)
    if scaling not in (None, "density", "spectrum"):
        raise refused(
            ValueError, "expected scaling 'density', 'spectrum' or None", raised_by="stft", scaling=scaling
        )
    if isinstance(window, str) and window not in _WINDOWS:
        raise refused(
            ValueError, f"expected window out of {tuple(_WINDOWS)}", raised_by="stft", window=window
        )

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise ValueError(
                f"stft: expected a kernel (frame, 1, frequencies) of at least 2 frequencies, received "
                f"shape={tuple(shape)}"
            )
        frame, _, frequencies = shape
        angles = np.pi * np.outer(np.arange(frame), np.arange(frequencies)) / (frequencies - 1)
        kernel = np.cos(angles) if side == "real" else -np.sin(angles)
        if window is not None:
            values = window_values(window, frame, periodic)
            scale = {"density": np.sqrt(np.sum(values**2)), "spectrum": np.sum(np.abs(values)), None: 1.0}
            kernel = kernel * values[:, None] / scale[scaling]
        return jnp.asarray(kernel[:, None], dtype)

    return init


# The names of Keras's classes.
Constant = constant
GlorotNormal = glorot_normal
GlorotUniform = glorot_uniform
HeNormal = he_normal
HeUniform = he_uniform
Identity = identity
LecunNormal = lecun_normal
LecunUniform = lecun_uniform
Ones = ones
Orthogonal = orthogonal
RandomNormal = random_normal
RandomUniform = random_uniform
STFT = stft
TruncatedNormal = truncated_normal
VarianceScaling = variance_scaling
Zeros = zeros
