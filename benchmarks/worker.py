"""One library in a process of its own, which works only when it is told to.

    python -m benchmarks.worker LIBRARY

reads one command per line of standard input, as JSON, and answers each with one line:

- `["build", name, changes]`: build the workload of that name, some of its fields changed, and take a step;
- `["train", steps]`, `["predict", calls]`: do it, and say how many seconds it took;
- `["loop", name, epochs]`: one run of a loop of `benchmarks/loops.py`;
- `["memory"]`: what the compiled step and the process needed.

What fails is answered by `{"error": message}`.

Between commands it sleeps. So several libraries can take turns at fractions of a second, and whatever
else the machine does hits all of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import time
from typing import Any

MEGA = 2**20


def resident(peak: bool) -> int | None:
    """Bytes of memory that this process has now, or had at most; None where the system does not say."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return None
    field = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if field in line)


class Worker:
    def __init__(self, library: str):
        from benchmarks import peers

        begin = time.perf_counter()
        self.load = peers.load(library)
        self.import_seconds = time.perf_counter() - begin
        self.baseline = resident(peak=False)
        self.program: Any = None

    def build(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.workloads import WORKLOADS

        changes = {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
        begin = time.perf_counter()
        self.program = self.load(dataclasses.replace(WORKLOADS[name], **changes))
        built = time.perf_counter()
        loss = self.program.train(1)
        stepped = time.perf_counter()
        return {
            "import": self.import_seconds,
            "init": built - begin,
            "first": stepped - built,
            "loss": loss,
            "parameters": self.program.parameters,
        }

    def train(self, steps: int) -> dict[str, float]:
        begin = time.perf_counter()
        loss = self.program.train(steps)
        return {"seconds": time.perf_counter() - begin, "loss": loss}

    def predict(self, calls: int) -> dict[str, Any]:
        begin = time.perf_counter()
        logits = self.program.predict(calls)
        return {"seconds": time.perf_counter() - begin, "shape": tuple(logits.shape)}

    def loop(self, name: str, epochs: int) -> dict[str, float]:
        from benchmarks import loops

        return {"seconds": loops.run(name, epochs), "steps": epochs * loops.STEPS}

    def memory(self) -> dict[str, int | None]:
        peak = resident(peak=True)
        grown = None if peak is None or self.baseline is None else peak - self.baseline
        return {"program": self.program.memory(), "process": grown}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # what a library prints goes to standard error
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = getattr(worker, command)(*arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
