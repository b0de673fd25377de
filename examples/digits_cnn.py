"""A convolutional classifier of real handwritten digits, line for line as its Keras original.

In Keras it reads

    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, (3, 3), activation="relu", padding="same"),
        layers.Conv2D(64, (3, 3), activation="relu", padding="same"),
        layers.MaxPooling2D((2, 2)),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=20, batch_size=32, validation_split=0.1)
    model.evaluate(x_test, y_test)

and here the same, except that training returns the weights and does not hide them in the model.

    python examples/digits_cnn.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jlayers as jl


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train a convolutional network on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    x_train, y_train = digits.train
    x_test, y_test = digits.test

    model = jl.Sequential([
        jl.Input((8, 8, 1)),
        jl.Conv2D(32, (3, 3), activation="relu", padding="same"),
        jl.Conv2D(64, (3, 3), activation="relu", padding="same"),
        jl.MaxPooling2D((2, 2)),
        jl.Dropout(0.25),
        jl.Flatten(),
        jl.Dense(128, activation="relu"),
        jl.Dropout(0.5),
        jl.Dense(10, activation="softmax"),
    ])  # fmt: skip
    print(jl.summary(model))

    trainer = jl.compile(
        model, optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    state, _ = jl.fit(
        trainer,
        x_train,
        y_train,
        epochs=arguments.epochs,
        batch_size=32,
        validation_split=0.1,
        callbacks=[jl.ProgressBar()],
    )
    logs = jl.evaluate(trainer, state, x_test, y_test)
    print(f"{len(x_test)} digits held out: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}")

    classes = jl.predict(trainer, state, x_test[:10]).argmax(axis=1)
    print("the first ten:", *classes, "(truly", *y_test[:10], end=")\n")
    return logs


if __name__ == "__main__":
    main()
