"""Errors as a few lines for people."""

from __future__ import annotations

import errno
import linecache

from jlayers.core.errors import text_of

__all__ = ["explained"]

# Errors whose text was written for users of jlayers; others are shown with their class.
_PLAIN = (ValueError, TypeError, KeyError, OSError, ImportError, ArithmeticError)
_FIXES = {errno.ENOSPC: "; make room on the disk", errno.EDQUOT: "; make room in your quota"}


def explained(error: BaseException) -> str:
    """An error as text: what is wrong, in which layer, at which line of the user's own code."""
    from jlayers.runs.own_code import OwnCodeError, place_in_own_code

    lines = [_said(error)]
    lines += [f"  {note}" for note in getattr(error, "__notes__", []) if "JAX has removed" not in note]
    if not isinstance(error, OwnCodeError) and (place := place_in_own_code(error)):
        file, _, number = place.rpartition(":")
        lines.append(f"  at {place}: {linecache.getline(file, int(number)).strip()}")
    return "\n".join(lines)


def _said(error: BaseException) -> str:
    name = type(error).__name__
    text = text_of(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        fix = _FIXES.get(error.errno or 0, "")
        return f"{error.filename}: {error.strerror}{fix}"
    if isinstance(error, RecursionError):
        return (
            "the model is nested too deep, or its graph is too long a chain, for Python's stack: use fewer "
            "levels, or Repeat for a block that comes many times"
        )
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        first = (text.splitlines() or [""])[0]
        return (
            f"out of memory{f' ({first})' if first else ''}: use a smaller batch_size, a smaller model, or "
            f"precision: mixed_bfloat16"
        )
    if isinstance(error, _PLAIN):
        return text or name
    return f"{name}: {text or 'no further word'} (--debug shows where)"
