"""How much longer does `import jlayers` take than `import jax, optax`, which it cannot do without?

Each import runs in a process of its own, in turns, so that a busy machine slows both alike; a first run of
each is not counted, since it writes the compiled files that Python keeps.

    python benchmarks/import_time.py [--runs 7]

The exit code is 1 if the medians differ by 0.3 s or more. The shortest times, which other processes disturbed
least, stand beside them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

LIMIT = 0.3
STATEMENTS = {"jax, optax": "import jax, optax", "jlayers": "import jlayers"}


def seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    for statement in STATEMENTS.values():
        seconds(statement)
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(runs):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    for name, taken in times.items():
        print(
            f"import {name:<12}shortest {min(taken):.3f} s, median {statistics.median(taken):.3f} s, "
            f"longest {max(taken):.3f} s of {runs}"
        )
    for label, pick in {"shortest": min, "median": statistics.median}.items():
        base, ours = map(pick, times.values())
        print(f"{label + ':':<10}difference {ours - base:+.3f} s (limit {LIMIT} s), ratio {ours / base:.2f}")
    base, ours = map(statistics.median, times.values())
    return 0 if ours - base < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
