"""`jlayers train` as a process of a sweep: it ends when the sweep's process ends, for whatever reason."""

from __future__ import annotations

import os
import signal
import sys
import threading

from jlayers.cli import main

__all__: list[str] = []


def _end_with_standard_input() -> None:
    """The other end of standard input is the sweep's; the system closes it when the sweep ends."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    sys.exit(main(["train", *sys.argv[1:]]))
