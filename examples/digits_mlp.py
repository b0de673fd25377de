"""Dense layers alone, held in check by dropout, an L2 penalty and early stopping.

The network has forty times more weights than there are images. Without the three it learns them by heart, as
the gap between its losses on images seen and unseen shows:

    python examples/digits_mlp.py
    python examples/digits_mlp.py --dropout 0 --l2 0 --patience 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jlayers as jl


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train a regularized dense network on handwritten digits.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--l2", type=float, default=1e-4)
    parser.add_argument("--patience", type=int, default=10, help="0 for no early stopping")
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    train, validation = jl.data.hold_out(*digits.train, fraction=0.15, seed=1)
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
        metrics=["accuracy", "sparse_categorical_crossentropy"],
    )
    callbacks: list[jl.Callback] = [jl.ProgressBar()]
    if arguments.patience:
        callbacks.append(jl.EarlyStopping(patience=arguments.patience, restore_best_weights=True))
    state, history = jl.fit(
        trainer,
        *train,
        epochs=arguments.epochs,
        validation_data=validation,
        callbacks=callbacks,
    )
    print(f"stopped after {len(history['loss'])} epochs")
    seen = jl.evaluate(trainer, state, *train)
    unseen = jl.evaluate(trainer, state, *digits.test)
    for name, logs in {"images seen in training": seen, "images never seen": unseen}.items():
        loss, accuracy = logs["sparse_categorical_crossentropy"], logs["accuracy"]
        print(f"{name:<24} cross-entropy {loss:.4f}, accuracy {accuracy:.2%}")
    return unseen


if __name__ == "__main__":
    main()
