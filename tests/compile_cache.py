"""Compiled programs of the tests are kept from run to run, in the user's cache folder.

A program fits the JAX that made it, the flags that it was made with and the processor, so that each of these
has a folder of its own. Of two processes that write one entry the last wins, and a half-written one is read
with a warning and compiled again (`filterwarnings` in pyproject.toml).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import sys
import time

DAYS = 30  # what was not used for so long goes
BYTES = 2**30  # beyond this the programs go that were used longest ago


def root() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(home).expanduser() / "jlayers" / "tests"


def processor() -> str:
    """The features that compiled code may use."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.split(":", 1)[1].split()))
    return platform.processor()


def key() -> str:
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib")]
    python = sys.implementation.cache_tag
    facts = [*versions, python, platform.machine(), processor(), os.environ.get("XLA_FLAGS", "")]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
    return f"jax{versions[0]}-{python}-{digest}"


def folder() -> str:
    made = root() / key()
    made.mkdir(parents=True, exist_ok=True)
    return str(made)


def used(path: pathlib.Path) -> float:
    stat = path.stat()
    return max(stat.st_atime, stat.st_mtime)


def prune(kept: pathlib.Path, now: float | None = None) -> None:
    """Drop what is old or too much; what another run drops at the same time is not an error."""
    oldest = (time.time() if now is None else now) - DAYS * 86400
    programs = []
    for entry in kept.glob("*/*"):
        with contextlib.suppress(OSError):
            programs.append((used(entry), entry.stat().st_size, entry))
    total = 0
    for last, size, entry in sorted(programs, reverse=True):
        total += size
        if last < oldest or total > BYTES:
            with contextlib.suppress(OSError):
                entry.unlink()
    for keyed in kept.glob("*"):
        if used(keyed) < oldest and not any(keyed.iterdir()):
            shutil.rmtree(keyed, ignore_errors=True)
