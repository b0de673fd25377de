"""What a frozen base saves: the work and memory of a training step, and the time of an epoch.

    python -m benchmarks.transfer [--size 64] [--pictures 96] [--epochs 6] [--no-times]

EfficientNet-Lite0 with a new head is trained as a whole, with its base frozen, and with its last block
trained; the last two also on features that are computed once (`cache_features`). FLOPs and bytes are XLA's
own count of the compiled step, so they are exact. Times are medians over the epochs after the first, which
compiles and computes the features.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import jlayers as jl
from jlayers.train.features import trainer_of_head

BATCH = 16
LAST = ("base/block7*", "base/top_conv", "base/top_bn")


class Clock(jl.Callback):
    """The moments at which epochs end."""

    def on_fit_begin(self, run: Any) -> None:
        self.moments = [time.perf_counter()]

    def on_epoch_end(self, epoch: int, logs: Any, state: Any) -> None:
        self.moments.append(time.perf_counter())


def network() -> jl.Layer:
    base = jl.applications.EfficientNetLite0(include_top=False, pooling="avg", name="base")
    return jl.Sequential(base, jl.Dense(2, name="head"))


def trainer_of(model: jl.Layer) -> jl.Trainer:
    return jl.compile(model, "adam", jl.losses.SparseCategoricalCrossentropy(from_logits=True))


def cost(trainer: jl.Trainer, x: Any, y: Any, kept: bool = False) -> dict[str, float]:
    """FLOPs of the compiled step, and the bytes that it needs beside its arguments.

    >>> x, y = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
    >>> sorted(cost(trainer_of(jl.Dense(2)), x, y))
    ['bytes', 'flops']
    """
    state = trainer.init(jax.random.key(0), x)
    if kept:
        trainer, split = trainer_of_head(trainer, x)
        forms = split.forms.items()
        x = {name: np.zeros((len(y), *form.shape[1:]), form.dtype) for name, form in forms}
    compiled = trainer.train_step.lower(state, jl.Batch(x, y)).compile()
    analysis: Any = compiled.cost_analysis()
    return {"flops": analysis["flops"], "bytes": compiled.memory_analysis().temp_size_in_bytes}


def epochs_of(trainer: jl.Trainer, x: Any, y: Any, epochs: int, kept: bool) -> tuple[float, float]:
    """Seconds of an epoch, and of all before the first one is over."""
    clock, start = Clock(), time.perf_counter()
    jl.fit(trainer, x, y, batch_size=BATCH, epochs=epochs, cache_features=kept, callbacks=[clock])
    taken = [b - a for a, b in itertools.pairwise(clock.moments)]
    return statistics.median(taken[1:]), clock.moments[1] - start


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what a frozen base saves.")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--no-times", action="store_true", help="only XLA's counts")
    given = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (given.pictures, given.size, given.size, 3)).astype(np.float32)
    y = rng.integers(0, 2, given.pictures).astype(np.int32)
    head = jl.freeze(network(), "base")
    last = jl.unfreeze(head, *LAST)
    rows = {
        "all layers trained": (network(), False),
        "last block and head": (last, False),
        "the same, features kept": (last, True),
        "head only": (head, False),
        "head only, features kept": (head, True),
    }
    print("| | GFLOPs of a step | working memory, MB | epoch, ms | until the first is over, s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (model, kept) in rows.items():
        trainer = trainer_of(model)
        found = cost(trainer, x[:BATCH], y[:BATCH], kept)
        cells = [f"{found['flops'] / 1e9:.3f}", f"{found['bytes'] / 1e6:.1f}"]
        if not given.no_times:
            epoch, first = epochs_of(trainer, x, y, given.epochs, kept)
            cells += [f"{1e3 * epoch:.0f}", f"{first:.1f}"]
        print(f"| {name} | {' | '.join([*cells, '', ''][:4])} |", flush=True)


if __name__ == "__main__":
    main()
