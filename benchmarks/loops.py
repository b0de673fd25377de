"""What a training loop costs around the compiled step, and what is paid for saving, logging, a bar and data.

    python -m benchmarks.loops [--rounds 15]

prints ratios of one run, in which all loops take turns in one process.

On the tiny MLP: `fit` and a hand-written loop around `jl.make_train_step` against loops written by hand. Each
trains on the same `STEPS` batches per epoch. "bare loop" has them cut and on the device before the clock
starts, which is as little as a loop can do. The others by hand do what `fit` does, too, a new order in each
epoch and batches cut from NumPy arrays: "shuffled NumPy" batch by batch, as most people write it, "shuffled
epochs" as fast as we know how to. What `fit` takes more than these is its own.

On the classifier of digits (`configs/digits_cnn.yaml`): what `fit` takes with one thing more, by the time
that it takes without.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
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


def own() -> Loop:
    """A user's loop around the public step."""
    import jax

    import jlayers as jl
    from benchmarks.peers.jlayers import MODELS

    model, optimizer = MODELS[TINY.kind](TINY), jl.optimizers.adam(**ADAM)
    step = jl.make_train_step(model, jl.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer)
    carry = [jl.TrainState.create(model, optimizer, jax.random.key(0), (TINY.batch, *TINY.shape))]
    batches = cut()

    def run(epochs: int) -> None:
        now = carry[0]
        for _ in range(epochs):
            for x, y in batches:
                now, _ = step(now, (x, y))
        carry[0] = jax.block_until_ready(now)

    return run


# ------------------------------------------------------------------------------------------- by hand


def cut() -> list[Any]:
    """The batches of an epoch, on the device."""
    import jax

    x, y = (part.reshape(STEPS, TINY.batch, *part.shape[1:]) for part in data())
    return [jax.device_put(batch) for batch in zip(x, y, strict=True)]


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
    batches = cut()

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


def shuffled_epochs() -> Loop:
    """One step a call; each epoch is cut and moved at once, and the program takes its batch out of it."""
    import jax

    step, start = hand()
    carry = [start]
    x, y = data()
    rng = np.random.default_rng(0)

    @functools.partial(jax.jit, donate_argnums=0)
    def nth(carry: Any, x: Any, y: Any, number: Any) -> Any:
        return step(carry, *(jax.lax.dynamic_index_in_dim(part, number, keepdims=False) for part in (x, y)))

    numbers = [jax.device_put(np.int32(number)) for number in range(STEPS)]

    def run(epochs: int) -> None:
        now = carry[0]
        for _ in range(epochs):
            rows = rng.permutation(len(x)).reshape(STEPS, TINY.batch)
            epoch = jax.device_put((x[rows], y[rows]))
            for number in numbers:
                now, _ = nth(now, *epoch, number)
        carry[0] = jax.block_until_ready(now)

    return run


