"""Python's operators on nodes of a graph: each makes a registered layer, which can be written down."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from jlayers.core.layer import layers
from jlayers.core.shapes import describe

__all__ = ["Operators"]

_NODES = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply"}  # what has a layer of its own

_UFUNCS = (np.add, np.subtract, np.multiply, np.divide, np.floor_divide, np.remainder, np.power)


def _forward(name: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: self._connected(name, other, swapped=False)


def _backward(name: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: self._connected(name, other, swapped=True)


def _refusal(sign: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: self._refuse(f"{sign} {other!r}")


class Operators:
    """The operators of a node, such as `a + b` and `a[:, 0]`, and errors for `jnp`'s functions."""

    __add__, __radd__ = _forward("add"), _backward("add")
    __sub__, __rsub__ = _forward("subtract"), _backward("subtract")
    __mul__, __rmul__ = _forward("multiply"), _backward("multiply")
    __truediv__, __rtruediv__ = _forward("divide"), _backward("divide")
    __floordiv__, __rfloordiv__ = _forward("floor_divide"), _backward("floor_divide")
    __mod__, __rmod__ = _forward("remainder"), _backward("remainder")
    __pow__, __rpow__ = _forward("power"), _backward("power")
    __matmul__, __rmatmul__ = _forward("matmul"), _backward("matmul")
    __lt__, __le__, __gt__, __ge__ = map(_refusal, ("<", "<=", ">", ">="))

    if not TYPE_CHECKING:  # which would take any attribute to exist

        def __getattr__(self, name):
            if name.startswith("_") or name in ("call", "index"):  # copying asks before they are there
                raise AttributeError(name)
            raise AttributeError(self._told(f".{name}"), name=name)

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        return layers.build("GetItem", {"index": [self._part(part) for part in parts]})(self)

    def __iter__(self) -> NoReturn:
        self._refuse("as several values")

    def __bool__(self) -> NoReturn:
        self._refuse("as a condition")

    def __abs__(self) -> NoReturn:
        self._refuse("abs()")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("as an array")

    @property
    def __jax_array__(self) -> NoReturn:  # JAX looks it up, and would hide a TypeError
        raise ValueError(self._told("as an array"))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in _UFUNCS and not kwargs:  # a number of NumPy came first
            first, second = inputs
            own = first is self
            return self._connected(ufunc.__name__, second if own else first, swapped=not own)
        self._refuse(f"np.{ufunc.__name__}")

    def _connected(self, name: str, other: Any, swapped: bool) -> Any:
        if isinstance(other, Operators):
            pair = (other, self) if swapped else (self, other)
            if name in _NODES:
                return layers.build(_NODES[name])(*pair)
            return layers.build("Arithmetic", {"operation": name})(*pair)
        if getattr(other, "ndim", None) == 0 and not np.issubdtype(other.dtype, np.bool_):
            other = other.item()  # a number of NumPy or JAX
        if not isinstance(other, (int, float)) or isinstance(other, bool) or name == "matmul":
            self._refuse(f"{name} with {describe(other)}")
        swapped = swapped and name not in ("add", "multiply")
        return layers.build("Arithmetic", {"operation": name, "number": other, "swapped": swapped})(self)

    def _part(self, part: Any) -> int | str:
        """An entry of an index as `GetItem` writes it."""
        if part is None or part is Ellipsis:
            return "newaxis" if part is None else "..."
        try:
            if isinstance(part, slice):
                ends = ["" if end is None else str(operator.index(end)) for end in (part.start, part.stop)]
                step = "" if part.step is None else f":{operator.index(part.step)}"
                return ":".join(ends) + step
            return operator.index(part)
        except TypeError:
            self._refuse(f"[{part!r}]")

    def _refuse(self, use: str) -> NoReturn:
        raise TypeError(self._told(use))

    def _told(self, use: str) -> str:
        return (
            f"a node stands for values that are not there yet, received {use} of {self!r}; + - * / ** and "
            f"a[:, 0] work on nodes, and any other function in a layer: jl.Lambda(function)(node), or "
            f"jl.Activation('tanh')(node)"
        )
