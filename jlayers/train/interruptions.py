"""Signals that end a process become exceptions, which leave no state and no file half written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any

__all__ = ["ENDING", "Interrupted", "Interruptions", "interruptions"]

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interruptions:
    """Inside the block the first signal raises `Interrupted`, but waits while `busy` is above 0.

    The second signal does not wait, since the first one brings back the handlers of before: Ctrl-C raises at
    once, or, with `at_once`, the system ends the process.

    Signals that are ignored, as under `nohup`, stay ignored; an application's own handlers stay, too. Outside
    of the main thread Python receives no signals, and the block changes nothing.

    Attributes:
        busy: the number of blocks under way that must run to their end.
        received: the exception of a signal that has come, or None.
    """

    def __init__(self, names: Sequence[str] = ENDING, at_once: bool = False):
        self.names, self.at_once = names, at_once
        self.busy = 0
        self.received: Interrupted | None = None
        self._before: dict[int, Any] = {}
        self._depth = 0

    def __enter__(self) -> Interruptions:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in self.names if hasattr(signal, name)):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = Interrupted(number)
        for handled, before in self._before.items():
            signal.signal(handled, signal.SIG_DFL if self.at_once else before)
        self.check()

    def check(self) -> None:
        """Raise for a signal that has waited, or whose exception got lost in a `__del__` or a library."""
        if self.received is not None and not self.busy:
            raise self.received

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block in which the first signal waits; it raises when the block ends."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
        self.check()

    def hold(self) -> None:
        """From here on the first signal raises no more: what is left is to write down how the run ended."""
        self.busy += 1


def interruptions(names: Sequence[str] = ENDING) -> Interruptions:
    """The `Interruptions` of the block around, such as the command line's; else new ones."""
    here = threading.current_thread() is threading.main_thread()
    for name in ENDING if here else ():
        handler = signal.getsignal(getattr(signal, name)) if hasattr(signal, name) else None
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, Interruptions):
            return owner
    return Interruptions(names)
