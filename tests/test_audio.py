"""Spectrograms against Keras with equal kernels, and against NumPy's Fourier transform."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_parity import data, parity
from keras_values import keras_values

import jlayers as jl

SIGNAL = data((2, 24, 2))


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "log"},
        {"mode": "magnitude", "frame_step": 3, "padding": "same"},
        {"mode": "psd", "expand_dims": True},
        {"mode": "real", "frame_length": 5, "frame_step": 1},
        {"mode": "imag", "fft_length": 16},
        {"mode": "angle"},
        {"mode": "stft", "data_format": "channels_first"},
        {"mode": "stft", "data_format": "channels_first", "expand_dims": True},
    ],
)
def test_spectrograms_with_equal_kernels(arguments):
    x = np.swapaxes(SIGNAL, 1, 2).copy() if "data_format" in arguments else SIGNAL
    parity("STFTSpectrogram", x, tol=1e-4, **{"frame_length": 8, **arguments})


@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
def test_fresh_kernels_are_the_fourier_transform(scaling):
    layer = jl.STFTSpectrogram("magnitude", 8, 2, window="hamming", scaling=scaling, expand_dims=True)
    params, _ = layer.init(jax.random.key(0), SIGNAL)
    found, _ = layer.apply(params, {}, SIGNAL)
    window = np.hamming(8)
    divisor = {"density": np.sqrt((window**2).sum()), "spectrum": window.sum(), None: 1.0}[scaling]
    frames = np.stack([SIGNAL[:, at : at + 8] for at in range(0, 17, 2)], 1) * window[:, None] / divisor
    expected = np.abs(np.fft.rfft(frames, axis=2))
    np.testing.assert_allclose(found, np.maximum(expected, 1e-3), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"power_to_db": False, "mag_exp": 1.0, "sequence_length": 20},
        {"top_db": 20.0, "ref_power": 3.0, "window": "hamming", "min_freq": 100.0, "max_freq": 3000.0},
        {"window": None, "sampling_rate": 8000},
    ],
)
@pytest.mark.parametrize("shape", [(1, 100), (77,)])
def test_mel_spectrograms_are_those_of_keras(arguments, shape):
    x = data(shape)
    given = {"fft_length": 32, "sequence_stride": 10, "num_mel_bins": 6, **arguments}
    expected = keras_values(lambda: keras.layers.MelSpectrogram(**given)(x))
    found, _ = jl.MelSpectrogram(**given).apply({}, {}, x)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_tone_is_loudest_in_its_own_band_and_signals_do_not_meet():
    layer = jl.MelSpectrogram(256, 64, num_mel_bins=20, top_db=30.0)
    time = np.arange(2000) / 16000
    tones = np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (440, 4000)]).astype("float32")
    found, _ = layer.apply({}, {}, tones * np.array([[1.0], [1e-3]], "float32"))
    bands = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 22)[1:-1]
    for row, hertz in zip(found, (440, 4000), strict=True):
        at = 1127 * np.log1p(hertz / 700)
        assert abs(bands[int(np.argmax(row.mean(1)))] - at) < bands[1] - bands[0]
    np.testing.assert_allclose(found[1:], layer.apply({}, {}, tones[1:] * np.float32(1e-3))[0], rtol=1e-4)


def test_silence_has_a_value_and_a_gradient():
    layer = jl.MelSpectrogram(16, 8, num_mel_bins=3, mag_exp=1.0)
    found, gradient = jax.value_and_grad(lambda x: layer.apply({}, {}, x)[0].sum())(jnp.zeros((1, 40)))
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: jl.STFTSpectrogram(frame_length=8, frame_step=9), "frame_step=9"),
        (lambda: jl.STFTSpectrogram(frame_length=8, fft_length=4), "fft_length=4"),
        (lambda: jl.STFTSpectrogram("power"), "mode='power'"),
        (
            lambda: jl.STFTSpectrogram().init(jax.random.key(0), (1, 100, 1)),
            "at least frame_length steps, received frame_length=256",
        ),
        (lambda: jl.MelSpectrogram(8, sequence_length=9), "sequence_length=9"),
        (lambda: jl.MelSpectrogram(min_freq=9000.0), "min_freq=9000"),
        (lambda: jl.MelSpectrogram(8).apply({}, {}, jnp.ones((2, 1))), "at least 2 steps"),
    ],
)
def test_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
