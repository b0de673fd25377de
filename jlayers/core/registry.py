"""Names for what a configuration can mention: closed tables from a name to the constructor that has it.

Building from a `Spec` looks the name up in its table; nothing is imported, evaluated or unpickled on the way.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from jlayers.core.elsewhere import missing_name
from jlayers.core.errors import add_name
from jlayers.core.spec import Spec, registries
from jlayers.core.spelling import UnknownNameError, nearest, snake_case

__all__ = [
    "ActivationLike",
    "Configured",
    "ConstraintLike",
    "InitializerLike",
    "Kind",
    "Registry",
    "RegularizerLike",
]

_EMPTY = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Kind:
    """Marks, inside `typing.Annotated`, an argument whose value is looked up in a registry."""

    name: str


ActivationLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("activation")]
InitializerLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("initializer")]
RegularizerLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("regularizer")]
ConstraintLike = Annotated[str | Mapping[str, Any] | Callable[..., Any], Kind("constraint")]


class Configured:
    """A function that remembers the call that made it: an initializer, a regularizer, a loss."""

    def __init__(self, function: Callable[..., Any], spec: Spec):
        self.function = function
        self.spec = spec

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            add_name(error, self.spec.name)
            raise

    def __getattr__(self, name: str) -> Any:
        if name in ("function", "spec"):  # not yet set: copying and unpickling ask before __init__
            raise AttributeError(name)
        if name == "adapt":  # Keras's way
            raise AttributeError(
                f"{self.spec.name} is not changed in place; write jl.adapt(it, data)", name=name
            )
        return getattr(self.function, name)

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec.kind, self.spec.name, dict(self.spec.arguments))


def _rebuild(kind: str, name: str, arguments: dict[str, Any]) -> Any:
    return Registry.of(kind).build(name, arguments)


class Registry:
    """The constructors of one kind, by name.

    A name is found in the form it was registered under or in snake case: `"HeNormal"` and `"he_normal"`.
    Names with a dot, such as `"applications.VGG16"`, are those of a group, which is loaded when it is asked
    for; `group` lists them, and the names of the registry leave them out.
    """

    def __init__(self, kind: str, plural: str | None = None, instead: Mapping[str, str] | None = None):
        self.kind = kind
        self.instead = dict(instead or {})  # by names of Keras that have another place here: what to write
        self.plural = plural or kind + "s"
        self._constructors: dict[str, Callable[..., Any]] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        self._by_key: dict[str, str] = {}
        self._loaders: dict[str, Callable[[], object]] = {}
        registries[kind] = self

    @staticmethod
    def of(kind: str) -> Registry:
        return registries[kind]

    @staticmethod
    def all() -> list[Registry]:
        return list(registries.values())

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(name for name in self._constructors if "." not in name))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._known(name) is not None

    def _known(self, name: str) -> str | None:
        group, dot, _ = name.partition(".")
        if dot and group in self._loaders:
            self._loaders[group]()
        return self._by_key.get(snake_case(name))

    def add_group(self, group: str, load: Callable[[], object]) -> None:
        """Let `load` register the names `group.name` once one of them is asked for."""
        self._loaders[group] = load

    def group(self, group: str) -> list[str]:
        """The names of a group, in order."""
        self._loaders[group]()
        return sorted(name for name in self._constructors if name.startswith(group + "."))

    @property
    def groups(self) -> list[str]:
        return list(self._loaders)

    def register(self, name: str, constructor: Callable[..., Any], *aliases: str) -> None:
        """Enter `constructor` under `name`; the same definition may be entered again (a reloaded module)."""
        for entry in (name, *aliases):
            known = self._by_key.get(snake_case(entry))
            if known is not None and _origin(self._constructors[known]) != _origin(constructor):
                raise ValueError(
                    f"the {self.kind} name {entry!r} is taken by {_origin(self._constructors[known])}; "
                    f"choose another name for {_origin(constructor)}"
                )
        entries = (name, *aliases)
        self._by_key.update({form: name for entry in entries for form in (entry, snake_case(entry))})
        self._constructors[name] = constructor

    def factory(self, *aliases: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator for a function whose arguments are options and whose result is the object."""

        def decorate(make: Callable[..., Any]) -> Callable[..., Any]:
            name = make.__name__
            signature = inspect.signature(make)

            @functools.wraps(make)
            def constructor(*args: Any, **kwargs: Any) -> Configured:
                bound = self.bind(name, signature, args, kwargs)
                try:
                    result = make(**bound)
                except (TypeError, ValueError) as error:
                    add_name(error, name, bound)
                    raise
                return Configured(result, Spec(self.kind, name, bound))

            self.register(name, constructor, *aliases)
            return constructor

        return decorate

    def function(self, *aliases: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator for a function of data whose further arguments are options, with defaults."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            name = function.__name__
            options = [p for p in inspect.signature(function).parameters.values() if p.default is not _EMPTY]

            def constructor(**kwargs: Any) -> Callable[..., Any]:
                return functools.partial(function, **kwargs) if kwargs else function

            vars(constructor)["__signature__"] = inspect.Signature(
                [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in options]
            )
            constructor.__module__, constructor.__qualname__ = (
                function.__module__,
                function.__qualname__,
            )
            constructor.__doc__ = function.__doc__
            constructor.__annotations__ = function.__annotations__
            self.register(name, constructor, *aliases)
            self._functions[name] = function
            return function

        return decorate

    @property
    def _a_kind(self) -> str:
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    def find(self, name: str) -> str:
        """The registered spelling of `name`; an unknown name is an error with the nearest ones."""
        if isinstance(name, str) and (known := self._known(name)):
            return known
        raise UnknownNameError(f"unknown {self.kind} {name!r}: {self.advice(name)}")

    def advice(self, name: object) -> str:
        """The advice for a name that is not registered: what to write in its place."""
        if name in self.instead:
            return f"write {self.instead[str(name)]}"
        return nearest(name, self.beside(name))

    def beside(self, name: object) -> Iterable[str]:
        """The names among which an unknown one is searched: those of its group, if it names one."""
        group, dot, _ = str(name).partition(".")
        return self.group(group) if dot and group in self._loaders else self

    def spellings(self, name: str) -> list[str]:
        """The registered name and its aliases, each followed by its snake-case form."""
        return list(dict.fromkeys([name, *(key for key, known in self._by_key.items() if known == name)]))

    if not TYPE_CHECKING:  # which would take any attribute to exist

        def __getattr__(self, name):
            own = vars(self)  # empty before __init__: copying and unpickling ask then, too
            table, names = f"the table of {own.get('plural')}", own.get("_constructors", ())
            if name in names:
                raise AttributeError(f"{table} gives its members as items: write [{name!r}] for .{name}")
            raise missing_name(table, name, names)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._constructors[self.find(name)]

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self[name]).parameters

    def bind(
        self, name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Every argument of a call by name, defaults included; a misfit teaches."""
        for argument in kwargs:
            if argument not in signature.parameters:
                raise TypeError(
                    f"{name} has no argument {argument!r} (received {argument}={kwargs[argument]!r}): "
                    f"{nearest(argument, signature.parameters)}"
                )
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            values = [p.replace(annotation=_EMPTY) for p in signature.parameters.values()]
            shown = inspect.Signature([p for p in values if p.name in kwargs or p.kind != p.KEYWORD_ONLY])
            raise TypeError(f"{name}: {error}; expected {name}{shown}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def build(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call the constructor called `name` with `arguments` by name."""
        return self[name](**(arguments or {}))

    def name_of(self, value: Any) -> str | None:
        """The name under which a plain function, or a `partial` of it, is registered here."""
        function = value.func if isinstance(value, functools.partial) else value
        return next((n for n, f in self._functions.items() if f is function), None)

    def get(self, value: Any) -> Any:
        """An object from its name, from `{name: arguments}`, or from the object itself; None stays None."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.build(value)
        if isinstance(value, Mapping):
            if len(value) != 1:
                raise ValueError(
                    f"expected one {self.kind} as {{name: {{argument: value}}}}, received {dict(value)!r}"
                )
            ((name, arguments),) = value.items()
            return self.build(name, arguments)
        if isinstance(value, type):
            raise TypeError(f"expected {self._a_kind}, received the class {value!r}: call it first")
        if not callable(value):
            raise TypeError(
                f"expected {self._a_kind} by name or as a function, received {value!r}: "
                f"{nearest(value, self)}"
            )
        every = (entry for table in Registry.all() for entry in table._constructors.items())
        if name := next((n for n, constructor in every if constructor is value), None):
            raise TypeError(f"expected {self._a_kind}, received the constructor {name}; call it: {name}(...)")
        spec = getattr(value, "spec", None)
        if isinstance(spec, Spec) and spec.kind != self.kind:
            raise TypeError(f"expected {self._a_kind}, received the {spec.kind} {value!r}")
        return value


def _origin(constructor: Callable[..., Any]) -> str:
    return f"{constructor.__module__}.{constructor.__qualname__}"
