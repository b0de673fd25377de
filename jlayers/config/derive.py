"""Pydantic types derived from type hints, so that constructors' signatures are what YAML is checked against.

Nothing is coerced. What is looked up by name is `Name` or `{Name: arguments}`. Validated data hold a `Entry`
wherever a constructor is to be called; `jlayers.config.build` makes the calls.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import functools
import math
import os
import pathlib
import types
import typing
from typing import Annotated, Any, Literal, Union

import pydantic
from pydantic_core import PydanticCustomError

from jlayers.config.signatures import Argument, arguments, documentation, registry_of
from jlayers.config.types import Derived, FilePathType, Marker, Nothing, OneOf, Unknown, Whole, adapter, wrong
from jlayers.core.layer import Layer
from jlayers.core.registry import Kind
from jlayers.core.spec import to_data
from jlayers.core.spelling import UNQUOTED, is_number, nearest

__all__ = ["Choice", "Entry", "Record", "arguments_model", "derive", "section_of"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A constructor and the arguments given to it, which may hold further calls."""

    kind: str
    name: str
    make: abc.Callable[..., Any]
    arguments: dict[str, Any]
    text: str | None = None  # the name as it was written, if it was written without arguments


# --------------------------------------------------------------------------------- constructors


@functools.lru_cache(maxsize=2048)
def arguments_model(name: str, make: abc.Callable[..., Any]) -> type[pydantic.BaseModel]:
    """The pydantic model of a constructor's arguments: strict, and nothing beside them."""
    known = arguments(make)
    base = type(
        name,
        (pydantic.BaseModel,),
        {
            "__module__": __name__,
            "__doc__": documentation(make),
            "__annotations__": {"__pydantic_extra__": dict[str, Annotated[Any, Unknown(name, known)]]},
            "model_config": pydantic.ConfigDict(
                extra="allow", strict=True, json_schema_extra={"additionalProperties": False}
            ),
        },
    )
    fields: dict[str, Any] = {f"arg_{a.name}": (derive(a.hint).type, _field(a)) for a in known.values()}
    return pydantic.create_model(name, __base__=base, **fields)


def _field(argument: Argument) -> Any:
    options: dict[str, Any] = {"alias": argument.name, "description": argument.text or None}
    if not argument.required:
        try:
            options["default"] = to_data(argument.default)
        except TypeError:
            options["default_factory"] = lambda: None
    return pydantic.Field(**options)


def validated_arguments(name: str, make: abc.Callable[..., Any], value: Any) -> dict[str, Any]:
    """The arguments that were given, validated, by name."""
    model = arguments_model(name, make).model_validate(value)
    return {k: getattr(model, f"arg_{k}") for k in value}


class Choice(Marker):
    """Something by name: `Name`, `{Name: {argument: value}}`, or `{Name: value of the first argument}`."""

    def __init__(self, kind: str):
        self.kind = kind
        article = "an" if kind[0] in "aeiou" else "a"
        self.expected = f"{article} {kind} by name"

    def check(self, value: Any) -> Entry:
        bare = isinstance(value, str)
        if not bare and not isinstance(value, dict):
            raise wrong(self.expected)
        if not bare and len(value) != 1:
            given = ", ".join(map(repr, value)) or "none"
            raise PydanticCustomError(
                "several",
                "expected one {kind} as {form}, received the keys {given}; indent the "
                "arguments below the name",
                {"kind": self.kind, "given": given, "form": "{name: {argument: value}}"},
            )
        name, given = (value, {}) if bare else next(iter(value.items()))
        registry = registry_of(self.kind)
        try:
            known = registry is not None and name in registry
        except ImportError as error:  # the name belongs to a group, whose package is not there
            raise PydanticCustomError("package", "{text}", {"text": str(error)}) from None
        if registry is None or not known:
            known = UNQUOTED if is_number(name) else registry.advice(name) if registry else nearest(name, ())
            raise PydanticCustomError(
                "name",
                "unknown {kind} {name}: {known}",
                {"kind": self.kind, "name": repr(name), "known": known},
            )
        name = registry.find(name)
        make = registry[name]
        if given is None:
            given = {}
        if not isinstance(given, dict) and (first := next(iter(arguments(make)), None)) is not None:
            given = {first: given}
        inner = adapter(_one_call(name, make)).validate_python({name: given})
        return Entry(self.kind, name, make, inner[name], value if bare else None)

    def fragment(self) -> dict[str, Any]:
        return {"x-jlayers-kind": self.kind}


class _Arguments(Marker):
    """The arguments of one constructor."""

    def __init__(self, name: str, make: abc.Callable[..., Any]):
        self.name, self.make = name, make

    def check(self, value: Any) -> dict[str, Any]:
        return validated_arguments(self.name, self.make, value)


@functools.lru_cache(maxsize=2048)
def _one_call(name: str, make: abc.Callable[..., Any]) -> Any:
    """`{name: arguments}` as a type: errors inside then have the constructor's name in their path."""
    return dict[str, Annotated[Any, _Arguments(name, make)]]


