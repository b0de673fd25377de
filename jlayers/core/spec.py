"""The record of the call that made a thing, and plain data made of it.

Whatever a registered constructor makes carries a `Spec`: the constructor's name and its bound arguments.
From it come the `repr`, equality of configurations, pickling and YAML.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jlayers.core.spelling import snake_case

if TYPE_CHECKING:
    from jlayers.core.registry import Registry

__all__ = ["Spec", "registries", "to_data"]

registries: dict[str, Registry] = {}  # by kind; each enters itself

_MOST_SHOWN = 24  # values of a plain list in a repr: a vocabulary has thousands


@dataclasses.dataclass(frozen=True)
class Spec:
    """The call that made an object: the registry's kind, the constructor's name, every bound argument."""

    kind: str
    name: str
    arguments: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """The name in snake case and without its group, after which unnamed things are numbered."""
        return snake_case(self.name.rpartition(".")[2])

    @property
    def changed(self) -> dict[str, Any]:
        """The arguments that differ from the constructor's defaults."""
        parameters = registries[self.kind].parameters(self.name)
        return {k: v for k, v in self.arguments.items() if not _same(v, parameters[k].default)}

    def to_data(self) -> Any:
        """The spec as plain data: `"Flatten"` or `{"Dense": {"units": 64}}`."""
        arguments = {k: to_data(v, f"{self.name}.{k}") for k, v in self.changed.items()}
        return {self.name: arguments} if arguments else self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.kind == other.kind and self.to_data() == other.to_data()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parameters = registries[self.kind].parameters(self.name)
        positional = [p.name for p in parameters.values() if p.default is inspect.Parameter.empty]
        shown = [_show(v) if k in positional else f"{k}={_show(v)}" for k, v in self.changed.items()]
        return f"{self.name}({', '.join(shown)})"


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:  # arrays and foreign objects have their own idea of ==
        return False


def _show(value: Any) -> str:
    if callable(value) and not hasattr(value, "spec"):
        name = next((n for r in registries.values() if (n := r.name_of(value))), None)
        return repr(name) if name else getattr(value, "__name__", repr(value))
    if isinstance(value, np.ndarray):
        return _show(value.tolist())
    if isinstance(value, (list, tuple)) and len(value) > _MOST_SHOWN and not any(map(_holds_more, value)):
        shown = ", ".join(map(repr, value[: _MOST_SHOWN // 2]))
        return f"[{shown}, ... {len(value):,} in all]"
    return repr(value)


def _holds_more(value: Any) -> bool:
    """True for what is not a plain value; lists of layers are always shown whole."""
    return not isinstance(value, (str, int, float))


def to_data(value: Any, where: str = "value") -> Any:
    """`value` as plain data that YAML and JSON can hold; what cannot be named is refused."""
    spec = getattr(value, "spec", None)
    if isinstance(spec, Spec):
        return value.to_data() if hasattr(value, "to_data") else spec.to_data()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): to_data(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_data(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy and JAX
        return to_data(value.tolist(), where)
    for registry in registries.values():
        if name := registry.name_of(value):
            options = value.keywords if isinstance(value, functools.partial) else {}
            return {name: to_data(options, where)} if options else name
    raise TypeError(
        f"{where} cannot be written down: received {value!r}, expected plain data or something registered "
        f"(register a function of your own, such as with @jl.activations.register)"
    )
