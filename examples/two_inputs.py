"""A graph of two inputs, a shared encoder and two outputs: are two digits the same, and what is the first?

Pairs are made of real digits, half of them of one class. Both images pass through the encoder; its weights
are shared. The model's inputs have names, and the data must bear exactly these.

    python examples/two_inputs.py --picture graph.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import jlayers as jl


def build() -> jl.Layer:
    """A model from `{"first": image, "second": image}` to `{"digit": classes, "same": probability}`."""
    first, second = jl.Input((8, 8, 1), name="first"), jl.Input((8, 8, 1), name="second")
    encoder = jl.Sequential([
        jl.Conv2D(32, 3, activation="relu", padding="same"),
        jl.MaxPooling2D(2),
        jl.Conv2D(64, 3, activation="relu", padding="same"),
        jl.Flatten(),
        jl.Dense(64, activation="relu"),
    ], name="encoder")  # fmt: skip
    a, b = encoder(first), encoder(second)
    apart = jl.Lambda(lambda a, b: (a - b) ** 2, name="apart")(a, b)
    same = jl.Dense(1, activation="sigmoid", name="same")(jl.Dense(32, activation="relu")(apart))
    digit = jl.Dense(10, activation="softmax", name="digit")(a)
    return jl.Model({"first": first, "second": second}, {"digit": digit, "same": same})


def pairs(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[dict, dict]:
    """Pairs of images, half of them of one class."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(labels), count)
    second = rng.integers(0, len(labels), count)
    for i in range(0, count, 2):
        second[i] = rng.choice(np.flatnonzero(labels == labels[first[i]]))
    same = (labels[first] == labels[second]).astype(np.float32)[:, None]
    return {"first": images[first], "second": images[second]}, {"digit": labels[first], "same": same}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train a twin network on pairs of handwritten digits.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--picture", help="draw the graph to this file: .svg, .png or .txt")
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    model = build()
    print(jl.draw(model, arguments.picture))

    trainer = jl.compile(
        model,
        optimizer="adam",
        loss={"digit": "sparse_categorical_crossentropy", "same": "binary_crossentropy"},
        metrics={"digit": "accuracy", "same": "accuracy"},
    )
    x, y = pairs(*digits.train, count=arguments.pairs, seed=0)
    state, _ = jl.fit(trainer, x, y, epochs=arguments.epochs, batch_size=64, callbacks=[jl.ProgressBar()])
    logs = jl.evaluate(trainer, state, *pairs(*digits.test, count=2000, seed=1))
    print("pairs of digits never seen:", ", ".join(f"{name} {value:.4f}" for name, value in logs.items()))
    return logs


if __name__ == "__main__":
    main()
