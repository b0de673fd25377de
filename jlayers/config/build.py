"""From calls to objects: each constructor is called, and its errors get file, line and path."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jlayers.config.derive import Entry
from jlayers.config.errors import ConfigError, Path, Problem
from jlayers.config.reader import Document
from jlayers.core.errors import details_of, text_of
from jlayers.core.layer import Layer

__all__ = ["Builder"]

# Kinds that stay names when they are written as names: whoever takes them looks them up, and shows the name.
_BY_NAME = {"activation", "initializer", "regularizer", "constraint", "loss", "metric"}

# Arguments of `fit` that are not settings themselves, and the settings that decide about them.
_DECIDED_BY: Mapping[str | int, Path] = {
    **dict.fromkeys(("x", "y", "sample_weight"), ("data",)),
    "validation_data": ("training", "validation"),
    "checkpoints": ("training", "checkpoint"),
}


class Builder:
    """Makes objects out of calls, and remembers where in the document each layer stands."""

    def __init__(self, document: Document):
        self.document = document
        self.places: dict[Layer, Path] = {}

    def build(self, value: Any, path: Path = ()) -> Any:
        """The value with all calls in it made, those inside first.

        Raises:
            ConfigError: a constructor refused its arguments.
        """
        if isinstance(value, Entry):
            return self._call(value, path)
        if isinstance(value, Mapping):
            return self.each(value, path)
        if isinstance(value, (list, tuple)):
            return type(value)(self.each(dict(enumerate(value)), path).values())
        return value

    def each(self, values: Mapping[Any, Any], path: Path) -> dict[Any, Any]:
        """Every value built; the faults of all of them are reported at once."""
        built: dict[Any, Any] = {}
        problems: list[Problem] = []
        for key, value in values.items():
            try:
                built[key] = self.build(value, (*path, key))
            except ConfigError as error:
                problems.extend(error.problems)
        if problems:
            raise ConfigError(problems)
        return built

    def _call(self, call: Entry, path: Path) -> Any:
        below = (*path, call.name) if call.kind else path
        arguments = self.each(call.arguments, below)
        if call.text is not None and call.kind in _BY_NAME:
            return call.text
        with self.located(below, arguments):
            made = call.make(**arguments)
        if isinstance(made, Layer):
            self.places[made] = below
        return made

    @contextlib.contextmanager
    def located(self, path: Path, arguments: Collection[str] = ()) -> Iterator[None]:
        """Errors of a call as `ConfigError`s at a path, or at the part of an argument that was refused."""
        try:
            yield
        except ConfigError:
            raise
        except (ValueError, TypeError, KeyError, ImportError, OSError) as error:
            details = details_of(error)
            if details.argument in arguments:
                path = (*path, *details.place)
            elif path[-1:] == (details.argument,):  # the path is that of the argument itself
                path = (*path, *details.inside)
            raise ConfigError([self.document.problem(text_of(error), path)]) from error

    @contextlib.contextmanager
    def located_layer(self, model: Layer, path: Path) -> Iterator[None]:
        """Errors that a layer raised while the model ran as `ConfigError`s at the layer's place.

        Those of a setting, such as the loss, stand at the setting, and those of the samples at `data`. All
        others pass.
        """
        try:
            yield
        except ConfigError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            details = details_of(error)
            if details.path is not None:
                layer = dict(model.walk()).get(details.path)
                if layer is not None:
                    path = self.places.get(layer.original or layer, path)
                elif details.path.partition("/")[0] == "augment":
                    path = ("augment",)
            elif (setting := self._setting(details.place)) is not None:
                path = setting
            else:
                raise
            text = "\n  ".join(filter(None, [text_of(error), details.note]))
            raise ConfigError([self.document.problem(text, path)]) from error

    def _setting(self, place: Path) -> Path | None:
        """The path of the setting that decides about this part of an argument of `fit`; None if none does."""
        settings, training = self.document.data, self.document.data.get("training") or {}
        if not place:
            return None
        if place[0] in settings:
            return place
        if place[0] in _DECIDED_BY:
            path = _DECIDED_BY[place[0]]
            return path if path[0] in settings else None
        return ("training", *place) if place[0] in training else None
