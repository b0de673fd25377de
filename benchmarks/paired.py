"""This checkout beside another one, on the workloads of `compare.py`: has a change made anything slower?

    python -m benchmarks.paired BASE [--workloads cnn,mlp] [--rounds 9] [--loops]

BASE is the root of the other checkout, such as one made by `git worktree add`. For each workload both run in
a process of their own and take turns of a fraction of a second, so that whatever else the machine does hits
both. Printed are this checkout's times by those of BASE: of a training step and of inference the median of
the rounds' ratios, of the start (init, trace, compile and first step) one ratio. `--loops` does the same for
the loops around the step of the tiny MLP that jlayers runs. Nothing is judged.
"""

from __future__ import annotations

import argparse
import pathlib

from benchmarks.compare import LOOP_EPOCHS, ROOT, Comparison, Worker
from benchmarks.goals import ratio
from benchmarks.loops import LOOPS
from benchmarks.peers import OURS
from benchmarks.workloads import WORKLOADS

HEAD, BASE = "head", "base"


def workload(name: str, trees: dict[str, pathlib.Path], rounds: int) -> str:
    """A line with the ratios of one workload."""
    workers = {which: Worker(OURS, root) for which, root in trees.items()}
    built = {which: worker.build(name) for which, worker in workers.items()}
    turns = Comparison([], rounds, 0.3)
    cells = []
    for command in ("train", "predict"):
        times = turns.take_turns(workers, command)
        cells.append(f"{ratio(times[HEAD], times[BASE]):8.3f} ({1e3 * min(times[HEAD]):9.3f} ms)")
    starts = {which: answer["init"] + answer["first"] for which, answer in built.items()}
    for worker in workers.values():
        worker.close()
    return f"{name:12}{cells[0]}{cells[1]}{starts[HEAD] / starts[BASE]:8.2f}"


def loops(trees: dict[str, pathlib.Path], rounds: int) -> list[str]:
    """A line for each of our loops that both checkouts have."""
    workers = {which: Worker(OURS, root) for which, root in trees.items()}
    lines = []
    for name in [name for name, (library, _) in LOOPS.items() if library == OURS]:
        try:
            for worker in workers.values():  # compiles it
                worker.ask("loop", name, 1)
        except RuntimeError:
            continue
        times: dict[str, list[float]] = {which: [] for which in workers}
        for number in range(rounds):
            for which in list(workers)[:: 1 if number % 2 else -1]:
                times[which].append(workers[which].ask("loop", name, LOOP_EPOCHS)["seconds"])
        lines.append(f"{name:40}{ratio(times[HEAD], times[BASE]):8.3f}")
    for worker in workers.values():
        worker.close()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description=__doc__.splitlines()[0])
    parser.add_argument("base", type=pathlib.Path, help="root of the other checkout")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="names with commas between them")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--loops", action="store_true", help="the loops around the step, too")
    options = parser.parse_args()
    if not (options.base / "benchmarks" / "worker.py").exists():
        parser.error(f"expected the root of a checkout, received {options.base}")
    trees = {HEAD: ROOT, BASE: options.base.resolve()}
    print(f"{'head / base':12}{'step':>8}{'':15}{'inference':>8}{'':14}{'start':>8}")
    for name in options.workloads.split(","):
        print(workload(name, trees, options.rounds), flush=True)
    for line in loops(trees, options.rounds) if options.loops else []:
        print(line, flush=True)


if __name__ == "__main__":
    main()