def scanned(shuffled: bool = False) -> Loop:
    import jax

    step, start = hand()
    carry = [start]
    x, y = data()
    rng = np.random.default_rng(0)

    def cut(order: np.ndarray) -> Iterator[Any]:
        for rows in order.reshape(STEPS // TOGETHER, TOGETHER, TINY.batch):
            yield x[rows], y[rows]

    ready = [jax.device_put(batches) for batches in cut(np.arange(len(x)))]

    @functools.partial(jax.jit, donate_argnums=0)
    def together(carry: Any, x: Any, y: Any) -> Any:
        return jax.lax.scan(lambda carry, batch: step(carry, *batch), carry, (x, y))

    def run(epochs: int) -> None:
        now = carry[0]
        for _ in range(epochs):
            for batches in cut(rng.permutation(len(x))) if shuffled else ready:
                now, _ = together(now, *batches)
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
    "jl.make_train_step, own loop": (OURS, own),
    "bare loop": (HAND, bare),
    "bare loop, shuffled NumPy": (HAND, bare_shuffled),
    "bare loop, shuffled epochs": (HAND, shuffled_epochs),
    f"bare loop, {TOGETHER} steps scanned": (HAND, scanned),
    f"bare loop, shuffled, {TOGETHER} steps scanned": (HAND, functools.partial(scanned, shuffled=True)),
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


# ------------------------------------------------------------------------------ one thing more in `fit`

SAVE_EVERY = 20  # steps
LOG_EVERY = 10
DEFAULT = "and checkpoints by default"
LONG = 60  # epochs, so that the checkpoint at the end, for which `fit` waits, hardly counts


def digits() -> dict[str, Loop]:
    """By name: `fit` of the digits, then with one thing more."""
    import jax
    import rich.console

    import jlayers as jl
    from jlayers.config import load

    experiment = load(pathlib.Path(__file__).parent.parent / "configs" / "digits_cnn.yaml")
    trainer, (x, y) = experiment.compile(), experiment.data.train
    size = experiment.settings.training.batch_size
    state = trainer.init(jax.random.key(0), x[:size])
    batches = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]

    class Lines(jl.Callback):
        every = LOG_EVERY

        def __init__(self, file: Any):
            self.file = file

        def on_step(self, step: int, logs: Any, state: Any) -> None:
            print(json.dumps({"step": step, **logs}), file=self.file, flush=True)

    def fit(epochs: int, x: Any = x, y: Any = y, **options: Any) -> None:
        options = {"batch_size": size, "state": state} | options
        jl.fit(trainer, x, y, epochs=epochs, **options)

    def saving(epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = jl.Checkpoint(folder, every_steps=SAVE_EVERY, every_epochs=None)
            fit(epochs, checkpoints=checkpoint)

    def keeping(epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(epochs, checkpoints=folder)

    def logging(epochs: int) -> None:
        with tempfile.TemporaryFile("w") as file:
            fit(epochs, callbacks=[Lines(file)])

    def bar(epochs: int) -> None:
        console = rich.console.Console(file=io.StringIO(), force_terminal=True, width=100)
        fit(epochs, callbacks=[jl.ProgressBar(console)])

    return {
        "jl.fit, digits": fit,
        f"and a checkpoint every {SAVE_EVERY} steps": saving,
        DEFAULT: keeping,
        f"and a line in a file every {LOG_EVERY} steps": logging,
        "and a progress bar": bar,
        "batches from a list": lambda epochs: fit(epochs, batches, None, batch_size=None),
    }


def turns(loops: Mapping[str, Loop], rounds: int, epochs: int) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds that each loop takes, the least of the rounds."""
    least = dict.fromkeys(loops, (math.inf, math.inf))
    names = list(loops)
    for number in range(-1, rounds):  # the first one compiles
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            loops[name](epochs)
            took = time.perf_counter() - wall, time.process_time() - cpu
            if number >= 0:
                least[name] = min(least[name][0], took[0]), min(least[name][1], took[1])
    return least


def show(loops: Mapping[str, Loop], base: str, rounds: int, epochs: int) -> dict[str, tuple[float, float]]:
    found = turns(loops, rounds, epochs)
    print(f"{'by ' + base:42}{'time':>8}{'CPU time':>10}")
    for name, (wall, cpu) in found.items():
        print(f"{name:42}{wall / found[base][0]:8.3f}{cpu / found[base][1]:10.3f}")
    print()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loops")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    tiny = {name: make() for name, (library, make) in LOOPS.items() if library in (OURS, HAND)}
    show(tiny, "bare loop", 2 * rounds, 16)  # so long that what a call of `fit` takes once hardly counts
    loops = digits()
    long = {name: loops[name] for name in ("jl.fit, digits", DEFAULT)}
    show(long, "jl.fit, digits", max(1, rounds // 3), LONG)
    del loops[DEFAULT]
    found = show(loops, "jl.fit, digits", max(1, rounds // 3), 4)
    saved = found[f"and a checkpoint every {SAVE_EVERY} steps"]
    for what, plain, more in zip(("time", "CPU time"), found["jl.fit, digits"], saved, strict=True):
        cost = (more / plain - 1) * SAVE_EVERY
        print(
            f"{what}: a checkpoint costs {cost:.1f} steps, less than 2 % with one every {50 * cost:.0f} steps"
        )


if __name__ == "__main__":
    main()
