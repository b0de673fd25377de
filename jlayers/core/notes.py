"""Notes on errors that pass through layers, and calls to observers of the layers that run."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jlayers.core.errors import details_of
from jlayers.core.shapes import describe
from jlayers.core.tree import join

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = ["current_path", "note_errors", "observe", "report"]

_path: contextvars.ContextVar[str] = contextvars.ContextVar("path", default="")
_observer: contextvars.ContextVar[Callable[..., None] | None] = contextvars.ContextVar(
    "observer", default=None
)


@contextlib.contextmanager
def note_errors(name: str, child: Layer, inputs: Any) -> Iterator[None]:
    """Let an error keep its type and gain a note with the layer's path, repr and inputs on its way out."""
    outer = _path.get()
    token = _path.set(join(outer, name))
    try:
        yield
    except Exception as error:
        details = details_of(error)
        if not details.path:  # the innermost layer, which knows the whole path
            details.path = join(outer, name)
            details.note = f"in layer {details.path!r}: {_short(child)}, inputs {describe(inputs) or 'none'}"
            error.add_note(details.note)
        raise
    finally:
        _path.reset(token)


def _short(child: Layer, width: int = 200) -> str:
    text = repr(child)
    return text if len(text) <= width else text[: width - 4] + "...)"


def current_path() -> str:
    """The path of the layer that runs now; '' outside of all, and in the outermost one."""
    return _path.get()


@contextlib.contextmanager
def observe(observer: Callable[..., None]) -> Iterator[None]:
    """Call `observer(path, layer, params, state, inputs, output)` after each child has run.

    Observers from outside are called, too.
    """
    outer = _observer.get()

    def both(*call: Any) -> None:
        if outer:
            outer(*call)
        observer(*call)

    token = _observer.set(both)
    try:
        yield
    finally:
        _observer.reset(token)


def report(name: str, child: Layer, params: Any, state: Any, inputs: Any, output: Any) -> None:
    """Tell the observers, if there are any, that a child has run."""
    if observer := _observer.get():
        observer(join(_path.get(), name), child, params, state, inputs, output)
