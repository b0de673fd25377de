"""Parameter trees by path: `{"dense": {"kernel": w}}` and `{"dense/kernel": w}`, and patterns over paths."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax

__all__ = ["count", "flatten", "map_with_path", "match", "nbytes", "unflatten"]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one, `{path: leaf}`, in the order of the dicts.

    >>> flatten({"dense": {"kernel": 1, "bias": 2}})
    {'dense/kernel': 1, 'dense/bias': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            flat.update(flatten(value, path))
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`; empty dicts are not kept.

    >>> unflatten({"dense/kernel": 1, "dense/bias": 2})
    {'dense': {'kernel': 1, 'bias': 2}}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def map_with_path(function: Any, tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The nested dict of `function(path, leaf)`.

    >>> map_with_path(lambda path, leaf: path, {"dense": {"kernel": 1}})
    {'dense': {'kernel': 'dense/kernel'}}
    """
    mapped = {}
    for name, value in tree.items():
        path = f"{prefix}/{name}" if prefix else name
        nested = isinstance(value, Mapping)
        mapped[name] = map_with_path(function, value, path) if nested else function(path, value)
    return mapped


@functools.lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = []
    segments = pattern.split("/")
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        if segment == "**":
            parts.append(".*" if last else "(?:[^/]+/)*")
            if last and parts[:-1]:  # "base/**" holds base itself, too
                parts[-2:] = [parts[-2].removesuffix("/"), "(?:/.*)?"]
        else:
            escaped = re.escape(segment).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            parts.append(escaped + ("" if last else "/"))
    return re.compile("".join(parts))


def match(pattern: str, paths: Iterable[str]) -> list[str]:
    """The paths that `pattern` matches: `*` within one name, `**` any number of names.

    >>> match("base/**", ["base", "base/conv", "base/conv/deep", "head"])
    ['base', 'base/conv', 'base/conv/deep']
    >>> match("block*/conv", ["block1/conv", "block2/bn", "block2/deep/conv"])
    ['block1/conv']
    >>> match("**/conv", ["conv", "block2/deep/conv"])
    ['conv', 'block2/deep/conv']
    """
    regex = _regex(pattern)
    return [path for path in paths if regex.fullmatch(path)]


def count(tree: Any) -> int:
    """The number of array elements in a pytree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
    """The bytes that the arrays of a pytree take."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
