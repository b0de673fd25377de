"""Pickles of arrays, read without running anything: an allow-list of opcodes and of names.

A pickle is a program. This reader looks the program over before it starts: opcodes that no pickle of
arrays has, names that are not in a closed table, and numbers that would make it allocate without bounds are
refused. The names stand for functions of this file, which build arrays of numbers and nothing else.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jlayers.interop.limits import Budget, refused_file

__all__ = ["Storage", "read_pickle", "skim"]

_MOST_OPCODES = 1_000_000
_OPCODES = frozenset(
    """PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
    SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1
    TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID""".split()  # noqa: SIM905
)


class Storage:
    """The flat array behind tensors of PyTorch; its values may be read after the pickle that refers to it."""

    def __init__(self, key: Any, dtype: Any, count: int):
        self.key, self.dtype, self.count = key, dtype, count
        self.values: np.ndarray | None = None


class _Tensor:
    """A part of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any):
        self.storage, self.offset = storage, offset
        self.size, self.stride = tuple(size or ()), tuple(stride or ())
        numbers = (offset, *self.size, *self.stride)
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        if len(self.size) != len(self.stride) or not all(type(n) is int and n >= 0 for n in numbers):
            raise pickle.UnpicklingError(f"a tensor of size {self.size} with strides {self.stride}")
        last = offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if 0 not in self.size and last >= storage.count:
            raise pickle.UnpicklingError(f"a tensor of size {self.size} beyond its {storage.count} elements")

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


class _Dtype:
    """Stands for `numpy.dtype`, of numbers only."""

    def __init__(self, code: Any, *rest: Any):
        self.dtype = np.dtype(str(code)) if code in _CODES else None
        self.code = code

    def __setstate__(self, state: Sequence[Any]) -> None:
        if self.dtype is not None and len(state) > 1 and state[1] in ("<", ">", "="):
            self.dtype = self.dtype.newbyteorder(state[1])


_CODES = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}


