"""Spectrograms of audio signals."""

from .mel import *
from .spectrogram import *

__all__: list[str] = []
__all__ += mel.__all__
__all__ += spectrogram.__all__
