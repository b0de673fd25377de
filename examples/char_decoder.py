"""A small language model of letters, trained on a proverb, that writes it down from its first word.

The model is built twice from one function: without a cache to train, with one to write. Both have the same
parameters; with a cache each step computes one letter alone, and is compiled once for all of them.

    python examples/char_decoder.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import jlayers as jl

TEXT = "for want of a nail the shoe was lost, for want of a shoe the horse was lost. "
LETTERS = sorted(set(TEXT))
# Letters in a window, and in the cache: positions beyond those trained on would mean nothing to the model.
ROOM = 80


def build(cache_length: int | None = None) -> jl.Layer:
    block = jl.TransformerDecoder(
        32,
        64,
        num_heads=4,
        activation="gelu",
        normalize_first=True,
        position_embedding=jl.RotaryEmbedding(),
        cache_length=cache_length,
    )
    return jl.Sequential(
        jl.Embedding(len(LETTERS), 32),
        jl.Repeat(block, 2),
        jl.LayerNormalization(),
        jl.Dense(len(LETTERS)),
    )


def windows(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Each stretch of the text, and the same one letter later: int32 `(stretches, ROOM)`."""
    codes = np.array([LETTERS.index(letter) for letter in text], np.int32)
    stretches = np.lib.stride_tricks.sliding_window_view(codes, ROOM + 1)
    return stretches[:, :-1].copy(), stretches[:, 1:].copy()


def write(params: dict, prompt: str, count: int) -> str:
    """The prompt and the `count` likeliest letters after it, one by one."""
    model = build(cache_length=ROOM)
    codes = jnp.array([[LETTERS.index(letter) for letter in prompt]], jnp.int32)
    state = jax.jit(lambda key: model.init(key, codes)[1])(jax.random.key(0))  # an empty cache for one text

    @jax.jit
    def step(state: dict, codes: jax.Array) -> tuple[jax.Array, dict]:
        logits, state = model.apply(params, state, codes)
        return jnp.argmax(logits[:, -1:], axis=-1), state

    written = []
    for _ in range(count):
        codes, state = step(state, codes)
        written.append(LETTERS[int(codes[0, 0])])
    return prompt + "".join(written)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Train a decoder on a proverb and let it write.")
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args(argv)

    x, y = windows(TEXT * 4)
    trainer = jl.compile(
        build(),
        optimizer=jl.optimizers.adam(3e-3),
        loss=jl.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    state, history = jl.fit(trainer, x, y, epochs=arguments.epochs, callbacks=[jl.ProgressBar()])
    text = write(state.params, "for want", 72)
    print(text)
    right = np.mean([a == b for a, b in zip(text, TEXT * 2, strict=False)])
    print(f"{right:.0%} of its letters are those of the proverb")
    return {"loss": history["loss"][-1], "right": float(right)}


if __name__ == "__main__":
    main()