class _Array:
    """Stands for `numpy.ndarray`; its state says shape, dtype and bytes."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or dtype.dtype is None:
            raise pickle.UnpicklingError(f"an array of {getattr(dtype, 'code', dtype)!r}, not of numbers")
        if isinstance(content, str):
            content = content.encode("latin1")
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
            raise pickle.UnpicklingError(f"an array of shape {shape!r}")
        if not isinstance(content, (bytes, bytearray)):
            raise pickle.UnpicklingError("an array without its bytes")
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise pickle.UnpicklingError(
                f"an array of shape {shape} of {dtype.dtype} that holds {len(content)} bytes"
            )
        flat = np.frombuffer(content, dtype.dtype)
        self.value = flat.reshape(shape, order="F" if fortran else "C")

    def array(self, name: str, budget: Budget) -> np.ndarray:
        """The array; an error if the pickle said nothing of it."""
        if self.value is None:
            raise refused_file(budget.path, f"{name!r} is an array without its bytes")
        budget.spend(name, self.value.shape, self.value.itemsize)
        value = np.ascontiguousarray(self.value).reshape(self.value.shape)
        return value.astype(value.dtype.newbyteorder("="), copy=False)


class _Dict(dict[Any, Any]):
    """Stands for `collections.OrderedDict`; attributes of the original, such as `_metadata`, are left out."""

    def __setstate__(self, state: Any) -> None:
        pass


def _scalar(dtype: Any, content: Any = b"") -> Any:
    array = _Array()
    array.__setstate__((1, (), dtype, False, content))
    return array


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as Python 3 writes them in an old protocol."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


class _Kind(NamedTuple):
    """The dtype of a storage."""

    dtype: Any


_STORAGES = {
    "Double": np.float64, "Float": np.float32, "Half": np.float16, "BFloat16": jnp.bfloat16,
    "Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_,
}  # fmt: skip


def _names() -> dict[str, Any]:
    """The names that a pickle may use, and our objects for them."""

    def nothing(*arguments: Any) -> None:
        return None

    numpy_names = {
        f"numpy.{core}.{name}": made
        for core in ("core", "_core")
        for name, made in {
            "multiarray._reconstruct": lambda *arguments: _Array(),
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _from_buffer,
        }.items()
    }
    return {
        "collections.OrderedDict": lambda items=(): _Dict(items),
        "numpy.ndarray": None,  # an argument of _reconstruct
        "numpy.dtype": lambda code, *rest: _Dtype(code),
        "_codecs.encode": _encode,
        **numpy_names,
        **{f"torch.{name}Storage": _Kind(np.dtype(dtype)) for name, dtype in _STORAGES.items()},
        "torch._utils._rebuild_tensor_v2": _Tensor,
        "torch._utils._rebuild_tensor": _Tensor,
        "torch._utils._rebuild_parameter": lambda data, *rest: data,
        "torch.Size": lambda size=(): size,
        "torch.device": nothing,
        **{f"torch.{name}": None for name in ("float32", "float64", "float16", "bfloat16", "int64")},
    }


class _Bounded:
    """A file that reads no more than it has, whatever length a pickle declares."""

    def __init__(self, file: IO[bytes], size: int):
        self.file, self.size, self.readline, self.tell = file, size, file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, max(0, self.size - self.file.tell())))


def skim(path: Any, file: Any) -> None:
    """Look one pickle over, up to its end, and raise if it has anything that a pickle of arrays has not."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(file):
            count += 1
            if opcode.name not in _OPCODES:
                raise refused_file(path, f"a pickle with the opcode {opcode.name}, expected arrays only")
            if opcode.name == "GLOBAL":
                _known(path, str(argument).replace(" ", "."))
            if "PUT" in opcode.name and int(argument or 0) > count + 1:
                raise refused_file(path, f"a damaged pickle: place {argument} of a memo of {count}")
            if count > _MOST_OPCODES:
                raise refused_file(path, f"a pickle of more than {_MOST_OPCODES:,} steps")
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise refused_file(path, f"a damaged pickle ({error})") from None
    except Exception as error:  # pickletools on bytes that are no pickle
        raise refused_file(path, f"a damaged pickle ({type(error).__name__}: {error})") from None


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
    skim(path, _Bounded(file, size))
    end = file.tell()
    file.seek(start)
    content = io.BytesIO(file.read(end - start))

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            _known(path, f"{module}.{name}")
            return _TABLE[f"{module}.{name}"]

        def persistent_load(self, pid: Any) -> Any:
            if storages is None or not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
                raise pickle.UnpicklingError(f"a reference {str(pid)[:80]!r}")
            _, kind, key, _, count = pid[:5]
            if not isinstance(kind, _Kind) or type(count) is not int or count < 0:
                raise pickle.UnpicklingError(f"a reference {str(pid)[:80]!r}")
            if len(pid) > 5 and pid[5] is not None:
                raise pickle.UnpicklingError("a view of a storage, as PyTorch before 0.4 wrote them")
            known = storages.setdefault(str(key), Storage(str(key), kind.dtype, count))
            if (known.dtype, known.count) != (kind.dtype, count):
                raise pickle.UnpicklingError(f"two storages of the key {str(key)[:80]!r}")
            return known

    try:
        found = Reader(content, encoding="latin1").load()
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise refused_file(path, f"a damaged pickle ({error})") from None
    except Exception as error:  # of many kinds, by what is damaged
        raise refused_file(path, f"a damaged pickle ({type(error).__name__}: {error})") from None
    return found


_TABLE = _names()


def _known(path: Any, name: str) -> None:
    if name not in _TABLE:
        raise refused_file(
            path,
            f"a pickle that calls {name}, which could run code; expected arrays, dicts and tensors only",
            "save the state_dict of the model, not the model" if name.split(".")[0] != "os" else "",
        )


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
        if depth > 20 or steps > _MOST_OPCODES:
            raise refused_file(path, f"dicts in dicts without end, at {name[:80]!r}")
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
