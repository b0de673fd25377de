"""Arrays that a pickle may describe, and the names that it may use for them.

What a pickle names is looked up in a closed table. It stands for functions of this file, which build arrays
of numbers and nothing else, or for dtypes.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from jlayers.interop.limits import Budget, refused_file

__all__ = ["NAMES", "Array", "Dtype", "Kind", "Machine", "Name", "Storage", "Tensor", "damaged", "shown"]

_MOST_AXES = 64


class Machine(Protocol):
    """The part of the machine that these functions use."""

    def count(self, steps: int) -> None: ...

    def encoded(self, text: str) -> bytes: ...

    def put(self, into: dict[Any, Any], values: list[Any]) -> dict[Any, Any]: ...


def damaged(reason: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(reason)


def shown(value: Any) -> str:
    """A value for a message. The `repr` of lists may be endless, for they may be in themselves."""
    plain = isinstance(value, (str, bytes, int, float, type(None)))
    return repr(value)[:80] if plain else type(value).__name__


def _sizes(value: Any) -> tuple[int, ...]:
    """The lengths of axes, or strides."""
    sizes = () if value is None else value
    if not isinstance(sizes, (tuple, list)) or len(sizes) > _MOST_AXES:
        raise damaged(f"axes of the lengths {shown(value)}")
    if not all(type(n) is int and 0 <= n < 2**63 for n in sizes):
        raise damaged(f"axes of the lengths ({', '.join(map(shown, sizes))})")
    return tuple(sizes)


class Storage:
    """The flat array behind tensors of PyTorch; its values may be read after the pickle that refers to it."""

    def __init__(self, key: Any, dtype: Any, count: int):
        self.key, self.dtype, self.count = key, dtype, count
        self.values: np.ndarray | None = None


class Tensor:
    """A part of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any):
        if not isinstance(storage, Storage):
            raise damaged("a tensor without a storage")
        self.storage, self.size, self.stride = storage, _sizes(size), _sizes(stride)
        (self.offset,) = _sizes((offset,))
        if len(self.size) != len(self.stride):
            raise damaged(f"a tensor of size {self.size} with strides {self.stride}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if 0 not in self.size and last >= storage.count:
            raise damaged(f"a tensor of size {self.size} beyond its {storage.count} elements")

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


class Dtype:
    """Stands for `numpy.dtype`, of numbers only."""

    def __init__(self, code: Any):
        self.code = code
        self.dtype = np.dtype(code) if isinstance(code, str) and code in _CODES else None

    def build(self, state: Any, machine: Machine) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if self.dtype is not None and isinstance(order, str) and order in ("<", ">", "="):
            self.dtype = self.dtype.newbyteorder(order)


class Array:
    """Stands for `numpy.ndarray`; its state says shape, dtype and bytes."""

    value: np.ndarray | None = None

    def build(self, state: Any, machine: Machine) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise damaged("an array of an unknown form")
        self.fill(machine, *state[1:])

    def fill(self, machine: Machine, shape: Any, dtype: Any, fortran: Any, content: Any) -> Array:
        """Take shape, dtype and bytes."""
        if not isinstance(dtype, Dtype) or dtype.dtype is None:
            raise damaged(f"an array of {shown(getattr(dtype, 'code', dtype))}, not of numbers")
        if isinstance(content, str):
            content = machine.encoded(content)
        if not isinstance(content, (bytes, bytearray)):
            raise damaged("an array without its bytes")
        shape = _sizes(shape)
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise damaged(f"an array of shape {shape} of {dtype.dtype} that holds {len(content)} bytes")
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


class Kind(NamedTuple):
    """The dtype of a storage."""

    dtype: Any


class Name(NamedTuple):
    """What a pickle may name: a function of this file, or only an argument for one."""

    call: Callable[..., Any] | None


_STORAGES = {
    "Double": np.float64, "Float": np.float32, "Half": np.float16, "BFloat16": jnp.bfloat16,
    "Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_,
}  # fmt: skip


def _names() -> dict[str, Any]:
    """The names that a pickle may use, and what stands for them here."""

    def ordered(machine: Machine, items: Any = ()) -> Any:
        pairs = list(items.items()) if isinstance(items, dict) else items
        if not isinstance(pairs, (list, tuple)):
            raise damaged("a dict of no pairs")
        machine.count(len(pairs))
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise damaged("a dict of no pairs")
        return machine.put({}, [each for pair in pairs for each in pair])

    def tensor(machine: Machine, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        return Tensor(storage, offset, size, stride)

    def encode(machine: Machine, text: Any, encoding: Any = "latin1") -> Any:
        if encoding != "latin1" or not isinstance(text, str):
            raise damaged(f"the encoding {shown(encoding)}")
        return machine.encoded(text)  # bytes, as Python 3 writes them in an old protocol

    numpy_names = {
        f"numpy.{core}.{name}": Name(call)
        for core in ("core", "_core")
        for name, call in {
            "multiarray._reconstruct": lambda machine, *rest: Array(),
            "multiarray.scalar": lambda machine, dtype, content=b"": Array().fill(
                machine, (), dtype, False, content
            ),
            "numeric._frombuffer": lambda machine, content, dtype, shape, order: Array().fill(
                machine, shape, dtype, order == "F", content
            ),
        }.items()
    }
    constants = ("float32", "float64", "float16", "bfloat16", "int64")
    return {
        "collections.OrderedDict": Name(ordered),
        "numpy.ndarray": Name(None),  # an argument of _reconstruct
        "numpy.dtype": Name(lambda machine, code, *rest: Dtype(code)),
        "_codecs.encode": Name(encode),
        **numpy_names,
        **{f"torch.{name}Storage": Kind(np.dtype(dtype)) for name, dtype in _STORAGES.items()},
        "torch._utils._rebuild_tensor_v2": Name(tensor),
        "torch._utils._rebuild_tensor": Name(tensor),
        "torch._utils._rebuild_parameter": Name(lambda machine, data, *rest: data),
        "torch.Size": Name(lambda machine, size=(): size),
        "torch.device": Name(lambda machine, *rest: None),
        **{f"torch.{name}": Name(None) for name in constants},
    }


NAMES = _names()
