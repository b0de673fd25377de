"""The short-time Fourier transform as a layer of trained kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jlayers import initializers
from jlayers.core.errors import refused
from jlayers.core.layer import layer
from jlayers.core.shapes import param_dtype, wide_dtype
from jlayers.layers._arguments import (
    DataFormat,
    channels_at_edge,
    choice,
    need_floating,
    need_rank,
    positive,
    refused_argument,
    spatial_shape,
)

__all__ = ["STFTSpectrogram"]

Mode = Literal["log", "magnitude", "psd", "real", "imag", "angle", "stft"]
_LEAST = 1e-7  # of a power and of a magnitude, as in Keras


@layer
def STFTSpectrogram(
    mode: Mode = "log",
    frame_length: int = 256,
    frame_step: int | None = None,
    fft_length: int | None = None,
    window: str | Sequence[float] | None = "hann",
    periodic: bool = False,
    scaling: Literal["density", "spectrum"] | None = "density",
    padding: Literal["valid", "same"] = "valid",
    expand_dims: bool = False,
    data_format: DataFormat | None = None,
):
    """Spectrogram of each channel of a signal by a short-time Fourier transform. As in Keras.

    The transform is two kernels that begin as cosines and sines under a window. They are trained like any
    others; `trainable=False` keeps them as they are.

    Shapes: `(batch, steps, channels)` to `(batch, frames, channels * frequencies)`, the frequencies of a
    channel side by side, or with `expand_dims` to `(batch, frames, frequencies, channels)`. There are
    `fft_length // 2 + 1` frequencies, twice as many for "stft". Parameters: `real_kernel` and `imag_kernel`,
    `(frame_length, 1, fft_length // 2 + 1)`, without the one that the mode does not use.

    Args:
        mode: "log" (of the magnitude), "magnitude", "psd" (power spectral density, one-sided), "real",
            "imag", "angle", or "stft" (the real parts, then the imaginary parts).
        frame_length: steps that a frame sees.
        frame_step: steps from one frame to the next; half of the frame if not given.
        fft_length: length of the transform; the power of 2 from `frame_length` on if not given.
        window: name or values; see `jl.initializers.stft`.
        periodic: the window is one period of a periodic one.
        scaling: what the window is divided by; see `jl.initializers.stft`.
        padding: "valid", or "same" for zeros at both ends.
        expand_dims: an axis for the channels, as image layers want it.

    Raises:
        ValueError: a step greater than the frame, a transform shorter than the frame, an unknown word, or an
            input of another rank or shorter than a frame.

    >>> import jax, jlayers as jl, jax.numpy as jnp
    >>> spectrogram = jl.STFTSpectrogram("magnitude", frame_length=8, scaling="spectrum")
    >>> x = jnp.cos(jnp.arange(32.0) * 2 * jnp.pi / 4)[None, :, None]
    >>> params, _ = spectrogram.init(jax.random.key(0), x)
    >>> spectrogram.apply(params, {}, x)[0].shape
    (1, 7, 5)
    """
    choice("mode", mode, ("log", "magnitude", "psd", "real", "imag", "angle", "stft"))
    choice("padding", padding, ("valid", "same"))
    positive("frame_length", frame_length)
    step = max(frame_length // 2, 1) if frame_step is None else positive("frame_step", frame_step)
    if step > frame_length:
        raise refused_argument("frame_step", step, f"of at most the frame_length of {frame_length}")
    length = 1 << (frame_length - 1).bit_length() if fft_length is None else fft_length
    if positive("fft_length", length) < frame_length:
        raise refused_argument("fft_length", length, f"of at least the frame_length of {frame_length}")
    sides = {"real": ("real",), "imag": ("imag",)}.get(mode, ("real", "imag"))
    makers = {side: initializers.stft(side, window, scaling, periodic) for side in sides}  # type: ignore[arg-type]
    last, _ = channels_at_edge(data_format)
    shape = (frame_length, 1, length // 2 + 1)

    def check(x: Any) -> None:
        need_floating(x)
        need_rank(x, 3, spatial_shape(1, data_format))
        steps = last(x).shape[1]
        if padding == "valid" and isinstance(steps, int) and steps < frame_length:
            raise refused(
                ValueError,
                "expected a signal of at least frame_length steps",
                x,
                frame_length=frame_length,
                instead="pad it, or take padding='same'",
            )

    def init(key: Any, x: Any) -> dict[str, Any]:
        check(x)
        return {f"{side}_kernel": makers[side](key, shape, param_dtype(x)) for side in sides}

    def transform(x: jax.Array, kernel: jax.Array) -> jax.Array:
        """`(batch, steps, channels)` to `(batch, frames, channels, frequencies)`."""
        batch, steps, channels = x.shape
        alone = jnp.swapaxes(x, 1, 2).reshape(batch * channels, steps, 1)
        y = jax.lax.conv_general_dilated(
            alone, kernel.astype(x.dtype), (step,), padding.upper(), dimension_numbers=("NWC", "WIO", "NWC")
        )
        return jnp.swapaxes(y.reshape(batch, channels, *y.shape[1:]), 1, 2)

    def spectrum(parts: list[jax.Array]) -> jax.Array:
        if mode in ("real", "imag"):
            return parts[0]
        if mode == "stft":
            return jnp.concatenate(parts, axis=-1)
        real, imag = (part.astype(wide_dtype(part.dtype)) for part in parts)
        if mode == "angle":
            return jnp.arctan2(imag, real)
        power = real**2 + imag**2
        if mode == "psd":
            return power.at[..., 1:-1].multiply(2)
        magnitude = jnp.sqrt(jnp.maximum(power, _LEAST))
        return magnitude if mode == "magnitude" else jnp.log(jnp.maximum(magnitude, _LEAST))

    def apply(params: Any, x: Float[Array, "batch steps channels"]) -> Float[Array, "batch ..."]:
        check(x)
        signal = last(x)
        y = spectrum([transform(signal, params[f"{side}_kernel"]) for side in sides]).astype(x.dtype)
        batch, frames, channels, frequencies = y.shape
        first = data_format == "channels_first"
        if expand_dims:
            return jnp.swapaxes(y, 1, 2) if first else jnp.swapaxes(y, 2, 3)
        y = y.reshape(batch, frames, channels * frequencies)
        return jnp.swapaxes(y, 1, 2) if first else y

    return init, apply
