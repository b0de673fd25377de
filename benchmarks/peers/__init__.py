"""One file per library: each builds every workload as that library's own documentation advises.

A file has one function for others, `program(workload) -> Program`, and imports its library when it is
imported, so that a process pays for one library alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.workloads import Workload

OURS, HAND, TORCH = "jlayers", "hand", "torch"

# The module of `benchmarks.peers`, and what the library is called.
LIBRARIES = {
    OURS: "jlayers",
    HAND: "hand-written JAX",
    "linen": "Flax Linen",
    "nnx": "Flax NNX",
    "haiku": "Haiku",
    "equinox": "Equinox",
    "keras": "Keras (JAX)",
    TORCH: "PyTorch",
}
JAX_PEERS = tuple(name for name in LIBRARIES if name not in (OURS, TORCH))
PACKAGES = {OURS: None, HAND: None, "linen": "flax", "nnx": "flax", "haiku": "dm-haiku"}


def package(library: str) -> str | None:
    """What must be installed; None for nothing beyond jlayers."""
    return PACKAGES.get(library, library)


class Program(NamedTuple):
    """A model ready to be trained and run on its workload's one batch.

    Attributes:
        train: `train(steps)` takes so many steps, waits for them, and returns the last loss.
        predict: `predict(calls)` runs the model so often in inference mode, waits, and returns the logits.
        parameters: how many numbers are trained.
        memory: bytes that a compiled step needs, as its compiler says; None where it does not.
    """

    train: Callable[[int], float]
    predict: Callable[[int], Any]
    parameters: int
    memory: Callable[[], int | None]


def load(library: str) -> Callable[[Workload], Program]:
    """Import the library, and nothing of the others."""
    return importlib.import_module(f"benchmarks.peers.{library}").program
