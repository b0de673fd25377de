"""A pipeline of Grain in a training that is cut off in the middle of an epoch and continues from there.

Grain shuffles anew in each epoch, makes records in threads, and tells where it stands. Checkpoints keep that:
the run that was cut off ends with the same bits as one that was left alone.

    python examples/grain_resumed.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import grain
import jax
import numpy as np

import jlayers as jl
from jlayers.data import digits


def pipeline(pairs: Sequence[np.ndarray], seed: int) -> grain.MapDataset:
    """Batches of digits, each moved by up to a pixel."""
    records = list(zip(*pairs, strict=True))

    def moved(record: tuple, rng: np.random.Generator) -> tuple:
        return np.roll(record[0], rng.integers(-1, 2, 2), axis=(0, 1)), record[1]

    return grain.MapDataset.source(records).seed(seed).shuffle().random_map(moved).batch(32)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Resume a training on a pipeline of Grain.")
    parser.add_argument("--epochs", type=int, default=8)
    epochs = parser.parse_args(argv).epochs
    data = digits()
    model = jl.Sequential([jl.Flatten(), jl.Dense(64, "relu"), jl.Dropout(0.2), jl.Dense(10, "softmax")])
    trainer = jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])

    class PowerCut(jl.Callback):
        every = 25  # of 45 steps in an epoch

        def on_step(self, step, logs, state):
            raise SystemExit(f"cut off after step {step}")

    checkpoints = jl.Checkpoint(tempfile.mkdtemp(), every_steps=10)
    try:
        jl.fit(trainer, pipeline(data.train, seed=0), checkpoints=checkpoints, callbacks=[PowerCut()])
    except SystemExit as error:
        print(f"{error}; the last checkpoint is that of step {checkpoints.steps()[-1]}")
    state, history = jl.fit(trainer, pipeline(data.train, seed=0), checkpoints=checkpoints, epochs=epochs)
    alone, expected = jl.fit(trainer, pipeline(data.train, seed=0), epochs=epochs)
    assert history == expected
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), state.params, alone.params)))
    logs = jl.evaluate(trainer, state, *data.test)
    print(f"{epochs} epochs, the same bits as without the cut: held-out accuracy {logs['accuracy']:.2%}")
    return logs


if __name__ == "__main__":
    main()
