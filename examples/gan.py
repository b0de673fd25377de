"""A generative adversarial network on handwritten digits: two tasks that take turns in one compiled step.

python examples/gan.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import jlayers as jl

NOISE = 16
GENERATOR = jl.Sequential(
    jl.Dense(128, "relu"), jl.BatchNormalization(), jl.Dense(64, "sigmoid"), jl.Reshape((8, 8, 1))
)
DISCRIMINATOR = jl.Sequential(jl.Flatten(), jl.Dense(128, "leaky_relu"), jl.Dropout(0.3), jl.Dense(1))
MODELS = {"generator": GENERATOR, "discriminator": DISCRIMINATOR}


def drawn(call: Any, batch: jl.Batch, key: Any) -> Any:
    return call("generator", jax.random.normal(key, (len(batch.x), NOISE)))


def judge(call: Any, batch: jl.Batch, key: Any) -> Any:
    """The discriminator's loss: real images are to be scored high, those of the generator low."""
    real, fake = call("discriminator", batch.x), call("discriminator", drawn(call, batch, key))
    return (jax.nn.softplus(-real) + 0.1 * real + jax.nn.softplus(fake)).mean()


def deceive(call: Any, batch: jl.Batch, key: Any) -> Any:
    """The generator's loss: its images are to be scored high."""
    return jax.nn.softplus(-call("discriminator", drawn(call, batch, key))).mean()


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Learn to draw digits that a second model takes for real.")
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args(argv)

    tasks = {
        "generator": jl.Task(MODELS, deceive, trains="generator"),
        "discriminator": jl.Task(MODELS, judge, trains="discriminator"),
    }
    trainer = jl.compile(tasks, jl.optimizers.adam(1e-3, b1=0.5))
    images, _ = jl.data.digits().train
    state, history = jl.fit(trainer, images, epochs=arguments.epochs, callbacks=[jl.ProgressBar()])
    noise = np.random.default_rng(0).normal(size=(4, NOISE)).astype(np.float32)
    pixels = jl.predict(GENERATOR, state.part("generator"), noise)[..., 0] > 0.4
    for rows in zip(*pixels, strict=True):
        print("   ".join("".join(".#"[int(pixel)] for pixel in row) for row in rows))
    return {name: values[-1] for name, values in history.items()}


if __name__ == "__main__":
    main()
