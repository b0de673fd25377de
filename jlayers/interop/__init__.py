"""Weights of other libraries: files read as flat dicts of NumPy arrays. Nothing that is read can run code."""

from jlayers.interop.keras import read_keras
from jlayers.interop.npz import read_npz
from jlayers.interop.reading import read
from jlayers.interop.safetensors import read_safetensors
from jlayers.interop.torch import read_torch

__all__ = ["read", "read_keras", "read_npz", "read_safetensors", "read_torch"]
