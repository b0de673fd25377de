"""Weights by PyTorch's names and shapes, the same for what PyTorch gave and for the networks here.

Nothing but NumPy is imported, for `tests/recorded/make_torch_applications.py` runs where jlayers is not.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "recorded" / "torch_applications.safetensors"
IMAGES = (2, 67, 83, 3)  # no multiples of the strides
TOKENS = np.array([[101, 7592, 2088, 2003, 2307, 2005, 102], [101, 2748, 999, 102, 0, 0, 0]], np.int32)
TYPES = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]], np.int32)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a trained network's size, which depend on the name only."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.array(1)
    if last == "running_var":
        return rng.uniform(0.6, 1.2, shape).astype(np.float32)
    if last == "weight" and len(shape) == 1:  # small, so that rounding does not grow from block to block
        return rng.uniform(0.2, 0.6, shape).astype(np.float32)
    scale = 0.1 if len(shape) < 2 else np.sqrt(2 / np.prod(shape[1:]))
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def images(shape: tuple[int, ...] = IMAGES) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def recorded() -> dict[str, dict[str, Any]]:
    """By network: the shapes of its weights by name in PyTorch's order, its output, and who gave it."""
    from safetensors import safe_open

    found: dict[str, dict[str, Any]] = {}
    with safe_open(FILE, "numpy") as file:
        for name, reference in json.loads(file.metadata()["references"]).items():
            text = zlib.decompress(file.get_tensor(f"{name}/weights").tobytes())
            shapes = {weight: tuple(shape) for weight, shape in json.loads(text)}
            found[name] = {
                "weights": shapes,
                "output": file.get_tensor(f"{name}/output"),
                "reference": reference,
            }
    return found
