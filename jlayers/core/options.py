"""Frozen paths and policies, handed from a layer to those inside it and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from jlayers.core.policy import Policy
from jlayers.core.tree import join

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = ["by_child", "of_children"]


def by_child(
    frozen: Iterable[str], precision: Mapping[str, Policy]
) -> Mapping[str, tuple[set[str], dict[str, Policy]]]:
    """For each child the frozen paths and the policies at or under it, relative to it."""
    inside: dict[str, tuple[set[str], dict[str, Policy]]] = defaultdict(lambda: (set(), {}))
    for path in filter(None, frozen):
        name, _, rest = path.partition("/")
        inside[name][0].add(rest)
    for path, policy in precision.items():
        if path:
            name, _, rest = path.partition("/")
            inside[name][1][rest] = policy
    return inside


def of_children(children: Mapping[str, Layer]) -> tuple[frozenset[str], dict[str, Policy]]:
    """The frozen paths and the policies of children, relative to their parent."""
    each = [(name, child) for name, child in children.items()]
    frozen = frozenset(join(name, path).rstrip("/") for name, child in each for path in child.frozen)
    precision = {join(n, path).rstrip("/"): policy for n, c in each for path, policy in c.precision.items()}
    return frozen, precision