class Record(Marker):
    """A call of a constructor that is known beforehand, such as a dataclass: a mapping of its arguments."""

    def __init__(self, make: abc.Callable[..., Any]):
        self.make = make
        self.expected = f"a mapping of {', '.join(arguments(make))}"

    def check(self, value: Any) -> Entry:
        if not isinstance(value, dict):
            raise wrong(self.expected)
        name = self.make.__name__
        return Entry("", name, self.make, validated_arguments(name, self.make, value))

    def fragment(self) -> dict[str, Any]:
        return arguments_model(self.make.__name__, self.make).model_json_schema()


def section_of(hint: Any) -> abc.Callable[..., Any] | None:
    """The constructor of a `Record` in a hint, which may be optional; None if there is none."""
    for member in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(member) and isinstance(member, type):
            return member
        if isinstance(member, Record):
            return member.make
        if member is not hint and (found := section_of(member)):
            return found
    return None


# ---------------------------------------------------------------------------------------- hints

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@functools.lru_cache(maxsize=4096)
def derive(hint: Any) -> Derived:
    """The pydantic type of a type hint, and how to say what it expects."""
    if hint in _SCALARS:
        return _whole(hint, _SCALARS[hint])
    if hint is Any or hint is object or isinstance(hint, typing.TypeVar):
        return Derived(Any, "plain data")
    if hint is None or hint is types.NoneType:
        return _whole(None, "null")
    if isinstance(hint, type) and issubclass(hint, Layer):
        return derive(Annotated[Layer, Kind("layer")])
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        record = Record(hint)
        return Derived(Annotated[Any, record], record.expected, whole=False)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, (Kind, Marker)):
                marker = Choice(mark.name) if isinstance(mark, Kind) else mark
                return Derived(Annotated[Any, marker], marker.expected, whole=False)
        return derive(inner[0])
    if origin is Literal:
        return _whole(hint, ("one of " if len(inner) > 1 else "") + ", ".join(map(repr, inner)))
    if origin in (Union, types.UnionType):
        return _union(inner)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        members = [derive(i) for i in inner]
        texts = {m.expected for m in members}
        words = (
            _plural(members[0].expected)
            if len(texts) == 1
            else "values: " + ", ".join(m.expected for m in members)
        )
        type_ = Annotated[tuple[tuple(m.type for m in members)], pydantic.Strict(False)]  # type: ignore[misc]
        return _container(type_, f"a list of {len(members)} {words}", members)
    if origin in (tuple, list, abc.Sequence, abc.Iterable, abc.Collection):
        member = derive(inner[0]) if inner else Derived(Any, "value")
        type_ = list[member.type]  # type: ignore[name-defined]
        if origin is tuple:
            type_ = Annotated[tuple[member.type, ...], pydantic.Strict(False)]  # type: ignore[name-defined]
        return _container(type_, f"a list of {_plural(member.expected)}", [member])
    if origin in (dict, abc.Mapping, abc.MutableMapping):
        member = derive(inner[1])
        words = f"a mapping of names to {_plural(member.expected)}"
        return _container(dict[str, member.type], words, [member])  # type: ignore[name-defined]
    if hint in (list, tuple):
        return derive(list[Any])
    if hint in (dict, abc.Mapping):
        return derive(dict[str, Any])
    if os.PathLike in (hint, origin) or (isinstance(hint, type) and issubclass(hint, pathlib.PurePath)):
        return Derived(Annotated[Any, FilePathType()], FilePathType.expected)
    value = getattr(hint, "__value__", None)  # a `type X = ...` statement
    return derive(value) if value is not None else Derived(Annotated[Any, Nothing()], Nothing.expected)


def _union(inner: tuple[Any, ...]) -> Derived:
    if any(typing.get_origin(i) is os.PathLike or i is os.PathLike for i in inner):
        inner = tuple(i for i in inner if i is not str)
    members = [derive(i) for i in inner]
    held = [m for m in members if m.expected != Nothing.expected]
    if len(held) < len(members) and [m.expected for m in held] == ["null"]:
        return _whole(None, Nothing.expected.replace("nothing", "null"))
    members = held or members[:1]
    if len(members) == 1:
        return members[0]
    if any(m.type is Any for m in members):
        return Derived(Any, "plain data")
    one = OneOf(members)
    return Derived(Annotated[Any, one], one.expected, whole=False)


def _whole(type_: Any, expected: str) -> Derived:
    return Derived(Annotated[Any, Whole(type_ if type_ is None else _strict_type(type_), expected)], expected)


def _strict_type(type_: Any) -> Any:
    if type_ is float:
        return Annotated[float, pydantic.Strict(), pydantic.AfterValidator(_not_nan)]
    return Annotated[type_, pydantic.Strict()] if type_ in _SCALARS else type_


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("NaN compares with nothing, so that no argument means anything by it")
    return value


def _container(type_: Any, expected: str, members: list[Derived]) -> Derived:
    """A container of plain values has one message; in one of richer values each value has its own."""
    if all(m.whole for m in members):
        return Derived(Annotated[Any, Whole(type_, expected)], expected)
    return Derived(type_, expected, whole=False)


def _plural(text: str) -> str:
    first, _, rest = text.partition(" or ")
    if first == "text":
        first = "texts"
    article, _, words = first.partition(" ")
    if article in ("a", "an"):
        noun, by, more = words.partition(" by ")
        plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
        first = plural + by + more
    return f"{first} or {_plural(rest)}" if rest else first
