"""A layer of one's own: it squares its input. Weights are made in `init`, the mathematics stands in `apply`.

It is then a layer like any other: it stacks in `Sequential`, connects in a graph, and shows in the summary
with its shapes, parameters and FLOPs, of which not one had to be declared.

    python examples/custom_layer.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jax.numpy as jnp

import jlayers as jl


@jl.layer
def Squared(scale: float = 1.0):
    """`gain * x**2`, with a learned gain per feature that starts at `scale`."""

    def init(key, x):  # x: shape and dtype of what apply will see
        return {"gain": jnp.full(x.shape[-1:], scale, x.dtype)}

    def apply(params, x):
        return params["gain"][None] * x**2

    return init, apply


def stacked() -> jl.Layer:
    """A classifier whose only nonlinearity is the square."""
    return jl.Sequential([
        jl.Input((64,)),
        jl.Dense(128),
        Squared(0.5),
        jl.Dense(10, activation="softmax"),
    ])  # fmt: skip


def graph() -> jl.Layer:
    """The pixels, and beside them the squares of what a dense layer sees in them."""
    pixels = jl.Input((64,), name="pixels")
    squares = Squared(0.5, name="energy")(jl.Dense(128)(pixels))
    both = jl.Concatenate()([pixels, squares])
    return jl.Model(pixels, jl.Dense(10, activation="softmax")(both))


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train two models with a layer of their own.")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)

    digits = jl.data.digits()
    x_train, x_test = (x.reshape(len(x), 64) for x in (digits.train[0], digits.test[0]))
    results = {}
    for name, model in {"stacked": stacked(), "graph": graph()}.items():
        print(jl.summary(model))
        trainer = jl.compile(model, "adam", "sparse_categorical_crossentropy", ["accuracy"])
        state, _ = jl.fit(
            trainer, x_train, digits.train[1], epochs=arguments.epochs, callbacks=[jl.ProgressBar()]
        )
        results[name] = jl.evaluate(trainer, state, x_test, digits.test[1])["accuracy"]
        print(f"{name}: accuracy {results[name]:.2%}\n")
    return results


if __name__ == "__main__":
    main()
