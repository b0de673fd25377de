"""An LSTM that tells nine speakers apart by how they say "ae".

The recordings are real: the Japanese Vowels data (Kudo, Toyama and Shimbo 1999), which come with the package
sktime: 12 cepstral coefficients at 7 to 29 points in time, 270 utterances to train on and 370 to test on.
Shorter utterances are filled up in front, so that all end at the last step.

    python examples/lstm_vowels.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
import optax

import jlayers as jl

STEPS, BATCH = 29, 30


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Sequences, float32 `(utterances, 29, 12)`, and speakers, int32 0 to 8."""
    from sktime.datasets import load_japanese_vowels

    table, speakers = load_japanese_vowels(split=split)
    x = np.zeros((len(table), STEPS, 12), np.float32)
    for i, row in enumerate(table.itertuples(index=False)):
        sequence = np.stack(row, axis=1)
        x[i, STEPS - len(sequence) :] = sequence
    return x, speakers.astype(np.int32) - 1


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train an LSTM on spoken vowels.")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args(argv)

    x_train, y_train = load("train")
    x_test, y_test = load("test")
    model = jl.Sequential([
        jl.Input((STEPS, 12)),
        jl.LSTM(128),
        jl.Dropout(0.5),
        jl.Dense(9, activation="softmax"),
    ])  # fmt: skip
    print(jl.summary(model))

    steps = arguments.epochs * math.ceil(len(x_train) / BATCH)
    schedule = optax.cosine_decay_schedule(5e-3, steps)
    trainer = jl.compile(
        model,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    state, _ = jl.fit(
        trainer, x_train, y_train, epochs=arguments.epochs, batch_size=BATCH, callbacks=[jl.ProgressBar()]
    )
    logs = jl.evaluate(trainer, state, x_test, y_test)
    print(f"{len(x_test)} utterances held out: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}")
    return logs


if __name__ == "__main__":
    main()
