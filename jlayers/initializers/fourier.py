"""The kernel of a short-time Fourier transform, and its windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.initializers.base import Initializer, registry

__all__ = ["STFT", "stft"]


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
            raise refused(
                ValueError, f"expected a window of {length} values, as long as the kernel", window=values
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
        raise refused(ValueError, "expected side 'real' or 'imag'", side=side)
    if scaling not in (None, "density", "spectrum"):
        raise refused(ValueError, "expected scaling 'density', 'spectrum' or None", scaling=scaling)
    if isinstance(window, str) and window not in _WINDOWS:
        raise refused(ValueError, f"expected window out of {tuple(_WINDOWS)}", window=window)

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise refused(
                ValueError,
                "expected a kernel (frame, 1, frequencies) of at least 2 frequencies",
                shape=tuple(shape),
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
STFT = stft
