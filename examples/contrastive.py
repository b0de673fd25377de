"""Contrastive learning (SimCLR): two views of an image are alike, those of other images are not. No labels.

python examples/contrastive.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jlayers as jl

MODELS = {
    "view": jl.Sequential(jl.RandomTranslation(0.15, 0.15), jl.RandomRotation(0.05), jl.GaussianNoise(0.1)),
    "encoder": jl.Sequential(jl.Conv2D(32, 3, activation="relu"), jl.Flatten(), jl.Dense(64)),
    "head": jl.Sequential(jl.ReLU(), jl.Dense(32)),
}


def likeness(call: Any, batch: jl.Batch, key: Any) -> jl.LossValue:
    """Which of the other views belongs to each one: a cross-entropy (Chen et al., 2020)."""
    views = [call("head", call("encoder", call("view", batch.x))) for _ in range(2)]
    codes = jnp.concatenate([view / jnp.linalg.norm(view, axis=-1, keepdims=True) for view in views])
    rows = len(codes)
    scores = codes @ codes.T / 0.2 - 1e9 * jnp.eye(rows)
    partner = (jnp.arange(rows) + rows // 2) % rows
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(scores, partner).mean()
    return jl.LossValue(loss, {"found": (scores.argmax(-1) == partner).astype(jnp.float32).mean()})


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Learn what digits look like, without their labels.")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    trainer = jl.compile(jl.Task(MODELS, likeness), "adam")
    state, history = jl.fit(
        trainer, digits.train[0], batch_size=128, epochs=arguments.epochs, callbacks=[jl.ProgressBar()]
    )
    known, asked = (
        jl.predict(MODELS["encoder"], state.part("encoder"), part[0]) for part in (digits.train, digits.test)
    )
    nearest = [np.square(known - code).sum(-1).argmin() for code in asked]
    accuracy = float((digits.train[1][nearest] == digits.test[1]).mean())
    print(f"the digit of the nearest neighbor, by codes learned without labels: {accuracy:.2%} right")
    return {"loss": history["loss"][-1], "accuracy": accuracy}


if __name__ == "__main__":
    main()
