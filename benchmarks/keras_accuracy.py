"""The classifier of images, written in Keras and in jlayers line for line, trained on the same digits.

    python benchmarks/keras_accuracy.py [--seeds 5] [--epochs 15]

Prints the accuracy on held-out digits for each seed and exits with 1 if the means lie further apart than two
standard errors of their difference (and further than 0.3 points).
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import jlayers as jl
from jlayers.data import digits


def with_keras(data, seed: int, epochs: int) -> float:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, (3, 3), activation="relu"),
        keras.layers.MaxPooling2D((2, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data.train, epochs=epochs, batch_size=32, verbose=0)
    return model.evaluate(*data.test, verbose=0)[1]


def with_jlayers(data, seed: int, epochs: int) -> float:
    model = jl.Sequential([
        jl.Input((8, 8, 1)),
        jl.Conv2D(32, (3, 3), activation="relu"),
        jl.MaxPooling2D((2, 2)),
        jl.Flatten(),
        jl.Dense(128, activation="relu"),
        jl.Dropout(0.5),
        jl.Dense(10, activation="softmax"),
    ])  # fmt: skip
    trainer = jl.compile(
        model, optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    state, _ = jl.fit(trainer, *data.train, epochs=epochs, batch_size=32, seed=seed)
    return jl.evaluate(trainer, state, *data.test)["accuracy"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    data = digits()
    scores = {"keras": [], "jlayers": []}
    for seed in range(arguments.seeds):
        keras_score = with_keras(data, seed, arguments.epochs)
        our_score = with_jlayers(data, seed, arguments.epochs)
        scores["keras"].append(keras_score)
        scores["jlayers"].append(our_score)
        print(f"seed {seed}: keras {keras_score:.4f}  jlayers {our_score:.4f}", flush=True)
    theirs, ours = np.array(scores["keras"]), np.array(scores["jlayers"])
    apart = abs(ours.mean() - theirs.mean())
    error = np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    print(f"mean: keras {theirs.mean():.4f}  jlayers {ours.mean():.4f}")
    print(f"apart {apart:.4f}, standard error {error:.4f}")
    return int(apart > max(2 * error, 0.003))


if __name__ == "__main__":
    sys.exit(main())
