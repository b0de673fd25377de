"""Our own types for pydantic: each checks plain data with one message, and is a piece of JSON Schema."""

from __future__ import annotations

import collections.abc as abc
import copy
import dataclasses
import functools
import os
from typing import Any

import pydantic
from pydantic_core import PydanticCustomError, ValidationError, core_schema

__all__ = [
    "Derived",
    "FileName",
    "FilePathType",
    "Marker",
    "Nothing",
    "OneOf",
    "Unknown",
    "Whole",
    "adapter",
    "schema_of",
    "wrong",
]


@dataclasses.dataclass(frozen=True)
class Derived:
    """A hint made into a pydantic type; `whole` if one message suits all that can be wrong inside."""

    type: Any
    expected: str
    whole: bool = True


class Marker:
    """A type of our own for pydantic: `check(value)` and a fragment of JSON Schema."""

    expected: str  # in words

    def check(self, value: Any) -> Any:
        raise NotImplementedError

    def fragment(self) -> dict[str, Any]:
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return self.fragment()


def wrong(expected: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "{expected}", {"expected": expected})


@functools.cache
def adapter(type_: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(type_)


def schema_of(type_: Any) -> dict[str, Any]:
    """The piece of JSON Schema that says a type; each asker has its own, to add to."""
    return copy.deepcopy(_schema_of(type_))


@functools.cache  # a number stands in thousands of arguments
def _schema_of(type_: Any) -> dict[str, Any]:
    return adapter(type_).json_schema()


class Whole(Marker):
    """Another type, with one message in place of all that pydantic says about its inside."""

    def __init__(self, inner: Any, expected: str):
        self.inner, self.expected = inner, expected

    def check(self, value: Any) -> Any:
        try:
            return adapter(self.inner).validate_python(value)
        except ValidationError:
            raise wrong(self.expected) from None

    def fragment(self) -> dict[str, Any]:
        return schema_of(self.inner)


class OneOf(Marker):
    """Any of several types; an error comes from the one that fits furthest inside, else names them all."""

    def __init__(self, members: list[Derived]):
        self.members = members
        self.expected = " or ".join(dict.fromkeys(m.expected for m in members))

    def check(self, value: Any) -> Any:
        last: ValidationError | None = None
        for member in self.members:
            try:
                return adapter(member.type).validate_python(value)
            except ValidationError as error:
                if (
                    not member.whole
                    and not _misses(error)
                    and (last is None or 0 < _depth(last) < _depth(error))
                ):
                    last = error
        raise last or wrong(self.expected)

    def fragment(self) -> dict[str, Any]:
        return {"anyOf": [schema_of(m.type) for m in self.members]}


_FORMS = ("expected", "several", "dict_type", "list_type", "tuple_type")


def _misses(error: ValidationError) -> bool:
    """True if the value as a whole is of another form, so that no more can be said about its inside."""
    return any(not e["loc"] and e["type"] in _FORMS for e in error.errors())


def _depth(error: ValidationError) -> int:
    """The depth inside the value at which it was found; 0 if the whole value is wrong."""
    return max(len(e["loc"]) for e in error.errors())


@dataclasses.dataclass(frozen=True)
class FileName:
    """A path as it was written; relative to the folder of the file that it was written in."""

    text: str

    def below(self, folder: str | os.PathLike[str]) -> str:
        """The absolute path."""
        return os.path.abspath(os.path.join(folder, os.path.expanduser(self.text)))


class FilePathType(Marker):
    """A path, relative to the folder of the YAML file, to be made absolute where that folder is known."""

    expected = "a path as text"

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not value or "\0" in value:
            raise wrong(self.expected)
        return FileName(value)

    def fragment(self) -> dict[str, Any]:
        return {"type": "string"}


class WeightsSourceType(FilePathType):
    """A file of weights, or a name that stands for one."""

    expected = "imagenet, package:name/file, or a path as text"

    def check(self, value: Any) -> Any:
        named = isinstance(value, str) and (value == "imagenet" or value.startswith("package:"))
        return value if named else super().check(value)


class Nothing(Marker):
    """A value that plain data cannot hold, such as a function of the user's own."""

    expected = "nothing: this argument takes a Python object, which YAML cannot hold"

    def check(self, value: Any) -> Any:
        raise wrong(self.expected)

    def fragment(self) -> dict[str, Any]:
        return {"not": {}}


class Unknown(Marker):
    """Stands for every argument that a constructor lacks; the message is made where its name is known."""

    def __init__(self, owner: str, names: abc.Iterable[str]):
        self.context = {"owner": owner, "names": list(names)}

    def check(self, value: Any) -> Any:
        raise PydanticCustomError("unknown", "unknown", self.context)

    def fragment(self) -> dict[str, Any]:
        return {"not": {}}
