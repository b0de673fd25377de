"""Tells from a sentence or two which field of mathematics a function is from.

The texts are real and need no download: the first paragraphs of the docstrings of SciPy, which JAX brings
along; the labels are SciPy's subpackages. The vocabulary is learned from the training texts alone, and is
part of what is saved.

    python examples/text_topics.py
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pathlib
import tempfile
from collections.abc import Sequence

import jax
import numpy as np

import jlayers as jl
from jlayers.core.spec import to_data

FIELDS = (
    "fft",
    "integrate",
    "interpolate",
    "linalg",
    "ndimage",
    "optimize",
    "signal",
    "sparse",
    "special",
    "stats",
)


def load() -> tuple[list[str], np.ndarray]:
    """The texts, and the number of the field of each."""
    found: dict[str, int] = {}
    for label, field in enumerate(FIELDS):
        module = importlib.import_module(f"scipy.{field}")
        for name in module.__all__:
            text = (
                (inspect.getdoc(getattr(module, name)) or "")
                .partition("\nParameters\n")[0]
                .partition(">>>")[0]
            )
            if len(text) > 60:
                found.setdefault(text, label)
    return list(found), np.array(list(found.values()), np.int32)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Classify texts.")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args(argv)

    texts, labels = load()
    (train, y_train), (test, y_test) = jl.data.hold_out(np.array(texts, object), labels, 0.2, seed=0)
    vectorize = jl.adapt(jl.TextVectorization(max_tokens=4000, ngrams=2, output_mode="tf_idf"), train)
    print(f"{len(train)} texts to train on, {vectorize.vocabulary_size()} tokens: {vectorize}")

    model = jl.Sequential([
        jl.Input((vectorize.vocabulary_size(),)),
        jl.UnitNormalization(),
        jl.Dropout(0.3),
        jl.Dense(len(FIELDS), activation="softmax"),
    ])  # fmt: skip
    trainer = jl.compile(
        model,
        optimizer={"adam": {"learning_rate": 0.03}},
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    x_train, x_test = vectorize(train), vectorize(test)
    state, _ = jl.fit(trainer, x_train, y_train, epochs=arguments.epochs, callbacks=[jl.ProgressBar()])
    logs = jl.evaluate(trainer, state, x_test, y_test)
    print(f"{len(test)} texts held out: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}")

    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "vectorize.json").write_text(json.dumps(to_data(vectorize)))
    jl.save_weights(folder / "weights.safetensors", state.params, state.state)

    again = jl.preprocessing.get(json.loads((folder / "vectorize.json").read_text()))
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), x_test[:1]))
    weights = jl.load_weights(folder / "weights.safetensors", *expected)
    questions = ["Draw samples from a distribution and estimate its mean.", "Find the minimum of a function."]
    for question, scores in zip(questions, jl.predict(model, weights, again(questions)), strict=True):
        print(f"{question}  {FIELDS[scores.argmax()]} ({scores.max():.0%})")
    return logs


if __name__ == "__main__":
    main()
