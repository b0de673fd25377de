"""Pickles of arrays, read without running anything.

A pickle is a program for a stack machine. Python's machine calls what the program names and sets attributes
of what it has made. This one has only the instructions that pickles of arrays need. A program can name
functions of this file, which build arrays of numbers and nothing else, and it can reach into no object. Steps
and copies are counted, and keys of dicts are plain, so that a short program cannot ask for endless work.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import details_of
from jlayers.interop.limits import Budget, refused_file

__all__ = ["Storage", "flat_arrays", "read_pickle"]

_MOST_STEPS = 1_000_000
_MOST_AXES = 64
_MOST_BITS = 128  # of a whole number
_LONGEST_NAME = 1000
_LITERALS = frozenset(
    """INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8""".split()  # noqa: SIM905
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _damaged(reason: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(reason)


def _shown(value: Any) -> str:
    """A value for a message. The `repr` of lists may be endless, for they may be in themselves."""
    plain = isinstance(value, (str, bytes, int, float, type(None)))
    return repr(value)[:80] if plain else type(value).__name__


def _is_plain(key: Any) -> bool:
    """True for a key of a dict whose hash takes no time, and is not easily that of many others."""
    if isinstance(key, int):
        return key.bit_length() < 64
    return isinstance(key, (str, bytes, float, type(None)))


def _sizes(value: Any) -> tuple[int, ...]:
    """The lengths of axes, or strides."""
    sizes = () if value is None else value
    if not isinstance(sizes, (tuple, list)) or len(sizes) > _MOST_AXES:
        raise _damaged(f"axes of the lengths {_shown(value)}")
    if not all(type(n) is int and 0 <= n < 2**63 for n in sizes):
        raise _damaged(f"axes of the lengths ({', '.join(map(_shown, sizes))})")
    return tuple(sizes)


class Storage:
    """The flat array behind tensors of PyTorch; its values may be read after the pickle that refers to it."""

    def __init__(self, key: Any, dtype: Any, count: int):
        self.key, self.dtype, self.count = key, dtype, count
        self.values: np.ndarray | None = None


class _Tensor:
    """A part of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any):
        if not isinstance(storage, Storage):
            raise _damaged("a tensor without a storage")
        self.storage, self.size, self.stride = storage, _sizes(size), _sizes(stride)
        (self.offset,) = _sizes((offset,))
        if len(self.size) != len(self.stride):
            raise _damaged(f"a tensor of size {self.size} with strides {self.stride}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if 0 not in self.size and last >= storage.count:
            raise _damaged(f"a tensor of size {self.size} beyond its {storage.count} elements")

    def array(self, name: str, budget: Budget) -> np.ndarray:
        """The elements in order."""
        flat = self.storage.values
        assert flat is not None
        budget.spend(name, self.size, flat.itemsize)
        if 0 in self.size:
            return np.zeros(self.size, flat.dtype)
        steps = tuple(s * flat.itemsize for s in self.stride)
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, steps, writeable=False)
        return np.ascontiguousarray(view).reshape(self.size)


_CODES = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}


