"""Standard output and error that take any text, and that may lose their reader."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["console", "lasting_streams", "no_lost_loops", "number", "remark", "remarks"]

_FALLBACK = "jlayers.closest"
# What our tables and bars are drawn with; each takes one column, so that tables stay straight.
_PLAIN = {
    **dict.fromkeys("─━═╌╴╶╸╺", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╇╈┡┩", "+"),
    **dict.fromkeys("–—−", "-"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    "…": "~",
    "×": "x",
    "±": "~",
    "·": ".",
}


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""For characters that a terminal's encoding lacks: our own in ASCII, others as `\u1234`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    plain = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in wanted)
    return "".join(plain), error.end


class _Lasting(io.FileIO):
    """A file that swallows what is written once its reader, such as `head`, or its terminal has gone.

    Remarks on standard error are swallowed after any error, such as a full disk below a log; results are not.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EIO) or self.fileno() == 2:
                return len(memoryview(data).cast("B"))
            raise


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Within the block no character and no lost reader makes `sys.stdout` or `sys.stderr` fail."""
    codecs.register_error(_FALLBACK, _in_ascii)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_as_lasting_stream, before)
    try:
        yield
    finally:
        made = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = before
        for stream in made:
            with contextlib.suppress(
                AttributeError, OSError
            ):  # no stream at all, or a full disk, told already
                stream.flush()


def _as_lasting_stream(stream: Any) -> Any:
    try:
        number = stream.fileno()
        stream.flush()
    except (AttributeError, OSError, ValueError):  # no file of the system: a notebook, a test
        return stream
    file = io.BufferedWriter(_Lasting(number, "wb", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, _FALLBACK, line_buffering=True)


@contextlib.contextmanager
def no_lost_loops() -> Iterator[None]:
    """Within the block nothing is printed of an event loop that is closed already.

    Where one piece of a checkpoint cannot be written, as beyond a quota, TensorStore's other pieces find the
    loop closed that they report to. A `CheckpointWarning` tells of the checkpoint.
    """
    usual = sys.unraisablehook

    def hook(told: Any) -> None:
        if not (isinstance(told.exc_value, RuntimeError) and str(told.exc_value) == "Event loop is closed"):
            usual(told)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def console(stderr: bool = False) -> Any:
    """A console on standard output or error; text is shown as it is, markup has no meaning in it."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, soft_wrap=True)


def remark(text: str) -> None:
    console(stderr=True).print(text, style="yellow")


@contextlib.contextmanager
def remarks() -> Iterator[None]:
    """A block in which what is said of a run is printed for people."""
    from jlayers.runs import RunWarning
    from jlayers.saving.checkpoints import CheckpointWarning

    shown = (RunWarning, CheckpointWarning)
    with warnings.catch_warnings():
        for kind in shown:
            warnings.simplefilter("always", kind)
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **options: Any) -> None:
            if issubclass(category, shown):
                remark(str(message))
            else:
                usual(message, category, *rest, **options)

        warnings.showwarning = show
        yield


def number(name: str, value: float | None) -> str:
    """A result for a table: percent for an accuracy."""
    if value is None:
        return ""
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"
