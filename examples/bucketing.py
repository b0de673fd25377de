"""Sequences of unequal length without waste: batches by length, and one compilation for each length.

The recordings are those of `lstm_vowels.py`: utterances of 7 to 29 steps. Each batch is filled up to one of a
few lengths, `Masking` tells padding from data, and the LSTM leaves it out.

    python examples/bucketing.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import jlayers as jl
from jlayers.data import BucketBatches, bucket_lengths

BATCH = 30


def load(split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences, float32 `(steps, 12)` each, and speakers, int32 0 to 8."""
    from sktime.datasets import load_japanese_vowels

    table, speakers = load_japanese_vowels(split=split)
    sequences = [np.stack(row, axis=1).astype(np.float32) for row in table.itertuples(index=False)]
    return sequences, speakers.astype(np.int32) - 1


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train an LSTM on sequences of unequal length.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--buckets", type=int, default=4)
    arguments = parser.parse_args(argv)

    x_train, y_train = load("train")
    x_test, y_test = load("test")
    lengths = bucket_lengths([*x_train, *x_test], arguments.buckets)
    train = BucketBatches(x_train, y_train, lengths=lengths, batch_size=BATCH, shuffle=True)
    test = BucketBatches(x_test, y_test, lengths=lengths, batch_size=BATCH)
    to_the_longest = BucketBatches(x_train, y_train, lengths=lengths[-1:])
    print(f"{len(x_train)} utterances, filled up to {', '.join(map(str, lengths))} steps")
    print(f"padding: {train.padding:.0%} of all steps; {to_the_longest.padding:.0%} with a single length")

    model = jl.Sequential([
        jl.Input((None, 12)),
        jl.Masking(),
        jl.LSTM(128),
        jl.Dropout(0.5),
        jl.Dense(9, activation="softmax"),
    ])  # fmt: skip
    trainer = jl.compile(
        model,
        optimizer=jl.optimizers.adam(3e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    state, _ = jl.fit(trainer, train, epochs=arguments.epochs, callbacks=[jl.ProgressBar()])
    logs = jl.evaluate(trainer, state, test)
    compiled = trainer.train_step.compilations
    print(f"{arguments.epochs} epochs of {len(train)} batches, {compiled} compilations of the training step")
    assert compiled <= 2 * len(lengths)  # for each length, and for the rows that are left of it
    print(f"{len(x_test)} utterances held out: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}")
    return {**logs, "compilations": compiled, "lengths": len(lengths)}


if __name__ == "__main__":
    main()
