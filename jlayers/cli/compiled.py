"""Compiled programs are kept in the user's cache folder: a second start of an experiment compiles nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["Compiled", "kept_programs"]

VARIABLE = "JLAYERS_COMPILE_CACHE"
DAYS = 30  # what was not used for so long goes
BYTES = 2**30  # beyond this the programs go that were used longest ago


class Compiled:
    """The programs that a block compiled, and those that came from the folder.

    Attributes:
        folder: where programs are kept; None if they are not.
        own: the folder is ours and not one that JAX was told of.
        seconds: that compiling took, the reading of kept programs included.
        fresh: how many programs were compiled.
        kept: how many came from the folder.
    """

    def __init__(self, folder: pathlib.Path | None, own: bool):
        self.folder, self.own = folder, own
        self.seconds, self.fresh, self.kept = 0.0, 0, 0

    def took(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += duration_secs
            self.fresh += 1

    def count_event(self, event: str, **kwargs: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            self.kept += 1
            self.fresh -= 1

    def __str__(self) -> str:
        from jlayers.train.progress import duration

        programs = f"{self.fresh} program{'s' * (self.fresh != 1)}"
        took = f"compiling took {duration(self.seconds)} for {programs}"
        if self.folder is None:
            return took
        if not self.fresh:
            took = f"nothing was compiled: {self.kept} programs were read in {duration(self.seconds)}"
        elif self.kept:
            took += f", {self.kept} more were kept from before"
        off = f"; off with --no-compile-cache or {VARIABLE}=0" if self.own else ""
        return f"{took} (kept in {_short(self.folder)}{off})"


def _short(path: pathlib.Path) -> str:
    with contextlib.suppress(ValueError):
        return f"~/{path.relative_to(pathlib.Path.home())}"
    return str(path)


@contextlib.contextmanager
def kept_programs(wanted: bool) -> Iterator[Compiled]:
    """A block whose compiled programs are kept, unless the user does not want it.

    A folder that JAX was told of, such as by `JAX_COMPILATION_CACHE_DIR`, stays. Our own is
    `jlayers/programs` in `XDG_CACHE_HOME` or `~/.cache`, with a folder for each kind of processor. Only this
    user can read and write it, because a program that is read is run.
    """
    import jax
    import jax.monitoring

    off = not wanted or os.environ.get(VARIABLE, "") in ("0", "false", "off")
    told = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    folder = pathlib.Path(told) if told else None if off else _folder()
    compiled = Compiled(None if off else folder, own=not told)
    options = {"jax_enable_compilation_cache": False} if off else {}
    if not off and not told and folder is not None:
        options = {
            "jax_compilation_cache_dir": str(folder),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    jax.monitoring.register_event_duration_secs_listener(compiled.took)
    jax.monitoring.register_event_listener(compiled.count_event)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(compiled.took)
        jax.monitoring.unregister_event_listener(compiled.count_event)
        for name, value in before.items():
            jax.config.update(name, value)


def _folder() -> pathlib.Path | None:
    """Our folder, made and swept; None where there can be none, such as in a read-only home."""
    from jlayers.runs.environment import processor_features

    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = home / "jlayers" / "programs" / hashlib.sha256(processor_features().encode()).hexdigest()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return None
    except OSError:
        return None
    _sweep(folder)
    return folder if os.access(folder, os.W_OK) else None


def _sweep(folder: pathlib.Path) -> None:
    """Drops what is old or too much; what another process drops at the same time is not an error."""
    programs = []
    for entry in folder.glob("*"):
        with contextlib.suppress(OSError):
            found = entry.stat()
            programs.append((max(found.st_atime, found.st_mtime), found.st_size, entry))
    oldest, total = time.time() - DAYS * 86400, 0
    for used, size, entry in sorted(programs, reverse=True):
        total += size
        if used < oldest or total > BYTES:
            with contextlib.suppress(OSError):
                entry.unlink()
