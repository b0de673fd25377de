"""Signals that end a process, as exceptions that never cut a write in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupted", "Interruptions"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruptions:
    """Within its block SIGINT, SIGTERM and SIGHUP raise `Interrupted`; within `held()` they wait.

    Signals that are ignored, as under `nohup`, stay ignored; an application's own handlers stay, too. Outside
    of the main thread Python receives no signals, and the block changes nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._held = 0
        self._received: Interrupted | None = None

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = Interrupted(number)
        if not self._held:
            raise self._received

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block in which no signal raises; one that came meanwhile raises when the block ends."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()

    def hold(self) -> None:
        """From here on no signal raises: what is left to do is to write down how the run ended."""
        self._held += 1

    def check(self) -> None:
        """Raise for a signal whose exception got lost, as it does inside a `__del__` or a foreign library."""
        if self._received is not None and not self._held:
            raise self._received
