"""Parameter trees by path: `{"dense": {"kernel": w}}` and `{"dense/kernel": w}`, and patterns over paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax

from jlayers.core.spelling import nearest

__all__ = [
    "above",
    "count",
    "flatten",
    "join",
    "map_with_path",
    "match",
    "match_layers",
    "nbytes",
    "unflatten",
]


def join(path: str, name: str) -> str:
    """The path of what is called `name` below `path`; '' is the root."""
    return f"{path}/{name}" if path else name


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as a flat one, `{path: leaf}`, in the order of the dicts.

    Raises:
        ValueError: two leaves of one path, such as `{"a/b": 1, "a": {"b": 2}}`.

    >>> flatten({"dense": {"kernel": 1, "bias": 2}})
    {'dense/kernel': 1, 'dense/bias': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}/{name}" if prefix else name
        for where, leaf in flatten(value, path).items() if isinstance(value, Mapping) else [(path, value)]:
            if where in flat:
                raise ValueError(f"two arrays stand under the path {where!r}: name them without '/'")
            flat[where] = leaf
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`; empty dicts are not kept.

    Raises:
        ValueError: one path continues where another ends, such as `a` and `a/b`.

    >>> unflatten({"dense/kernel": 1, "dense/bias": 2})
    {'dense': {'kernel': 1, 'bias': 2}}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"the path {path!r} continues where another one ends, at {parent!r}")
        if name in node:
            raise ValueError(f"the path {path!r} ends where another one continues")
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


def match(pattern: str, paths: Iterable[str]) -> list[str]:
    """The paths that `pattern` matches: `*` within one name, `?` one character, `**` any number of names.

    The time is at most the product of the lengths of pattern and path, whatever they hold.

    >>> match("base/**", ["base", "base/conv", "base/conv/deep", "head"])
    ['base', 'base/conv', 'base/conv/deep']
    >>> match("block*/conv", ["block1/conv", "block2/bn", "block2/deep/conv"])
    ['block1/conv']
    >>> match("**/conv", ["conv", "block2/deep/conv"])
    ['conv', 'block2/deep/conv']
    """
    names = pattern.split("/")
    return [path for path in paths if _fits(names, path.split("/"), "**", _name_fits)]


def _name_fits(pattern: str, name: str) -> bool:
    return pattern == name or _fits(pattern, name, "*", lambda p, c: p in ("?", c))


def _fits(pattern: Sequence[str], parts: Sequence[str], wild: str, fits: Callable[[str, str], bool]) -> bool:
    """True if the parts are those of the pattern one by one; `wild` stands for any number of parts.

    Each `wild` first takes nothing, and one part more whenever what follows it does not fit. Only the last
    `wild` can need more: so nothing is tried twice from the start.
    """
    at, i, retry, skipped = 0, 0, None, 0
    while i < len(parts):
        if at < len(pattern) and pattern[at] == wild:
            retry, skipped = at, i
            at += 1
        elif at < len(pattern) and fits(pattern[at], parts[i]):
            at, i = at + 1, i + 1
        elif retry is not None:
            skipped += 1
            at, i = retry + 1, skipped
        else:
            return False
    return all(part == wild for part in pattern[at:])


def above(path: str) -> Iterator[str]:
    """The paths of what is around the one at `path`, from the innermost to the root.

    >>> list(above("encoder/block/dense"))
    ['encoder/block', 'encoder', '']
    """
    while path:
        path = path.rpartition("/")[0]
        yield path


def match_layers(pattern: str, paths: Iterable[str]) -> list[str]:
    """The paths of layers that `pattern` matches.

    Raises:
        TypeError: something other than a text.
        ValueError: it matches none.
    """
    if not isinstance(pattern, str):
        raise TypeError(
            f"expected the path of a layer, or a pattern of paths, as a text, received pattern={pattern!r}; "
            f"give several one by one"
        )
    paths = list(paths)
    if not (found := match(pattern, paths)):
        raise ValueError(
            f"the pattern {pattern!r} matches no layer of the model: {nearest(pattern, filter(None, paths))}"
        )
    return found


def count(tree: Any) -> int:
    """The number of array elements in a pytree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
    """The bytes that the arrays of a pytree take."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
