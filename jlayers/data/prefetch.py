"""Items of an iterator made in a thread, a few ahead of their use, and the time spent waiting for them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import jax

__all__ = ["AHEAD", "Ahead", "Waiting"]

AHEAD = 2  # batches that wait on the device for their step

T = TypeVar("T")


class Waiting:
    """The time in which the device had nothing to do because no data were there.

    Attributes:
        seconds: waited in all.
        passed: the seconds in which it could have been waited: those spent in epochs.

    >>> waiting = Waiting()
    >>> waiting.seconds, waiting.passed = 2.0, 8.0
    >>> waiting.share
    0.25
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.passed = 0.0

    @property
    def share(self) -> float:
        """The part of the time that was waited, in [0, 1]."""
        return self.seconds / self.passed if self.passed else 0.0

    def copy(self) -> Waiting:
        """The same numbers, which no longer change."""
        made = Waiting()
        made.seconds, made.passed = self.seconds, self.passed
        return made

    def since(self, before: Waiting) -> Waiting:
        """The time that was added since an earlier copy."""
        made = Waiting()
        made.seconds, made.passed = self.seconds - before.seconds, self.passed - before.passed
        return made


class _Raised:
    """An error of the source on its way to who asked for the item."""

    def __init__(self, error: BaseException):
        self.error = error


_END = object()


class Ahead(Generic[T]):
    """An iterator whose items a thread makes ahead of time; leave its context to end the thread.

    Items come in their order. An error of the source is raised where its item would have come.

    Args:
        items: makes the iterator, in the thread.
        move: applied to each item in the thread, such as the way to the device.
        waiting: adds up the time waited.
        depth: how many items are made ahead.

    >>> with Ahead(lambda: iter(range(4)), lambda n: n * n) as squares:
    ...     list(squares)
    [0, 1, 4, 9]
    """

    def __init__(
        self,
        items: Callable[[], Iterator[Any]],
        move: Callable[[Any], T],
        waiting: Waiting | None = None,
        depth: int = AHEAD,
    ):
        self.items, self.move = items, move
        self.waiting = Waiting() if waiting is None else waiting
        self.until: Callable[[], Any] = lambda: None  # waits for what the device still has to do
        settings = jax.config.values  # of the thread that takes the items: JAX keeps them by thread
        self._settings = settings["jax_enable_x64"], settings["jax_default_device"]
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._peeked: Any = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jlayers-data", daemon=True)

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the thread. One that is stuck in its source ends with the item that it is at."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join(timeout=2.0)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item, self._peeked = self._peeked if self._peeked is not None else self._get(), None
        if isinstance(item, _Raised):
            raise item.error
        if item is _END:
            raise StopIteration
        return item

    def ended(self) -> bool:
        """True if there is no further item; waits for the next one if it is not there yet."""
        if self._peeked is None:
            self._peeked = self._get()
        return self._peeked is _END

    def _get(self) -> Any:
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        self.until()
        begun = time.perf_counter()
        item = self._queue.get()
        self.waiting.seconds += time.perf_counter() - begun
        return item

    def _work(self) -> None:
        x64, device = self._settings
        with jax.enable_x64(x64), jax.default_device(device):
            self._make()

    def _make(self) -> None:
        items: Any = iter(())
        try:
            items = self.items()
            for item in items:
                if not self._put(self.move(item)):
                    break
            else:
                self._put(_END)
        except BaseException as error:
            self._put(_Raised(error))
        finally:
            if hasattr(items, "close"):
                items.close()

    def _put(self, item: Any) -> bool:
        """Hands an item over; False if nobody wants it any more."""
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.05)
                return True
        return False
