"""Distillation: a small model learns from a large, frozen one what it learned.

python examples/distillation.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import optax

import jlayers as jl

TEMPERATURE = 3.0


def imitation(call: Any, batch: jl.Batch, key: Any) -> jl.LossValue:
    """Half of the loss is that of the labels, half that of the teacher's scores (Hinton et al., 2015)."""
    scores = call("student", batch.x)
    soft = jax.nn.softmax(call("teacher", batch.x) / TEMPERATURE)
    hard = optax.losses.softmax_cross_entropy_with_integer_labels(scores, batch.y).mean()
    taught = optax.losses.softmax_cross_entropy(scores / TEMPERATURE, soft).mean() * TEMPERATURE**2
    return jl.LossValue((hard + taught) / 2, {"labels": hard, "teacher": taught}, outputs=scores)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Teach a small classifier of digits by a large one.")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    options = {"epochs": arguments.epochs, "callbacks": [jl.ProgressBar()]}
    large = jl.Sequential(
        jl.Conv2D(32, 3, activation="relu"), jl.Flatten(), jl.Dropout(0.3), jl.Dense(128, activation="relu"),
        jl.Dense(10),
    )  # fmt: skip
    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher = jl.compile(large, "adam", loss, metrics=["accuracy"])
    taught, _ = jl.fit(teacher, *digits.train, **options)

    small = jl.Sequential(jl.Flatten(), jl.Dense(16, activation="relu"), jl.Dense(10))
    models = {"teacher": jl.freeze(large), "student": small}
    trainer = jl.compile(jl.Task(models, imitation), "adam", metrics=["accuracy"])
    start = trainer.init(jax.random.key(0), *digits.train)
    start = start.replace(params={**start.params, "teacher": taught.params})
    state, _ = jl.fit(trainer, *digits.train, state=start, **options)
    results = {
        "teacher": jl.evaluate(teacher, taught, *digits.test)["accuracy"],
        "student": jl.evaluate(trainer, state, *digits.test)["accuracy"],
    }
    print(", ".join(f"{name} {accuracy:.2%}" for name, accuracy in results.items()), "of digits held out")
    return results


if __name__ == "__main__":
    main()
