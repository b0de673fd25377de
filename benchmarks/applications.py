"""Applications beside Keras's on JAX, in one process: the time of a training step and of inference.

    python docs/make_applications_page.py --time MobileNetV2 ResNet50

writes what it finds into the page of the applications. Both have fresh weights, Adam, float32 and the same
batch of images. They take turns, step by step, so that whatever else the machine does hits both; told are
medians over the rounds. Compiling is done before.
"""

from __future__ import annotations

import functools
import gc
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np

import jlayers as jl
from jlayers.applications import published

__all__ = ["times_of"]

BATCH = 4
LARGE = 480  # pixels a side; four such images keep Keras busy for minutes, so these come one at a time
LOSS = "sparse_categorical_crossentropy"
Turn = Callable[[], Any]


def times_of(name: str, rounds: int = 5) -> dict[str, Any]:
    """Milliseconds of a training step and of inference, here and in Keras."""
    size = published(name).size
    batch = BATCH if size < LARGE else 1
    rng = np.random.default_rng(0)
    x = jax.device_put(rng.uniform(0, 255, (batch, size, size, 3)).astype(np.float32))
    y = jax.device_put(rng.integers(0, 1000, batch).astype(np.int32))
    turns = {"jlayers": _ours(name, x, y), "keras": _theirs(name, x, y)}
    found: dict[str, Any] = {"batch": batch, "size": size}
    for number, what in enumerate(("step", "inference")):
        taken: dict[str, list[float]] = {who: [] for who in turns}
        for turn in range(-1, rounds):  # the first compiles
            for who in sorted(turns, reverse=turn % 2 == 0):
                start = time.perf_counter()
                jax.block_until_ready(turns[who][number]())
                if turn >= 0:
                    taken[who].append(1e3 * (time.perf_counter() - start))
        found[what] = {who: statistics.median(times) for who, times in taken.items()}
    turns.clear()
    gc.collect()
    jax.clear_caches()
    return found


def _ours(name: str, x: jax.Array, y: jax.Array) -> tuple[Turn, Turn]:
    trainer = jl.compile(getattr(jl.applications, name)(), "adam", LOSS)
    live = [trainer.init(jax.random.key(0), x)]

    def step() -> Any:
        live[0], logs = trainer.train_step(live[0], jl.Batch(x, y))
        return logs["loss"]

    return step, lambda: trainer.predict_step(live[0].params, live[0].state, x)


def _theirs(name: str, x: jax.Array, y: jax.Array) -> tuple[Turn, Turn]:
    """As `fit` in Keras does on JAX, without what it does around the step."""
    import keras

    model = getattr(keras.applications, name)(weights=None)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    @functools.partial(jax.jit, donate_argnums=0)
    def train(carry: Any, x: jax.Array, y: jax.Array) -> Any:
        params, state, opt_state = carry

        def loss(params: Any) -> Any:
            output, moved = model.stateless_call(params, state, x, training=True)
            return loss_of(y, output), moved

        (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        params, opt_state = optimizer.stateless_apply(opt_state, gradients, params)
        return (params, state, opt_state), value

    @jax.jit
    def infer(params: Any, state: Any, x: jax.Array) -> jax.Array:
        return model.stateless_call(params, state, x, training=False)[0]

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    live = [tuple([variable.value for variable in group] for group in groups)]

    def step() -> Any:
        live[0], value = train(live[0], x, y)
        return value

    return step, lambda: infer(live[0][0], live[0][1], x)
