"""jlayers and the other libraries, side by side: one command, one table, one picture.

    python -m benchmarks.compare [--quick] [--workloads cnn,mlp] [--libraries jlayers,linen] [--rounds 9]
                                 [--scaling] [--output benchmarks/results/compare]

Every library runs in a process of its own (`worker.py`) and works only when told to. They take turns: each
round gives each a fraction of a second, in an order that rotates, so that whatever else the machine does hits
all of them. Writes OUTPUT.md, OUTPUT.json and OUTPUT.png. The exit code is 1 if a library could not be run or
did something else than the others: other parameters, or a loss that does not fall.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import report
from benchmarks.goals import median
from benchmarks.loops import LOOPS
from benchmarks.peers import HAND, LIBRARIES, OURS, package
from benchmarks.workloads import CLASSES, WORKLOADS, expected_parameters, sizes

ROOT = pathlib.Path(__file__).parent.parent
QUICK = ("cnn", "mlp", "lstm", "tiny_mlp")
# A step of a few milliseconds differs by a tenth between processes of the same program. So there are more
# pairs of processes of jlayers and JAX by hand, whose ratios are goals, and sets of those that run the loops.
STARTS = {"mlp": 7}
LOOP_STARTS = 3
LOOP_EPOCHS = 16  # so many that what a call of `fit` takes once does not count as a cost per step
# By axis of the scaling: the workload, its field, and the values.
SCALING = {
    "batch of the CNN": ("cnn", "batch", (32, 128, 512)),
    "layers of the transformer": ("transformer", "layers", (1, 2, 4, 8)),
    "width of the MLP": ("mlp", "widths", ((256, 256), (1024, 1024), (2048, 2048))),
}
# A cache of compiled programs would hide what compiling takes; flags would make other programs; and without
# the compiled files that Python keeps and installed packages have, jlayers alone would be parsed each time.
UNSET = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", "PYTHONDONTWRITEBYTECODE")


class Worker:
    """A library's process, of this checkout or another one; see `benchmarks/worker.py`."""

    def __init__(self, library: str, root: pathlib.Path = ROOT):
        self.library = library
        environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several share a GPU's memory
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as the process
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=root,
            env=environment,
        )

    def ask(self, *command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.errors.seek(0)
            message = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        else:
            result = json.loads(answer)
            message = result.get("error")
        if message:
            raise RuntimeError(f"{LIBRARIES[self.library]}: {' '.join(map(str, command[:2]))}: {message}")
        return result

    def build(self, workload: str, **changes: Any) -> dict[str, Any]:
        """What `build` answers, and the seconds since the process was begun."""
        built = self.ask("build", workload, changes)
        return {**built, "first_step": time.perf_counter() - self.begin}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.communicate()  # the end of its input ends it


class Comparison:
    """A run: its settings, and the results so far."""

    def __init__(self, libraries: list[str], rounds: int, slice_seconds: float):
        self.libraries = libraries
        self.rounds = rounds
        self.slice = slice_seconds
        self.problems: list[str] = []

    def attempt(self, function: Any, *arguments: Any) -> Any:
        """The function's result; None, and a line among the problems, where a library fails."""
        try:
            return function(*arguments)
        except RuntimeError as error:
            self.problems.append(str(error))
            return None

    def compile_imports(self) -> None:
        """Import each library once: Python writes its compiled files, and the system reads them."""
        for library in self.libraries:
            Worker(library).close()

    def take_turns(self, workers: dict[str, Worker], command: str) -> dict[str, list[float]]:
        """Seconds per call of `command` in each round."""
        calls = {}
        for library, worker in workers.items():
            worker.ask(command, 1)  # compiles what is not compiled yet
            calls[library] = max(1, math.ceil(self.slice / worker.ask(command, 2)["seconds"] * 2))
        times: dict[str, list[float]] = {library: [] for library in workers}
        order = list(workers)
        for number in range(self.rounds):
            start = number % len(order)
            for library in order[start:] + order[:start]:
                seconds = workers[library].ask(command, calls[library])["seconds"]
                times[library].append(seconds / calls[library])
        return times

    def workload(self, name: str) -> dict[str, Any]:
        """Everything that is measured of one workload, by library."""
        workers: dict[str, Worker] = {}
        measured: dict[str, Any] = {}
        for library in self.libraries:
            worker = Worker(library)
            if built := self.attempt(worker.build, name):
                workers[library] = worker
                parts = {part: [built[part]] for part in ("first_step", "import", "init", "first")}
                measured[library] = {**parts, "parameters": built["parameters"], "loss": [built["loss"]]}
        for command in ("train", "predict"):
            for library, times in self.take_turns(workers, command).items():
                measured[library][command] = times
        for library, worker in workers.items():
            used = worker.ask("memory")
            measured[library] |= {key: [value] if value else [] for key, value in used.items()}
            measured[library]["loss"].append(worker.ask("train", 1)["loss"])
            measured[library]["logits"] = worker.ask("predict", 1)["shape"]
            worker.close()
        if self.rounds > 3:
            for _ in range(STARTS.get(name, 0)):
                self.attempt(self.start_again, name, measured)
        self.problems += check(name, measured)
        return measured

    def start_again(self, name: str, measured: dict[str, Any]) -> None:
        """A fresh pair of those two: their start, and the median of their steps, as `fresh`."""
        pair, built = {}, {}
        for library in [each for each in (OURS, HAND) if each in measured]:
            pair[library] = Worker(library)
            built[library] = pair[library].build(name)
        times = self.take_turns(pair, "train")
        for library, worker in pair.items():
            for part in ("first_step", "import", "init", "first"):
                measured[library][part].append(built[library][part])
            measured[library].setdefault("fresh", []).append(median(times[library]))
            worker.close()

    def loops(self) -> dict[str, list[float]]:
        """Seconds per step of each loop, in each round of each set of processes."""
        times: dict[str, list[float]] = {}
        for _ in range(LOOP_STARTS if self.rounds > 3 else 1):
            workers = {library: Worker(library) for library in self.libraries}
            names = [name for name, (library, _) in LOOPS.items() if library in workers]
            for name in names:  # compiles it
                workers[LOOPS[name][0]].ask("loop", name, 1)
            for _ in range(self.rounds):
                for name in names:
                    took = workers[LOOPS[name][0]].ask("loop", name, LOOP_EPOCHS)
                    times.setdefault(name, []).append(took["seconds"] / took["steps"])
            for worker in workers.values():
                worker.close()
        return times

    def scaling(self) -> dict[str, Any]:
        """Step and compile time over batch, depth and width; one process per library for all of it."""
        workers = {library: Worker(library) for library in self.libraries}
        found: dict[str, Any] = {}
        for axis, (workload, field, values) in SCALING.items():
            found[axis] = {}
            for value in values:
                built = {
                    library: worker.build(workload, **{field: value}) for library, worker in workers.items()
                }
                times = self.take_turns(workers, "train")
                found[axis][str(value)] = {
                    library: {
                        "train": times[library],
                        "build": [built[library]["init"] + built[library]["first"]],
                    }
                    for library in workers
                }
        for worker in workers.values():
            worker.close()
        return found


def check(name: str, measured: dict[str, Any]) -> list[str]:
    """Faults that would make a comparison unfair: other parameters or shapes, a loss that does not fall."""
    faults = []
    workload = WORKLOADS[name]
    for library, found in measured.items():
        label = f"{LIBRARIES[library]}, {name}"
        if OURS in measured:
            expected = expected_parameters(library, workload, measured[OURS]["parameters"])
            if found["parameters"] != expected:
                faults.append(f"{label}: {found['parameters']:,} parameters, expected {expected:,}")
        if found["logits"] != [workload.batch, CLASSES]:
            faults.append(f"{label}: logits of shape {found['logits']}")
        first, last = found["loss"]
        if not last < first:
            faults.append(f"{label}: the loss went from {first:.3f} to {last:.3f}")
        if not 0.5 < first / math.log(CLASSES) < 2:
            faults.append(f"{label}: a first loss of {first:.3f}, expected about {math.log(CLASSES):.3f}")
    return faults


def versions(libraries: list[str]) -> dict[str, str]:
    packages = {"jax", "jaxlib", "optax", "numpy", *filter(None, map(package, libraries))}
    return {name: importlib.metadata.version(name) for name in sorted(packages)}


def installed(library: str) -> bool:
    name = package(library)
    try:
        return name is None or bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def machine() -> dict[str, Any]:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load before": os.getloadavg()[0],
    }


