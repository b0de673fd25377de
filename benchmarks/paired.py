"""This checkout beside another one, on the workloads of `compare.py`: has a change made anything slower?

    python -m benchmarks.paired BASE [--workloads cnn,mlp] [--rounds 9] [--loops]

BASE is the root of the other checkout, such as one made by `git worktree add`. For each workload both run in
a process of their own and take turns of a fraction of a second, so that whatever else the machine does hits
both. Printed are this checkout's times by those of BASE: of a training step and of inference the median of
the rounds' ratios, by the clock and by the CPU time of all threads, which other work on the machine changes
less; of the start (init, trace, compile and first step) one ratio. `--loops` does the same for the loops
around the step of the tiny MLP. Nothing is judged.
"""

from __future__ import annotations

import argparse
import math
import pathlib
from typing import Any

from benchmarks.compare import LOOP_EPOCHS, ROOT, Worker
from benchmarks.goals import ratio
from benchmarks.loops import LOOPS, STEPS
from benchmarks.peers import HAND, OURS
from benchmarks.workloads import WORKLOADS

HEAD, BASE = "head", "base"
Times = dict[str, list[float]]


def cpu_seconds(worker: Worker) -> float:
    """The time that all threads of a worker have run, where the system tells."""
    threads = pathlib.Path(f"/proc/{worker.process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def turns(workers: dict[str, Worker], rounds: int, *command: Any) -> tuple[Times, Times]:
    """Seconds and CPU seconds of a command in each round, by worker; they take turns."""
    wall: Times = {which: [] for which in workers}
    cpu: Times = {which: [] for which in workers}
    for number in range(rounds):
        for which in list(workers)[:: 1 if number % 2 else -1]:
            before = cpu_seconds(workers[which])
            wall[which].append(workers[which].ask(*command)["seconds"])
            cpu[which].append(cpu_seconds(workers[which]) - before)
    return wall, cpu


def cells(wall: Times, cpu: Times, calls: int) -> str:
    """Both ratios, and this checkout's least time of a call."""
    least = 1e3 * min(wall[HEAD]) / calls
    by_cpu = ratio(cpu[HEAD], cpu[BASE]) if min(cpu[BASE]) > 0 else math.nan
    return f"{ratio(wall[HEAD], wall[BASE]):9.3f}{by_cpu:8.3f} ({least:9.3f} ms)"


def workload(name: str, trees: dict[str, pathlib.Path], rounds: int) -> str:
    """A line with the ratios of one workload."""
    workers = {which: Worker(OURS, root) for which, root in trees.items()}
    built = {which: worker.build(name) for which, worker in workers.items()}
    line = f"{name:14}"
    for command in ("train", "predict"):
        for worker in workers.values():  # compiles what is not compiled yet
            worker.ask(command, 1)
        calls = max(1, math.ceil(0.6 / workers[BASE].ask(command, 2)["seconds"]))
        wall, cpu = turns(workers, rounds, command, calls)
        line += cells(wall, cpu, calls)
    starts = {which: answer["init"] + answer["first"] for which, answer in built.items()}
    for worker in workers.values():
        worker.close()
    return f"{line}{starts[HEAD] / starts[BASE]:8.2f}"


def loops(trees: dict[str, pathlib.Path], rounds: int) -> list[str]:
    """A line for each loop that both checkouts have."""
    lines = []
    for library in (HAND, OURS):
        workers = {which: Worker(library, root) for which, root in trees.items()}
        for name in [name for name, (of, _) in LOOPS.items() if of == library]:
            try:
                for worker in workers.values():  # compiles it
                    worker.ask("loop", name, 1)
            except RuntimeError:
                continue
            wall, cpu = turns(workers, rounds, "loop", name, LOOP_EPOCHS)
            lines.append(f"{name:32}{cells(wall, cpu, LOOP_EPOCHS * STEPS)}")
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
    print(f"{'head / base':14}{'step':>9}{'CPU':>8}{'':15}{'inference':>10}{'CPU':>7}{'':15}{'start':>8}")
    for name in options.workloads.split(","):
        print(workload(name, trees, options.rounds), flush=True)
    for line in loops(trees, options.rounds) if options.loops else []:
        print(line, flush=True)


if __name__ == "__main__":
    main()
