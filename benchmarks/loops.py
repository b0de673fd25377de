"""What a training loop costs around the compiled step: `fit` against loops written by hand, on the tiny MLP.

Each loop trains on the same `STEPS` batches per epoch. "bare loop" has them cut and on the device before
the clock starts, which is as little as a loop can do; "bare loop, shuffled NumPy" does what `fit` does,
too: a new order in each epoch, and batches cut from NumPy arrays.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import HAND, OURS
from benchmarks.workloads import ADAM, WORKLOADS

STEPS = 256  # in an epoch
TOGETHER = 32  # steps in one dispatch
TINY = WORKLOADS["tiny_mlp"]

Loop = Callable[[int], Any]  # trains for so many epochs and waits


def data() -> tuple[np.ndarray, np.ndarray]:
    return dataclasses.replace(TINY, batch=TINY.batch * STEPS).data()


# ------------------------------------------------------------------------------------------- jlayers


def fit(**options: Any) -> Loop:
    import jax

    import jlayers as jl
    from benchmarks.peers.jlayers import MODELS

    loss = jl.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer = jl.compile(MODELS[TINY.kind](TINY), jl.optimizers.adam(**ADAM), loss)
    x, y = data()
    state = trainer.init(jax.random.key(0), x[: TINY.batch])
    return lambda epochs: jl.fit(trainer, x, y, batch_size=TINY.batch, epochs=epochs, state=state, **options)


# ------------------------------------------------------------------------------------------- by hand


def hand() -> tuple[Any, Any]:
    """The step of the hand-written peer, and its first carry."""
    import jax

    from benchmarks.peers._jax import adam
    from benchmarks.peers.hand import MODELS, train_step

    init, apply = MODELS[TINY.kind](TINY)
    optimizer = adam()
    params, state = init(jax.random.key(0))
    return train_step(apply, optimizer), (params, state, optimizer.init(params))


def bare() -> Loop:
    import jax

    step, start = hand()
    carry = [start]
    x, y = (part.reshape(STEPS, TINY.batch, *part.shape[1:]) for part in data())
    batches = [jax.device_put(batch) for batch in zip(x, y, strict=True)]

    def run(epochs: int) -> None:
        now = carry[0]
        for _ in range(epochs):
            for x, y in batches:
                now, _ = step(now, x, y)
        carry[0] = jax.block_until_ready(now)

    return run


def bare_shuffled() -> Loop:
    import jax

    step, start = hand()
    carry = [start]
    x, y = data()
    rng = np.random.default_rng(0)

    def run(epochs: int) -> None:
        now = carry[0]
        for _ in range(epochs):
            for rows in rng.permutation(len(x)).reshape(STEPS, TINY.batch):
                now, _ = step(now, x[rows], y[rows])
        carry[0] = jax.block_until_ready(now)

    return run


def scanned() -> Loop:
    import jax

    step, start = hand()
    carry = [start]
    shape = (STEPS // TOGETHER, TOGETHER, TINY.batch)
    x, y = (part.reshape(*shape, *part.shape[1:]) for part in data())
    batches = [jax.device_put(batch) for batch in zip(x, y, strict=True)]

    @functools.partial(jax.jit, donate_argnums=0)
    def together(carry: Any, x: Any, y: Any) -> Any:
        return jax.lax.scan(lambda carry, batch: step(carry, *batch), carry, (x, y))

    def run(epochs: int) -> None:
        now = carry[0]
        for _ in range(epochs):
            for x, y in batches:
                now, _ = together(now, x, y)
        carry[0] = jax.block_until_ready(now)

    return run


# ------------------------------------------------------------------------------------------- Keras


def keras_fit(steps_per_execution: int = 1) -> Loop:
    import keras

    from benchmarks.peers.keras import MODELS, adam

    model = MODELS[TINY.kind](TINY)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(adam(), loss, jit_compile=True, steps_per_execution=steps_per_execution)
    x, y = data()
    return lambda epochs: model.fit(x, y, batch_size=TINY.batch, epochs=epochs, verbose=0)


# By name: in whose process it runs, and what makes it.
LOOPS: dict[str, tuple[str, Callable[[], Loop]]] = {
    "jl.fit": (OURS, fit),
    "jl.fit, 1 step a call": (OURS, functools.partial(fit, steps_per_call=1)),
    "bare loop": (HAND, bare),
    "bare loop, shuffled NumPy": (HAND, bare_shuffled),
    f"bare loop, {TOGETHER} steps scanned": (HAND, scanned),
    "Keras fit": ("keras", keras_fit),
    f"Keras fit, {TOGETHER} steps per execution": ("keras", functools.partial(keras_fit, TOGETHER)),
}


@functools.cache
def loop(name: str) -> Loop:
    """The loop, everything in it compiled."""
    made = LOOPS[name][1]()
    made(1)
    return made


def run(name: str, epochs: int) -> float:
    """Seconds for so many epochs."""
    ready = loop(name)
    begin = time.perf_counter()
    ready(epochs)
    return time.perf_counter() - begin