def names(text: str, known: Any) -> list[str]:
    chosen = text.split(",")
    if wrong := [name for name in chosen if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: choose from {', '.join(known)}")
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", type=lambda text: names(text, WORKLOADS))
    parser.add_argument("--libraries", type=lambda text: names(text, LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--rounds", type=int, help="turns of each library (9, or 3 with --quick)")
    parser.add_argument(
        "--quick", action="store_true", help="fewer workloads and rounds, to see that it runs"
    )
    parser.add_argument("--scaling", action="store_true", help="also over batch, depth and width")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "compare")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    libraries = [library for library in options.libraries if installed(library)]
    absent = [LIBRARIES[library] for library in options.libraries if library not in libraries]
    run = Comparison(libraries, options.rounds or (3 if options.quick else 9), 0.03 if options.quick else 0.1)
    begin = time.perf_counter()
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(libraries),
        "absent": absent,
        "rounds": run.rounds,
        "sizes": {},
        "workloads": {},
        "problems": run.problems,
    }

    def progress(what: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f} s  {what}", flush=True)

    progress("imports")
    run.compile_imports()
    for name in options.workloads or (QUICK if options.quick else WORKLOADS):
        progress(name)
        results["sizes"][name] = sizes(WORKLOADS[name])
        results["workloads"][name] = run.attempt(run.workload, name) or {}
    progress("loops")
    results["loops"] = run.attempt(run.loops) or {}
    if options.scaling:
        progress("scaling")
        results["scaling"] = run.attempt(run.scaling) or {}
    results["seconds"] = time.perf_counter() - begin
    for path in report.write(results, options.output):
        progress(str(path))
    print(report.goals_table(results), *run.problems, sep="\n")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