class _Dtype:
    """Stands for `numpy.dtype`, of numbers only."""

    def __init__(self, code: Any):
        self.code = code
        self.dtype = np.dtype(code) if isinstance(code, str) and code in _CODES else None

    def build(self, state: Any, machine: _Machine) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if self.dtype is not None and isinstance(order, str) and order in ("<", ">", "="):
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for `numpy.ndarray`; its state says shape, dtype and bytes."""

    value: np.ndarray | None = None

    def build(self, state: Any, machine: _Machine) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _damaged("an array of an unknown form")
        self.fill(machine, *state[1:])

    def fill(self, machine: _Machine, shape: Any, dtype: Any, fortran: Any, content: Any) -> _Array:
        """Take shape, dtype and bytes."""
        if not isinstance(dtype, _Dtype) or dtype.dtype is None:
            raise _damaged(f"an array of {_shown(getattr(dtype, 'code', dtype))}, not of numbers")
        if isinstance(content, str):
            content = machine.encoded(content)
        if not isinstance(content, (bytes, bytearray)):
            raise _damaged("an array without its bytes")
        shape = _sizes(shape)
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise _damaged(f"an array of shape {shape} of {dtype.dtype} that holds {len(content)} bytes")
        flat = np.frombuffer(content, dtype.dtype)
        self.value = flat.reshape(shape, order="F" if fortran is True or fortran == 1 else "C")
        return self

    def array(self, name: str, budget: Budget) -> np.ndarray:
        """The array; an error if the pickle said nothing of it."""
        if self.value is None:
            raise refused_file(budget.path, f"{name!r} is an array without its bytes")
        budget.spend(name, self.value.shape, self.value.itemsize)
        value = np.ascontiguousarray(self.value).reshape(self.value.shape)
        return value.astype(value.dtype.newbyteorder("="), copy=False)


class _Kind(NamedTuple):
    """The dtype of a storage."""

    dtype: Any


class _Name(NamedTuple):
    """What a pickle may name: a function of this file, or only an argument for one."""

    call: Callable[..., Any] | None


_STORAGES = {
    "Double": np.float64, "Float": np.float32, "Half": np.float16, "BFloat16": jnp.bfloat16,
    "Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_,
}  # fmt: skip


def _names() -> dict[str, Any]:
    """The names that a pickle may use, and what stands for them here."""

    def ordered(machine: _Machine, items: Any = ()) -> Any:
        pairs = list(items.items()) if isinstance(items, dict) else items
        if not isinstance(pairs, (list, tuple)):
            raise _damaged("a dict of no pairs")
        machine.count(len(pairs))
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise _damaged("a dict of no pairs")
        return machine.put({}, [each for pair in pairs for each in pair])

    def tensor(machine: _Machine, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        return _Tensor(storage, offset, size, stride)

    def encode(machine: _Machine, text: Any, encoding: Any = "latin1") -> Any:
        if encoding != "latin1" or not isinstance(text, str):
            raise _damaged(f"the encoding {_shown(encoding)}")
        return machine.encoded(text)  # bytes, as Python 3 writes them in an old protocol

    numpy_names = {
        f"numpy.{core}.{name}": _Name(call)
        for core in ("core", "_core")
        for name, call in {
            "multiarray._reconstruct": lambda machine, *rest: _Array(),
            "multiarray.scalar": lambda machine, dtype, content=b"": _Array().fill(
                machine, (), dtype, False, content
            ),
            "numeric._frombuffer": lambda machine, content, dtype, shape, order: _Array().fill(
                machine, shape, dtype, order == "F", content
            ),
        }.items()
    }
    constants = ("float32", "float64", "float16", "bfloat16", "int64")
    return {
        "collections.OrderedDict": _Name(ordered),
        "numpy.ndarray": _Name(None),  # an argument of _reconstruct
        "numpy.dtype": _Name(lambda machine, code, *rest: _Dtype(code)),
        "_codecs.encode": _Name(encode),
        **numpy_names,
        **{f"torch.{name}Storage": _Kind(np.dtype(dtype)) for name, dtype in _STORAGES.items()},
        "torch._utils._rebuild_tensor_v2": _Name(tensor),
        "torch._utils._rebuild_tensor": _Name(tensor),
        "torch._utils._rebuild_parameter": _Name(lambda machine, data, *rest: data),
        "torch.Size": _Name(lambda machine, size=(): size),
        "torch.device": _Name(lambda machine, *rest: None),
        **{f"torch.{name}": _Name(None) for name in constants},
    }


_TABLE = _names()


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
        raise _damaged("a program without an end")

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
                raise _damaged(f"a number of {argument.bit_length()} bits")
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
                        raise _damaged(f"place {place} of a memo of {self.steps}")
                    self.memo[place] = stack[-1]
                case "GLOBAL":
                    stack.append(self.named(argument.replace(" ", ".")))
                case "STACK_GLOBAL":
                    member, module = self.pop(), self.pop()
                    if not isinstance(module, str) or not isinstance(member, str):
                        raise _damaged(f"the name {_shown(module)}, {_shown(member)}")
                    stack.append(self.named(f"{module}.{member}"))
                case "REDUCE":
                    arguments, function = self.pop(), self.pop()
                    if not isinstance(function, _Name) or function.call is None:
                        raise _damaged("a call of what is not a function")
                    if not isinstance(arguments, tuple):
                        raise _damaged(f"a call with {_shown(arguments)}")
                    self.count(len(arguments))
                    stack.append(function.call(self, *arguments))
                case "BUILD":
                    state, made = self.pop(), stack[-1]
                    if isinstance(made, (_Array, _Dtype)):
                        made.build(state, self)
                    elif not isinstance(made, dict):  # of which attributes, such as `_metadata`, are left out
                        raise _damaged(f"a state of {_shown(made)}")
                case "BINPERSID":
                    stack.append(self.storage(self.pop()))
                case _:
                    raise refused_file(self.path, f"a pickle with the opcode {name}, expected arrays only")

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise _damaged("a mark in place of a value")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        """All above the last mark, which goes, too."""
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise _damaged(f"expected a {kind.__name__}, received {_shown(self.stack[-1])}")
        return self.stack[-1]

    def put(self, into: dict[Any, Any], values: list[Any]) -> dict[Any, Any]:
        """Keys and values by turns into a dict. Tuples in tuples are not keys: comparing them takes long."""
        for key, value in zip(values[::2], values[1::2], strict=True):
            parts = key if isinstance(key, tuple) else (key,)
            self.count(len(parts))
            if not all(map(_is_plain, parts)):
                raise _damaged(f"the key {_shown(key)} in a dict")
            into[key] = value
        return into

    def named(self, name: str) -> Any:
        if name not in _TABLE:
            raise refused_file(
                self.path,
                f"a pickle that calls {name[:80]}, which could run code; expected arrays, dicts and tensors "
                f"only",
                "save the state_dict of the model, not the model" if name.split(".")[0] != "os" else "",
            )
        return _TABLE[name]

    def storage(self, pid: Any) -> Storage:
        """The storage that a reference means."""
        if self.storages is None or not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise _damaged(f"the reference {_shown(pid)}")
        _, kind, key, _, count = pid[:5]
        if not isinstance(kind, _Kind) or not isinstance(key, (str, int)):
            raise _damaged(f"a reference to {_shown(kind)} of the key {_shown(key)}")
        if type(count) is not int or count < 0:
            raise _damaged(f"a storage of {_shown(count)} elements")
        if len(pid) > 5 and pid[5] is not None:
            raise _damaged("a view of a storage, as PyTorch before 0.4 wrote them")
        known = self.storages.setdefault(str(key), Storage(str(key), kind.dtype, count))
        if (known.dtype, known.count) != (kind.dtype, count):
            raise _damaged(f"two storages of the key {_shown(key)}")
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
            if isinstance(value, (_Array, _Tensor)):
                if name in found:
                    raise refused_file(path, f"two arrays of the name {name!r}")
                found[name] = value.array(name, budget)
            continue
        stack.extend(
            (f"{name}{separator}{key}" if name else key, each, depth + 1) for key, each in reversed(inside)
        )
    return found
