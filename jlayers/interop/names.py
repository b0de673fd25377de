"""Names of arrays in a file as a tree of groups, after the renaming that a user asks for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlayers.core.errors import about, refused
from jlayers.core.spelling import nearest
from jlayers.interop.parts import roles_of, whole

__all__ = ["Entry", "Group", "Rename", "groups_of", "renamed"]

Rename = Mapping[str, str | None]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array, and the names of those in the file that it was made of: mostly one, its own."""

    sources: tuple[str, ...]
    array: np.ndarray


@dataclasses.dataclass
class Group:
    """The arrays that belong together, such as `kernel` and `bias`, and the groups inside, by name."""

    arrays: dict[str, Entry] = dataclasses.field(default_factory=dict)
    groups: dict[str, Group] = dataclasses.field(default_factory=dict)

    def walk(self, path: str = "") -> Any:
        """This group and all below it, each with its path."""
        yield path, self
        for name, group in self.groups.items():
            yield from group.walk(f"{path}/{name}" if path else name)


def renamed(arrays: Mapping[str, Any], rename: Rename | None) -> dict[str, Entry]:
    """The arrays under new names: of the patterns that match a name the first counts, None leaves it out.

    `*` stands for any characters but `/` and `.`, `**` for any; what they stood for takes the place of the
    same sign in the new name.

    Raises:
        ValueError: a pattern that matches nothing, or two arrays under one name.

    >>> list(renamed({"blocks.0.conv.weight": 1, "head.weight": 2}, {"blocks.*.**": "block*/**"}))
    ['block0/conv.weight', 'head.weight']
    """
    patterns = [(pattern, _expression(pattern), new) for pattern, new in (rename or {}).items()]
    unused = {pattern for pattern, _, _ in patterns}
    found: dict[str, Entry] = {}
    for name, array in arrays.items():
        target: str | None = name
        for pattern, expression, new in patterns:
            if hit := expression.fullmatch(name):
                unused.discard(pattern)
                target = None if new is None else _filled(pattern, new, hit.groups())
                break
        if target is None:
            continue
        if target in found:
            error = refused(
                ValueError,
                f"expected one array for each name, received {found[target].sources[0]!r} and {name!r} as "
                f"{target!r}",
                raised_by="load_weights",
            )
            raise about(error, rename=rename)
        found[target] = Entry((name,), np.asarray(array))
    if unused:
        first = next(pattern for pattern, _, _ in patterns if pattern in unused)
        error = refused(
            ValueError,
            "expected a pattern that matches an array of the source",
            instead=nearest(first, list(arrays)[:2000]),
            raised_by="load_weights",
            rename=first,
        )
        raise about(error, first, rename=rename)
    return found


_WILD = re.compile(r"\*\*|\*")


def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": "(.*)", "*": r"([^/.]*)"}.get(p, re.escape(p)) for p in parts))


def _filled(pattern: str, new: str, found: tuple[str, ...]) -> str:
    values = {sign: [] for sign in ("*", "**")}
    for sign, value in zip(_WILD.findall(pattern), found, strict=True):
        values[sign].append(value)

    def take(hit: re.Match[str]) -> str:
        if not values[hit[0]]:
            error = refused(
                ValueError,
                f"expected a new name with the same {hit[0]!r} as its pattern {pattern!r}",
                raised_by="load_weights",
                rename=new,
            )
            raise about(error, pattern, rename=new)
        return values[hit[0]].pop(0)

    return _WILD.sub(take, new)


def groups_of(entries: Mapping[str, Entry]) -> Group:
    """Names such as `block/conv/kernel`, or `block.conv.weight` where no name has a `/`, as a tree.

    What only some libraries write is brought to one form: a name that all arrays have in front, such as
    `module.`, goes away; the halves of a bidirectional layer and the parts of PyTorch's attention become
    groups of their own, and those of a parametrized weight belong to its layer.
    """
    separator = "/" if any("/" in name for name in entries) else "."
    root = Group()
    for name, entry in entries.items():
        *parents, last = name.split(separator)
        if separator == "/" and "." in last:  # a layer renamed, its array as PyTorch names it
            head, _, last = last.rpartition(".")
            parents += head.split(".")
        group = root
        for parent in parents:
            group = group.groups.setdefault(parent, Group())
        group.arrays[last] = entry
    for _, group in root.walk():
        _name_parts(group)
        _split_directions(group)
        _split_attention(group)
    return root


def _name_parts(group: Group) -> None:
    """The parts of a weight that PyTorch parametrizes, under the names that its older functions give them."""
    around = group.groups.get("parametrizations", Group())
    for name, parts in list(around.groups.items()):
        found = {
            f"{path}.{last}".strip("."): entry
            for path, inner in parts.walk()
            for last, entry in inner.arrays.items()
        }
        if roles := roles_of(set(found)):
            group.arrays |= {f"{name}_{role}": found[part] for part, role in roles.items()}
            del around.groups[name]
    if not around.groups:
        group.groups.pop("parametrizations", None)


_RECURRENT = re.compile(r"(weight|bias)_(ih|hh)(_l0)?(?P<reverse>_reverse)?(_(g|v|u|orig))?")
_PROJECTIONS = ("query", "key", "value")


def _split_attention(group: Group) -> None:
    """PyTorch's projections of queries, keys and values, in one matrix or in three, as groups."""
    _join_projections(group)
    for part in _PROJECTIONS:
        if entry := group.arrays.pop(f"{part[0]}_proj_weight", None):
            group.groups.setdefault(part, Group()).arrays["weight"] = entry
    for name in ("weight", "bias"):
        if entry := group.arrays.pop(f"in_proj_{name}", None):
            if entry.array.ndim == 0 or entry.array.shape[0] % 3:
                raise ValueError(
                    f"{entry.sources[0]}: expected 3 parts one below the other, received {entry.array.shape}"
                )
            for part, array in zip(_PROJECTIONS, np.split(entry.array, 3), strict=True):
                inner = group.groups.setdefault(part, Group())
                inner.arrays[name] = Entry(entry.sources, array)
    if "out_proj" in group.groups and "query" in group.groups:
        group.groups["attention_output"] = group.groups.pop("out_proj")


def _join_projections(group: Group) -> None:
    """Projections in parts as one matrix, before it is cut: the norm is that of the whole."""
    found = {n: e for n, e in group.arrays.items() if re.fullmatch(r"(in|q|k|v)_proj_weight_(g|v|u|orig)", n)}
    made, parts = whole({name: entry.array for name, entry in found.items()})
    for name, names in parts.items():
        sources = [source for part in names for source in group.arrays.pop(part).sources]
        group.arrays[name] = Entry(tuple(sources), made[name])


def _split_directions(group: Group) -> None:
    """Both directions of a recurrent layer as groups that have the names of `Bidirectional`'s children."""
    for name in list(group.groups):
        direction = name.partition("_")[0]
        if direction in ("forward", "backward"):
            group.groups.setdefault(f"{direction}_layer", group.groups.pop(name))
    both = [(name, hit["reverse"]) for name in group.arrays if (hit := _RECURRENT.fullmatch(name))]
    if any(reverse for _, reverse in both):
        for name, reverse in both:
            inner = group.groups.setdefault("backward_layer" if reverse else "forward_layer", Group())
            inner.arrays[name.replace("_reverse", "")] = group.arrays.pop(name)
