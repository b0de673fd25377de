"""Patterns of parameters' paths: which parameters an optimizer decays, trains, or leaves alone."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jlayers.core.errors import refused
from jlayers.core.spelling import nearest
from jlayers.core.tree import match

__all__ = ["MASKS", "Patterns", "beside_frozen", "fits_frozen", "mask_of", "paths_of"]

MASKS = {"mask", "weight_decay_mask", "trust_ratio_mask", "exclude"}  # arguments of optax's that are masks


_frozen: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("frozen", default=())


@contextlib.contextmanager
def beside_frozen(params: Any) -> Iterator[None]:
    """A block in which patterns may fit these parameters, too, which an optimizer is not given.

    They are frozen, perhaps only for some epochs: a pattern for them is no slip of the pen.
    """
    token = _frozen.set(tuple(paths_of(params)))
    try:
        yield
    finally:
        _frozen.reset(token)


def fits_frozen(pattern: str) -> bool:
    """True if a pattern fits a parameter that is frozen now; see `beside_frozen`."""
    return bool(match(pattern, _frozen.get()))


def mask_of(name: str, argument: str, value: Any) -> Any:
    """A mask as optax takes it; patterns of parameters' paths become a function."""
    patterns = [value] if isinstance(value, str) else value
    if isinstance(patterns, (list, tuple)) and all(isinstance(pattern, str) for pattern in patterns):
        return Patterns(name, argument, tuple(patterns))
    leaves = jax.tree.leaves(value)
    if value is None or callable(value) or all(isinstance(leaf, (bool, np.bool_)) for leaf in leaves):
        return value
    received: dict[str, Any] = {argument: value}
    raise refused(
        TypeError,
        "expected patterns of parameters' paths such as '**/kernel', a tree of true and false, or a function "
        "of the parameters",
        raised_by=name,
        **received,
    )


@dataclasses.dataclass(frozen=True)
class Patterns:
    """A mask that is true for the parameters whose paths fit a pattern."""

    name: str
    argument: str
    patterns: tuple[str, ...]

    def __call__(self, params: Any) -> Any:
        paths = paths_of(params)
        if paths and not any(match(one, paths) or fits_frozen(one) for one in self.patterns):
            received: dict[str, Any] = {self.argument: list(self.patterns)}
            raise refused(
                ValueError,
                "expected patterns that fit parameters, such as '**/kernel'",
                instead=nearest(self.patterns[0], paths) if self.patterns else "",
                raised_by=self.name,
                **received,
            )
        return self.among(params)

    def among(self, params: Any) -> Any:
        """The mask of parameters that may be a part of all."""
        paths = paths_of(params)
        found = {path for pattern in self.patterns for path in match(pattern, paths)}
        return jax.tree.unflatten(jax.tree.structure(params), [path in found for path in paths])


def paths_of(params: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
