"""The facts of an error beside its text: the refused argument, the layer, its path in the model.

Errors keep their builtin types. The `Details` beside the text are for programs, such as the configuration,
which finds the line of an argument by its name instead of reading it out of a sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from jlayers.core.shapes import describe

__all__ = [
    "Details",
    "NotFloatingError",
    "about",
    "add_name",
    "at_layer",
    "concerning",
    "details_of",
    "noted",
    "of_file",
    "part_of",
    "refused",
    "text_of",
    "told_apart",
]

Error = TypeVar("Error", bound=Exception)


@dataclasses.dataclass
class Details:
    """The facts of an error.

    Attributes:
        text: the message without the name of what raised it; None for an error that `refused` did not make.
        instead: what to do, the end of the message; None if it was not told apart.
        received: the arguments that were refused, by name.
        inside: the keys that lead from the first of these arguments to the part that is wrong.
        raised_by: the type name of the layer, or of whatever else raised it; None until that is known.
        path: path of the layer that failed in a running model, such as `encoder/dense`; "" for the
            outermost one, None outside of a model.
        note: what the error says of that layer below its text.
        file: the path of the file that cannot be used.
    """

    text: str | None = None
    instead: str | None = None
    received: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inside: tuple[str | int, ...] = ()
    raised_by: str | None = None
    path: str | None = None
    note: str | None = None
    file: str | os.PathLike[str] | None = None

    @property
    def argument(self) -> str | None:
        """The name of the first argument that was refused."""
        return next(iter(self.received), None)

    @property
    def place(self) -> tuple[str | int, ...]:
        """The path of what was refused, from the name of its argument on; () if no argument is known."""
        return () if self.argument is None else (self.argument, *self.inside)


class NotFloatingError(TypeError):
    """A layer expects fractions and received `x`, an array or spec of another kind."""

    x: Any = None


def details_of(error: BaseException) -> Details:
    """The record of an error, which starts empty."""
    return vars(error).setdefault("details", Details())


def at_layer(error: Error, path: str) -> Error:
    """The error, with the path of the layer that is to blame although it does not run."""
    details_of(error).path = path
    return error


def of_file(error: Error, path: str | os.PathLike[str]) -> Error:
    """The error, with the file that it speaks of on its record. Its text stays as it is."""
    details_of(error).file = path
    return error


def about(error: Error, /, *inside: str | int, **received: Any) -> Error:
    """The error, with the arguments that it speaks of on its record. Its text stays as it is.

    Args:
        error: any error.
        *inside: the keys that lead to the part of the first argument that is wrong.
        **received: the arguments by name.

    >>> details_of(about(KeyError("no such layer"), at="conv")).argument
    'at'
    >>> details_of(about(ValueError("two are called a"), 3, layers=[])).place
    ('layers', 3)
    """
    details = details_of(error)
    details.received, details.inside = received, inside
    return error


@contextlib.contextmanager
def concerning(*inside: str | int, **received: Any) -> Iterator[None]:
    """Within, an error that names no argument, or one with the same value, is about these; see `about`.

    What the error says of the part inside such a value stays.

    >>> with concerning(path="data.csv"):
    ...     raise ValueError("line 3 is empty")
    Traceback (most recent call last):
    ValueError: line 3 is empty
    """
    try:
        yield
    except Exception as error:
        details = details_of(error)
        inner, own = details.received.get(details.argument or ""), next(iter(received.values()))
        if details.argument is None or (inner is own and inner is not None):  # handed on, under another name
            about(error, *inside, *details.inside, **received)
        raise


@contextlib.contextmanager
def part_of(*inside: str | int, **received: Any) -> Iterator[None]:
    """Within, an error about an argument is about that part of these; see `about`.

    >>> try:
    ...     with part_of(1, pairs=[(), (1, None)]):
    ...         raise about(TypeError("expected a number"), y=None)
    ... except TypeError as error:
    ...     details_of(error).place
    ('pairs', 1, 'y')
    """
    try:
        yield
    except Exception as error:
        about(error, *inside, *details_of(error).place, **received)
        raise


def text_of(error: BaseException) -> str:
    """The text of an error; a `KeyError` would put it into quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def told_apart(error: BaseException, named: bool = True) -> tuple[str, str]:
    """The text of an error, and the advice at its end as far as its record tells them apart.

    Args:
        error: any error.
        named: the text begins with the name of what raised it, if the record has one.

    >>> told_apart(refused(TypeError, "expected a text", instead="write str(x)", x=3))
    ('expected a text, received x=3', 'write str(x)')
    >>> told_apart(KeyError("no such name; look again"))
    ('no such name; look again', '')
    """
    details = details_of(error)
    text, advice = text_of(error), details.instead or ""
    if not named and details.text is not None:
        text = details.text
    return text.removesuffix(advice).rstrip(";: ") if advice else text, advice


@contextlib.contextmanager
def noted(note: str) -> Iterator[None]:
    """Within, an error in what was given leaves with a note that says where it was.

    >>> with noted("in the validation data"):
    ...     raise ValueError("expected 3 rows")
    Traceback (most recent call last):
    ValueError: expected 3 rows
    in the validation data
    """
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        error.add_note(note)
        raise


def _shown(value: Any, most: int = 400) -> str:
    """A value for a message; of a very long one, such as a vocabulary, the beginning."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 4] + " ..."


def refused(
    kind: type[Error],
    expected: str,
    /,
    *inputs: Any,
    instead: Any = "",  # Any, so that pyright takes **{name: value}
    raised_by: Any = None,
    **received: Any,
) -> Error:
    """An error to raise, with what was received and what to do about it.

    Inside a layer leave `raised_by` out: `@layer` puts the layer's name before the text, whether the
    constructor, `init` or `apply` raised it.

    Args:
        kind: the type of the error.
        expected: the text up to what was received.
        *inputs: arrays or specs that were received.
        instead: what to do.
        raised_by: the name of what raises it, where no layer does.
        **received: arguments that were received, by name; the first is the one to look at.

    >>> refused(ValueError, "expected units to be a positive whole number", units=-1)
    ValueError('expected units to be a positive whole number, received units=-1')
    >>> raise refused(TypeError, "expected a text", instead="write str(x)", raised_by="shout", x=3)
    Traceback (most recent call last):
    TypeError: shout: expected a text, received x=3; write str(x)
    """
    shown = [*(f"{name}={_shown(value)}" for name, value in received.items()), *map(describe, inputs)]
    text = expected + (f", received {', '.join(shown)}" if shown else "")
    if instead:
        text += f": {instead}" if instead.endswith("?") else f"; {instead}"  # as in "did you mean 'same'?"
    error = kind(f"{raised_by}: {text}" if raised_by else text)
    vars(error)["details"] = Details(text, instead, received, raised_by=raised_by)
    return error


def add_name(error: Exception, name: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Put the name of what raised a `refused` error before its text, unless a name stands there already.

    If it was raised for an argument that came unchanged out of `arguments`, those of a call around it, the
    name of the outer call takes the place of the inner one: it is what the user wrote. An empty name adds
    nothing.
    """
    details = details_of(error)
    if details.text is None or not name:
        return
    passed_on = any(
        argument in arguments and arguments[argument] is value for argument, value in details.received.items()
    )
    if details.raised_by is None or passed_on:
        details.raised_by = name
        error.args = (f"{name}: {details.text}", *error.args[1:])
