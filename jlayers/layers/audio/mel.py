"""Spectrograms on the mel scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jlayers.core.errors import refused
from jlayers.core.layer import layer, no_params
from jlayers.core.shapes import wide_dtype
from jlayers.initializers.fourier import window_values
from jlayers.layers._arguments import above_zero, choice, need_floating, positive, refused_argument

__all__ = ["MelSpectrogram"]


def _mel(hertz: Any) -> Any:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def mel_matrix(bins: int, frequencies: int, sampling_rate: float, low: float, high: float) -> np.ndarray:
    """`(frequencies, bins)`: triangles of height 1, evenly spaced on the mel scale, as in HTK."""
    places = _mel(np.linspace(0, sampling_rate / 2, frequencies))[:, None]
    edges = np.linspace(_mel(low), _mel(high), bins + 2)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (places - lower) / (center - lower), (upper - places) / (upper - center)
    matrix = np.maximum(0, np.minimum(rise, fall))
    matrix[0] = 0  # the constant part belongs to no tone
    return matrix


@layer
def MelSpectrogram(
    fft_length: int = 2048,
    sequence_stride: int = 512,
    sequence_length: int | None = None,
    window: str | Sequence[float] | None = "hann",
    sampling_rate: int = 16000,
    num_mel_bins: int = 128,
    min_freq: float = 20.0,
    max_freq: float | None = None,
    power_to_db: bool = True,
    top_db: float = 80.0,
    mag_exp: float = 2.0,
    min_power: float = 1e-10,
    ref_power: float = 1.0,
):
    """Mel spectrogram of signals, in decibels. As in Keras.

    The signal is mirrored at both ends, so that frames lie around their middles. The magnitudes of its
    short-time Fourier transform are weighted by triangles that are evenly spaced on the mel scale. Decibels
    more than `top_db` below the greatest of a signal are raised to that; in Keras the greatest of the whole
    batch counts. Half precision computes in float32.

    Shapes: `(batch, steps)` or `(steps,)` to `(..., num_mel_bins, 1 + steps // sequence_stride)`, for an
    even `fft_length`.

    Args:
        fft_length: length of the transform.
        sequence_stride: steps from one frame to the next.
        sequence_length: length of the window, in the middle of the transform; `fft_length` if not given.
        window: "hann" or another name that `jl.initializers.stft` has, the values, or None for none.
        sampling_rate: steps per second.
        num_mel_bins: how many triangles.
        min_freq: where the first triangle begins, in hertz.
        max_freq: where the last one ends; half the sampling rate if not given.
        power_to_db: return decibels; else the weighted magnitudes.
        top_db: range of the decibels.
        mag_exp: power of the magnitudes.
        min_power: the power that counts as silence.
        ref_power: the power that counts as 0 decibels.

    Raises:
        ValueError: sizes below 1, a window longer than the transform, frequencies out of order, or an input
            of another rank or of one step only.

    >>> import jlayers as jl, jax.numpy as jnp
    >>> mel = jl.MelSpectrogram(fft_length=64, sequence_stride=16, num_mel_bins=8)
    >>> mel.apply({}, {}, jnp.sin(jnp.arange(160.0))[None])[0].shape
    (1, 8, 11)
    """
    for name, value in (
        ("fft_length", fft_length), ("sequence_stride", sequence_stride), ("num_mel_bins", num_mel_bins),
    ):  # fmt: skip
        positive(name, value)
    length = fft_length if sequence_length is None else positive("sequence_length", sequence_length)
    if length > fft_length:
        raise refused_argument("sequence_length", length, f"of at most the fft_length of {fft_length}")
    if isinstance(window, str):
        choice("window", window, ("boxcar", "hann", "hamming", "blackman", "nuttall", "blackmanharris"))
    above_zero("min_power", min_power)
    highest = sampling_rate // 2 if max_freq is None else max_freq
    if not 0 <= min_freq < highest:
        raise refused_argument("min_freq", min_freq, f"from 0 to below {highest}, where the triangles end")
    taper = np.ones(length) if window is None else window_values(window, length, periodic=True)
    left = (fft_length - length) // 2
    taper = np.pad(taper, (left, fft_length - length - left))
    matrix = mel_matrix(num_mel_bins, fft_length // 2 + 1, sampling_rate, min_freq, highest)
    reference = 10 * np.log10(max(abs(ref_power), min_power))

    def check(x: Any) -> None:
        need_floating(x)
        if len(x.shape) not in (1, 2):
            raise refused(ValueError, "expected signals (batch, steps) or one (steps,)", x)
        if isinstance(x.shape[-1], int) and x.shape[-1] < 2:
            raise refused(ValueError, "expected a signal of at least 2 steps, which can be mirrored", x)

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return no_params(key, x)

    def apply(params: Any, x: Float[Array, "*batch steps"]) -> Float[Array, "*batch mels frames"]:
        check(x)
        dtype = wide_dtype(x.dtype)
        ends = [(0, 0)] * (x.ndim - 1) + [(fft_length // 2,) * 2]
        signal = jnp.pad(x.astype(dtype), ends, mode="reflect")
        starts = jnp.arange((signal.shape[-1] - fft_length) // sequence_stride + 1) * sequence_stride
        frames = signal[..., starts[:, None] + jnp.arange(fft_length)[None]]
        spectrum = jnp.fft.rfft(frames * jnp.asarray(taper, dtype).reshape((1,) * x.ndim + (-1,)))
        power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
        if mag_exp != 2:
            power = jnp.where(power > 0, jnp.where(power > 0, power, 1) ** (mag_exp / 2), 0)
        mels = jnp.swapaxes(power @ jnp.asarray(matrix, dtype), -1, -2)
        if power_to_db:
            mels = 10 * jnp.log10(jnp.maximum(mels, min_power)) - reference
            mels = jnp.maximum(mels, jnp.max(mels, axis=(-2, -1), keepdims=True) - top_db)
        return mels.astype(x.dtype)

    return init, apply
