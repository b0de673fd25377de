"""Many seeds in one program against one after the other, on the digits MLP of `configs/digits_mlp.yaml`.

    python -m benchmarks.seeds [--seeds 8] [--epochs 30] [--rounds 5]

As people do it: `jlayers train` once for each seed against once for all of them, each in a process of its
own, with compiled programs from the cache. And within one process, in turns, `jl.fit` for each seed against
`jl.fit_seeds`, with programs compiled beforehand; there each core of a CPU is a device with its share.

Printed are the times of one after the other by those of all together, in wall time and in CPU time. Exits
with 1 if a seed does not learn what it learns alone, or if the one command is not at least three times as
fast. The second comparison is not judged: on a CPU the matrix products, which no program saves, are most of a
step, so that only more cores help, while an accelerator is idle for most of a small step.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "digits_mlp.yaml"
GOAL = 3.0
Times = tuple[float, float]  # wall and CPU seconds


def timed(function: Callable[[], object], clock: Callable[[], float] = time.process_time) -> Times:
    wall, cpu = time.perf_counter(), clock()
    function()
    return time.perf_counter() - wall, clock() - cpu


def in_turns(one_by_one: Callable[[], object], together: Callable[[], object], rounds: int) -> np.ndarray:
    """The ratios of wall and of CPU time, by round."""
    ratios = []
    for number in range(rounds):
        order = (one_by_one, together) if number % 2 else (together, one_by_one)
        times = {function: timed(function) for function in order}
        ratios.append(np.divide(times[one_by_one], times[together]))
        print(
            f"  one by one {_shown(times[one_by_one])}, in one program {_shown(times[together])}", flush=True
        )
    return np.array(ratios)


def _shown(times: Times) -> str:
    return f"{times[0]:.2f} s ({times[1]:.2f} s CPU)"


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands(seeds: int, epochs: int) -> np.ndarray:
    """The same of whole commands."""
    with tempfile.TemporaryDirectory() as folder:

        def train(name: str, *settings: str) -> None:
            given = ["training.early_stopping=null", f"training.epochs={epochs}", *settings]
            arguments = [part for setting in given for part in ("--set", setting)]
            run = ["--run", str(pathlib.Path(folder) / name)]
            command = [sys.executable, "-m", "jlayers.cli", "train", str(CONFIG), *arguments, *run]
            subprocess.run(command, check=True, capture_output=True)

        for name, setting in (("warm", "seed=0"), ("warm-seeds", f"seeds={seeds}")):
            train(name, setting)
        alone = timed(lambda: [train(f"alone-{s}", f"seed={s}") for s in range(seeds)], of_children)
        together = timed(lambda: train("together", f"seeds={seeds}"), of_children)
    print(f"  one by one {_shown(alone)}, in one command {_shown(together)}")
    return np.divide(alone, together)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    import jax

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    import jlayers as jl
    from jlayers.config import load

    experiment = load(CONFIG)
    trainer = experiment.compile()
    (x, y), validation = experiment.parts
    fit = {"epochs": options.epochs, "validation_data": validation}
    numbers = range(options.seeds)

    def one_by_one():
        return [jl.fit(trainer, x, y, seed=seed, **fit) for seed in numbers]

    def together():
        return jl.fit_seeds(trainer, x, y, seeds=options.seeds, **fit)

    alone, (_, history) = one_by_one(), together()
    apart = max(
        float(np.abs(history["val_loss"][0, seed] - expected["val_loss"][0]))
        for seed, (_, expected) in enumerate(alone)
    )
    print(
        f"{options.seeds} seeds, {options.epochs} epochs, {len(jax.devices())} devices, JAX {jax.__version__}"
    )
    print(f"largest difference of a validation loss after one epoch: {apart:.1e}")
    wall, cpu = np.median(in_turns(one_by_one, together, options.rounds), axis=0)
    print(f"fit_seeds is {wall:.2f} times as fast in wall time, {cpu:.2f} times in CPU time")
    whole = commands(options.seeds, options.epochs)
    print(f"one command is {whole[0]:.2f} times as fast in wall time, {whole[1]:.2f} times in CPU time")
    print(f"goal for the command, in wall time: {GOAL:g}")
    return 0 if whole[0] >= GOAL and apart < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
