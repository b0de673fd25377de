"""Processes, and the question whether one still runs."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
from typing import Any

__all__ = ["has_ended", "this_process"]


def this_process() -> dict[str, Any]:
    """This process as plain data: the host, the process number, and when it started.

    Process numbers are used again; together with the start they name one process.
    """
    return {"host": platform.node(), "pid": os.getpid(), "started": _start_time(os.getpid())}


def has_ended(process: Any) -> bool:
    """True if a process, as `this_process` wrote it, is known to have ended.

    False for a process on another host, about which nothing is known here.

    >>> has_ended(this_process()), has_ended({**this_process(), "started": "before"})
    (False, True)
    """
    if os.name != "posix" or not isinstance(process, dict) or process.get("host") != platform.node():
        return False
    pid = process.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    if (started := _start_time(pid)) is not None:
        return started != process.get("started")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, and belongs to someone else
        return False
    return False


def _start_time(pid: int) -> str | None:
    """The start time of a process, in the system's words; None if there is no such process or no answer."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _started_by_ps(pid)
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return "ended" if state == "Z" else f"{boot} {fields[18]}"  # Z: ended, but its parent has not asked yet


def _started_by_ps(pid: int) -> str | None:
    try:
        done = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
