"""Dense layers alone, held in check by dropout, an L2 penalty and early stopping.

The network has forty times more weights than there are images, and would learn them by heart. Compare:

    python examples/digits_mlp.py
    python examples/digits_mlp.py --dropout 0 --l2 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jlayers as jl


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train a regularised dense network on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--l2", type=float, default=1e-4)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    penalty = jl.l2(arguments.l2)
    model = jl.Sequential([
        jl.Flatten(),
        jl.Dense(200, activation="relu", kernel_regularizer=penalty),
        jl.Dropout(arguments.dropout),
        jl.Dense(200, activation="relu", kernel_regularizer=penalty),
        jl.Dropout(arguments.dropout),
        jl.Dense(10, activation="softmax"),
    ])  # fmt: skip
    print(jl.summary(model, (32, 8, 8, 1)))

    trainer = jl.compile(
        model,
        optimizer=jl.optimizers.adam(2e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    state, history = jl.fit(
        trainer,
        *digits.train,
        epochs=arguments.epochs,
        validation_split=0.15,
        callbacks=[
            jl.ProgressBar(),
            jl.EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True),
        ],
    )
    seen = jl.evaluate(trainer, state, *digits.train)
    unseen = jl.evaluate(trainer, state, *digits.test)
    print(f"stopped after {len(history['loss'])} epochs, lowest validation loss {min(history['val_loss']):.4f}")
    print(f"accuracy on digits it was trained on {seen['accuracy']:.2%}, on others {unseen['accuracy']:.2%}")
    return unseen


if __name__ == "__main__":
    main()
