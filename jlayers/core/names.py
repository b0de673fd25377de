"""Names of the layers inside a container: what may be one, how unnamed layers get theirs and keep it.

A name is part of the paths of parameters and state, and the key from which a layer's weights are drawn.
"""

from __future__ import annotations

import re
import weakref
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jlayers.core.errors import refused
from jlayers.core.state import AUX_LOSS, AUX_METRICS, CARRY

if TYPE_CHECKING:
    from jlayers.core.base import Layer

__all__ = [
    "check_name",
    "check_names",
    "known_name",
    "name_number",
    "number_children",
    "remember",
    "unique_names",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_IN_STATE = {
    CARRY: "what one call hands to the next",
    AUX_LOSS: "a loss that training adds",
    AUX_METRICS: "values for the logs",
}

# The automatic name of each unnamed layer in the first container that it became a part of.
_first: weakref.WeakKeyDictionary[Layer, str] = weakref.WeakKeyDictionary()


def check_name(where: str, name: Any) -> None:
    """Raise an error if a layer may not have this name."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise refused(
            ValueError,
            "expected a name of letters, digits, '_', '-' and '.' (it becomes part of paths "
            "such as 'encoder/dense')",
            raised_by=where,
            name=name,
        )
    if name in _IN_STATE:
        raise refused(
            ValueError,
            f"expected another name, since a state holds {_IN_STATE[name]} under this one",
            raised_by=where,
            name=name,
        )


def check_names(where: str, names: Iterable[str]) -> None:
    """An error if the layers of one container may not have these names."""
    numbers: dict[int, str] = {}
    for name in names:
        check_name(where, name)
        other = numbers.setdefault(name_number(name), name)
        if other != name:
            raise ValueError(
                f"{where}: the names {other!r} and {name!r} have one checksum (CRC-32), from which the keys "
                f"of their layers are made: both would start with the same weights; rename one"
            )


def name_number(name: str) -> int:
    """The number by which the key of a container becomes the key of the child of this name."""
    return zlib.crc32(name.encode())


def known_name(layer: Layer) -> str | None:
    """The automatic name that the layer has in the first container that it became a part of."""
    return _first.get(layer.original or layer)


def remember(children: Mapping[str, Layer]) -> None:
    """Let unnamed layers keep the names that they have here, if they have none yet."""
    for name, child in children.items():
        if child.name is None:
            _first.setdefault(child.original or child, name)


def unique_names(
    members: Sequence[Layer], where: str, given: Mapping[Layer, str] = MappingProxyType({})
) -> dict[str, Layer]:
    """Children by name: the given ones, else `dense`, `dense_1`, ...; a layer used twice counts once.

    Args:
        members: the layers in order.
        where: whose children they are, for the error.
        given: names that stand before the layers' own.

    Raises:
        ValueError: two different layers have one name.
    """
    distinct = list(dict.fromkeys(members))
    owners: dict[str, Layer] = {}
    explicit = {m: name for m in distinct if (name := given.get(m, m.name)) is not None}
    for member, name in explicit.items():
        if name in owners:
            raise ValueError(
                f"{where}: two layers are named {name!r}: {owners[name]!r} and {member!r} (one without name= "
                f"keeps the name of the first model that it was in); rename one, or use the same layer "
                f"object twice to share its weights"
            )
        owners[name] = member
    names: dict[Layer, str] = {}
    used: Counter[str] = Counter()
    for member in distinct:
        name = explicit.get(member)
        if name is None:
            stem = member.spec.stem
            while True:
                name = f"{stem}_{used[stem]}" if used[stem] else stem
                used[stem] += 1
                if name not in owners:
                    break
            owners[name] = member
        names[member] = name
    return {names[member]: member for member in distinct}


def number_children(members: Sequence[Layer], where: str) -> dict[str, Layer]:
    """Children by name, in a container that does not write names down: there they follow from the order.

    Raises:
        ValueError: an unnamed layer has another automatic name in a container made before. The parameters
            of the one would put the weights of another layer into it in the other.
    """
    children = unique_names(members, where)
    for name, child in children.items():
        if child.name is None and (known_name(child) or name) != name:
            raise ValueError(
                f"{where}: expected a layer that is new or has a name, received {child!r}, which is "
                f"{known_name(child)!r} in a model made before and would be {name!r} here: weights of "
                f"one model would reach another layer in the other; make it with name={known_name(child)!r}"
            )
    remember(children)
    return children
