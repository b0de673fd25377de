"""Pickles of arrays, read without running anything.

A pickle is a program for a stack machine. Python's machine calls what the program names and sets attributes
of what it has made. This one has only the instructions that pickles of arrays need. A program can name what
is in `pickle_names.py` and nothing else, and it can reach into no object. Steps and copies are counted, and
keys of dicts are plain, so that a short program cannot ask for endless work.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from jlayers.core.errors import details_of
from jlayers.interop.limits import Budget, refused_file
from jlayers.interop.pickle_names import NAMES, Array, Dtype, Kind, Name, Storage, Tensor, damaged, shown

__all__ = ["flat_arrays", "read_pickle"]

_MOST_STEPS = 1_000_000
_MOST_BITS = 128  # of a whole number
_LONGEST_NAME = 1000
_LITERALS = frozenset(
    """INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8""".split()  # noqa: SIM905
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _is_plain(key: Any) -> bool:
    """True for a key of a dict whose hash takes no time, and is not easily that of many others."""
    if isinstance(key, int):
        return key.bit_length() < 64
    return isinstance(key, (str, bytes, float, type(None)))


class _Machine:
    """The stack machine that a pickle is written for, with few instructions."""

    def __init__(self, path: Any, size: int, storages: dict[str, Storage] | None):
        self.path, self.storages = path, storages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps, self.left = 0, 2 * size

    def run(self, file: Any) -> Any:
        """What the program leaves behind."""
        import pickletools

        for opcode, argument, _ in pickletools.genops(file):
            self.count(1)
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument)
        raise damaged("a program without an end")

    def count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > _MOST_STEPS:
            raise refused_file(self.path, f"a pickle of more than {_MOST_STEPS:,} steps")

    def encoded(self, text: str) -> bytes:
        """A text as bytes. All texts together make no more of them than the file has, twice."""
        self.left -= len(text)
        if self.left < 0:
            raise refused_file(self.path, "a pickle that makes more bytes than it holds")
        return text.encode("latin1")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
                raise damaged(f"a number of {argument.bit_length()} bits")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        else:
            match name:
                case "PROTO" | "FRAME":
                    pass
                case "MARK":
                    self.marks.append(len(stack))
                case "POP" if self.marks and self.marks[-1] == len(stack):
                    self.marks.pop()
                case "POP":
                    self.pop()
                case "POP_MARK":
                    self.since_mark()
                case "DUP":
                    stack.append(stack[-1])
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "LIST":
                    stack.append(self.since_mark())
                case "DICT":
                    stack.append(self.put({}, self.since_mark()))
                case "TUPLE":
                    stack.append(tuple(self.since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(reversed([self.pop() for _ in range(int(name[-1]))])))
                case "APPEND" | "APPENDS":
                    values = [self.pop()] if name == "APPEND" else self.since_mark()
                    self.top(list).extend(values)
                case "SETITEM":
                    value, key = self.pop(), self.pop()
                    self.put(self.top(dict), [key, value])
                case "SETITEMS":
                    values = self.since_mark()
                    self.put(self.top(dict), values)
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(self.memo[argument])
                case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                    place = len(self.memo) if name == "MEMOIZE" else argument
                    if place > self.steps:
                        raise damaged(f"place {place} of a memo of {self.steps}")
                    self.memo[place] = stack[-1]
                case "GLOBAL":
                    stack.append(self.named(argument.replace(" ", ".")))
                case "STACK_GLOBAL":
                    member, module = self.pop(), self.pop()
                    if not isinstance(module, str) or not isinstance(member, str):
                        raise damaged(f"the name {shown(module)}, {shown(member)}")
                    stack.append(self.named(f"{module}.{member}"))
                case "REDUCE":
                    arguments, function = self.pop(), self.pop()
                    if not isinstance(function, Name) or function.call is None:
                        raise damaged("a call of what is not a function")
                    if not isinstance(arguments, tuple):
                        raise damaged(f"a call with {shown(arguments)}")
                    self.count(len(arguments))
                    stack.append(function.call(self, *arguments))
                case "BUILD":
                    state, made = self.pop(), stack[-1]
                    if isinstance(made, (Array, Dtype)):
                        made.build(state, self)
                    elif not isinstance(made, dict):  # of which attributes, such as `_metadata`, are left out
                        raise damaged(f"a state of {shown(made)}")
                case "BINPERSID":
                    stack.append(self.storage(self.pop()))
                case _:
                    raise refused_file(self.path, f"a pickle with the opcode {name}, expected arrays only")

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise damaged("a mark in place of a value")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        """All above the last mark, which goes, too."""
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise damaged(f"expected a {kind.__name__}, received {shown(self.stack[-1])}")
        return self.stack[-1]

    def put(self, into: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
        """Keys and values by turns into a dict. Tuples in tuples are not keys: comparing them takes long."""
        for key, value in zip(values[::2], values[1::2], strict=True):
            parts = key if isinstance(key, tuple) else (key,)
            self.count(len(parts))
            if not all(map(_is_plain, parts)):
                raise damaged(f"the key {shown(key)} in a dict")
            into[key] = value
        return into

    def named(self, name: str) -> Any:
        if name not in NAMES:
            raise refused_file(
                self.path,
                f"a pickle that calls {name[:80]}, which could run code; expected arrays, dicts and tensors "
                f"only",
                "save the state_dict of the model, not the model" if name.split(".")[0] != "os" else "",
            )
        return NAMES[name]

    def storage(self, pid: Any) -> Storage:
        """The storage that a reference means."""
        if self.storages is None or not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise damaged(f"the reference {shown(pid)}")
        _, kind, key, _, count = pid[:5]
        if not isinstance(kind, Kind) or not isinstance(key, (str, int)):
            raise damaged(f"a reference to {shown(kind)} of the key {shown(key)}")
        if type(count) is not int or count < 0:
            raise damaged(f"a storage of {shown(count)} elements")
        if len(pid) > 5 and pid[5] is not None:
            raise damaged("a view of a storage, as PyTorch before 0.4 wrote them")
        known = self.storages.setdefault(str(key), Storage(str(key), kind.dtype, count))
        if (known.dtype, known.count) != (kind.dtype, count):
            raise damaged(f"two storages of the key {shown(key)}")
        return known


class _Bounded:
    """A file that reads no more than it has, whatever length a pickle declares."""

    def __init__(self, file: IO[bytes], size: int):
        self.file, self.size, self.readline, self.tell = file, size, file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, max(0, self.size - self.file.tell())))


def read_pickle(
    path: Any,
    file: IO[bytes],
    storages: dict[str, Storage] | None = None,
) -> Any:
    """The dicts, lists, numbers and arrays of one pickle, for `flat_arrays`.

    Args:
        path: for messages.
        file: at the beginning of the pickle; afterwards at its end.
        storages: where the storages that a pickle of PyTorch refers to are put, without their values.

    Raises:
        ValueError: a pickle of something else, or a damaged one.
    """
    start = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(start)
    try:
        return _Machine(path, size - start, storages).run(_Bounded(file, size))
    except Exception as error:  # of many kinds, by what is damaged
        if details_of(error).file is not None:  # told already
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise refused_file(path, f"a damaged pickle ({kind}{error})") from None


def flat_arrays(path: Any, tree: Any, budget: Budget, separator: str = ".") -> dict[str, np.ndarray]:
    """The arrays in nested dicts and lists by their path; numbers, texts and None are left out.

    Raises:
        ValueError: a structure without end, or two arrays under one path.
    """
    found: dict[str, np.ndarray] = {}
    steps = 0
    stack: list[tuple[str, Any, int]] = [("", tree, 0)]
    while stack:
        name, value, depth = stack.pop()
        steps += 1
        if depth > 20 or steps > _MOST_STEPS:
            raise refused_file(path, f"dicts in dicts without end, at {name[:80]!r}")
        if len(name) > _LONGEST_NAME:
            raise refused_file(path, f"a name of {len(name):,} characters, {name[:80]!r}")
        if isinstance(value, Mapping):
            inside = [(str(key), each) for key, each in value.items()]
        elif isinstance(value, (list, tuple)):
            inside = [(str(number), each) for number, each in enumerate(value)]
        else:
            if isinstance(value, (Array, Tensor)):
                if name in found:
                    raise refused_file(path, f"two arrays of the name {name!r}")
                found[name] = value.array(name, budget)
            continue
        stack.extend(
            (f"{name}{separator}{key}" if name else key, each, depth + 1) for key, each in reversed(inside)
        )
    return found
