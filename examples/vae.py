"""A variational autoencoder of handwritten digits: a task of two models with a custom loss.

python examples/vae.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jlayers as jl

CODE = 8
MODELS = {
    "encoder": jl.Sequential(jl.Flatten(), jl.Dense(128, activation="relu"), jl.Dense(2 * CODE)),
    "decoder": jl.Sequential(jl.Dense(128, activation="relu"), jl.Dense(64), jl.Reshape((8, 8, 1))),
}


def evidence(call: Any, batch: jl.Batch, key: Any) -> jl.LossValue:
    """The negative evidence lower bound (Kingma and Welling, 2014), in two parts."""
    mean, log_variance = jnp.split(call("encoder", batch.x), 2, axis=-1)
    code = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
    pixels = optax.losses.sigmoid_binary_cross_entropy(call("decoder", code), batch.x)
    reconstruction = pixels.sum((1, 2, 3)).mean()
    divergence = (jnp.exp(log_variance) + jnp.square(mean) - 1 - log_variance).sum(-1).mean() / 2
    parts = {"reconstruction": reconstruction, "divergence": divergence}
    return jl.LossValue(reconstruction + divergence, parts)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Learn to draw handwritten digits.")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    trainer = jl.compile(jl.Task(MODELS, evidence), jl.optimizers.adam(2e-3))
    state, history = jl.fit(
        trainer,
        digits.train[0],
        epochs=arguments.epochs,
        validation_split=0.1,
        callbacks=[jl.ProgressBar()],
    )
    codes = np.random.default_rng(0).normal(size=(4, CODE)).astype(np.float32)
    drawn = jl.predict(MODELS["decoder"], state.part("decoder"), codes)
    for rows in zip(*(image[:, :, 0] > 0 for image in drawn), strict=True):
        print("   ".join("".join(".#"[int(pixel)] for pixel in row) for row in rows))
    return {name: values[-1] for name, values in history.items()}


if __name__ == "__main__":
    main()
