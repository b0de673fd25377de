"""Matching the arrays of a source to those of a model: by names, or by order and shape."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import refused
from jlayers.core.shapes import describe
from jlayers.core.spelling import close_names
from jlayers.interop.layouts import Made, from_cudnn, from_torch, is_torch
from jlayers.interop.names import Entry, Group
from jlayers.interop.parts import LENGTH, SPECTRAL
from jlayers.interop.slots import Slot

__all__ = ["Matched", "by_names", "by_order"]

Index = Mapping[str, list[tuple[str, Group]]]

_IGNORED = ("num_batches_tracked", "seed_generator_state")


@dataclasses.dataclass
class Matched:
    """The arrays that were found for a model.

    Attributes:
        arrays: by the paths of the model, in its shapes.
        sources: for each of them the names of the arrays it was made of.
        misshapen: sentences about arrays that do not fit, by path.
        missing: paths for which there is nothing.
        extra: names of the source that nothing took.
    """

    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    misshapen: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)
    extra: list[str] = dataclasses.field(default_factory=list)

    def take(self, slot: Slot, entries: Mapping[str, Entry]) -> set[str]:
        """Give a layer the arrays of a group; the names that were used."""
        return self._give(slot, _for(slot, entries))

    def take_runs(self, slot: Slot, runs: Sequence[Mapping[str, Entry]]) -> set[str]:
        """Give a layer in a `Repeat` the arrays of a group for each of its runs; the names that were used."""
        made = [_for(slot.once, entries) for entries in runs]
        stacked: Made = {}
        for name in slot.wanted:
            parts = [each[name] for each in made if name in each]
            if len(parts) == len(runs):
                arrays = [array for array, _ in parts]
                alike = len({array.shape for array in arrays}) == 1
                names = [source for _, sources in parts for source in sources]
                stacked[name] = np.stack(arrays) if alike else arrays[0], names
        return self._give(slot, stacked)

    def _give(self, slot: Slot, made: Made) -> set[str]:
        used: set[str] = set()
        for name, spec in slot.wanted.items():
            path = slot.paths[name]
            if name not in made:
                self.missing.append(path)
                continue
            array, names = made[name]
            used |= set(names)
            if (
                array.shape == (1,) * (array.ndim - len(spec.shape)) + spec.shape
            ):  # as PyTorch's users write it
                array = array.reshape(spec.shape)
            if problem := _problem(array, spec):
                shown = " and ".join(names)
                self.misshapen[path] = f"expected {path} as {describe(spec)}, {shown} gives {problem}"
                continue
            self.arrays[path] = array.astype(spec.dtype)
            self.sources[path] = tuple(names)
        return used

    def lack(self, slot: Slot) -> None:
        """Note that there is nothing for a layer."""
        self.missing.extend(slot.paths.values())

    def problems(self, most: int = 20) -> list[str]:
        """A sentence for each array that is missing, does not fit or was not used, at most so many."""
        guesses = self.extra[:2000]
        shown = [
            *(
                f"missing {path}" + (_alike(path, guesses) if n < most else "")
                for n, path in enumerate(self.missing)
            ),
            *self.misshapen.values(),
            *(f"unused {name}" for name in self.extra),
        ]
        more = len(shown) - most
        return shown[:most] + ([f"and {more} more"] if more > 0 else [])


def _alike(path: str, names: Sequence[str]) -> str:
    """The names of the source that are spelled like a path, if there are any; all others are listed later."""
    near = close_names(path, names)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _problem(array: np.ndarray, spec: Any) -> str:
    """A misfit in words: another shape, or numbers that the dtype does not hold."""
    floating = jnp.issubdtype(array.dtype, jnp.floating) and jnp.issubdtype(spec.dtype, jnp.floating)
    if array.shape == spec.shape and (array.dtype == spec.dtype or floating):
        return ""
    return describe(array)


def _for(slot: Slot, entries: Mapping[str, Entry]) -> Made:
    """The arrays of a group under the names of a layer, each with its names in the source."""
    entries = {name: entry for name, entry in entries.items() if name not in _IGNORED}
    wanted = slot.wanted
    if set(wanted) == {"vector_u"} and set(entries) == {"0", "1"}:  # to Keras the kernel inside is here, too
        return {"vector_u": (entries["1"].array, [*entries["0"].sources, *entries["1"].sources])}
    if entries and is_torch(entries) and not set(wanted) <= set(entries):
        made = from_torch(slot.kinds, {name: e.array for name, e in entries.items()}, wanted)
        sources = {name.removesuffix("_l0"): entry.sources for name, entry in entries.items()}
        return {
            name: (array, [s for part in parts for s in sources[part]])
            for name, (array, parts) in made.items()
        }
    if other := from_cudnn(slot.kinds, {name: entry.array for name, entry in entries.items()}):
        return {name: (other[name], [*entries[name].sources]) for name in wanted if name in other}
    numbered = len(entries) == len(wanted) and not set(entries) & set(wanted)
    if numbered and (all(name.isdigit() for name in entries) or _fit_in_order(entries, wanted)):
        if all(name.isdigit() for name in entries):
            entries = dict(sorted(entries.items(), key=lambda item: int(item[0])))
        entries = dict(zip(wanted, entries.values(), strict=True))
    return {name: (entries[name].array, [*entries[name].sources]) for name in wanted if name in entries}


def _fit_in_order(entries: Mapping[str, Entry], wanted: Mapping[str, Any]) -> bool:
    pairs = zip(entries.values(), wanted.values(), strict=True)
    return all(entry.array.shape == spec.shape for entry, spec in pairs)


def by_names(slots: Sequence[Slot], root: Group, fixed: Mapping[str, Any] = MappingProxyType({})) -> Matched:
    """Each layer takes the group of its path, or else the only group whose path ends as its own does.

    Args:
        slots: the layers.
        root: the arrays of the source.
        fixed: by path the arrays that a layer has as arguments; what the source has for it must be equal.
            None in place of the arrays takes anything.
    """
    matched, used = Matched(), set[str]()
    taken: set[int] = set()
    _split_norms(slots, root)
    index = _index(root)
    for slot in slots:
        found = _runs(slot, root, index) or [_found(slot, slot.path, root, index)]
        found = [_inner(group) if group and id(group) in taken else group for group in found]
        groups = [group for group in found if group is not None and id(group) not in taken]
        taken |= set(map(id, groups))
        if len(groups) < len(found):
            matched.lack(slot)
        elif len(groups) > 1:
            used |= matched.take_runs(slot, [group.arrays for group in groups])
        else:
            used |= matched.take(slot, groups[0].arrays)
    for path, arrays in fixed.items():
        if group := _named(path, root, index):
            used |= {source for entry in group.arrays.values() for source in entry.sources}
            matched.misshapen.update(_differing(path, arrays, group))
    matched.extra = _unused(root, used)
    return matched


def _differing(path: str, arrays: Mapping[str, Any] | None, group: Group) -> Iterator[tuple[str, str]]:
    """Sentences about arguments of a layer that are not what the source has for it."""
    found = dict(zip(("mean", "variance"), group.arrays.values(), strict=False))
    for name, value in (arrays or {}).items():
        there = found[name].array.squeeze() if name in found else None
        if there is None or value is None or not np.allclose(there, np.squeeze(value), rtol=1e-3, atol=1e-6):
            shown = "nothing" if there is None else there.tolist()
            yield f"{path}/{name}", f"expected {path} with {name}={shown}, as the source has it, not {value}"


def _index(root: Group) -> dict[str, list[tuple[str, Group]]]:
    """The groups by the last part of their paths."""
    index: dict[str, list[tuple[str, Group]]] = {}
    for path, group in root.walk():
        index.setdefault(path.rpartition("/")[2], []).append((path, group))
    return index


def _runs(slot: Slot, root: Group, index: Index) -> list[Group | None] | None:
    """For a layer in a `Repeat` its groups in numbered blocks; None where there are none, or not as many."""
    around = None if slot.repeat is None else _named(slot.repeat, root, index, bare=True)
    if slot.repeat is None or around is None:
        return None
    numbers = sorted((name for name in around.groups if name.isdigit()), key=int)
    if len(numbers) != slot.times:
        return None
    inside = slot.path.removeprefix(slot.repeat).removeprefix("/").partition("/")[2]  # without "layer"
    blocks = [around.groups[number] for number in numbers]
    return [_found(slot, inside, block, _index(block)) for block in blocks]


def _found(slot: Slot, path: str, root: Group, index: Index) -> Group | None:
    """The group of a layer; where PyTorch has two convolutions for a separable one, both as one group."""
    group = _named(path, root, index)
    if group is not None or not any(kind.startswith("SeparableConv") for kind in slot.kinds):
        return group
    pair = _named(path, root, index, bare=True)
    return None if pair is None else _joined(list(pair.groups.values()))


def _inner(group: Group) -> Group:
    """What a wrapper with arrays of its own wraps; in Keras's older files it has any name."""
    return (_descend(next(iter(group.groups.values())), ()) or group) if len(group.groups) == 1 else group


# By the kind of a layer that keeps a norm beside a kernel: PyTorch's function, and the parts that it keeps.
_NORMS = {
    "SpectralNormalization": ("spectral_norm", SPECTRAL),
    "WeightNormalization": ("weight_norm", LENGTH),
}


def _split_norms(slots: Sequence[Slot], root: Group) -> None:
    """The parts of PyTorch's norms as two groups where the model keeps both: the norm, and what it is of."""
    ours = [(slot, kind) for slot in slots for kind in slot.kinds if kind in _NORMS and slot.repeat is None]
    index = _index(root) if ours else {}
    for slot, kind in ours:
        theirs, roles = _NORMS[kind]
        group = _named(slot.path, root, index)
        parts = [f"weight_{role}" for role in roles]
        if group is None or not set(parts) <= set(group.arrays):
            continue
        inner = slot.layer.children["layer"]
        if not any(re.fullmatch(r"Dense|Conv\dD", spec.name) for spec in inner.specs):
            raise refused(
                ValueError,
                f"expected PyTorch's {theirs} of a Linear or a Conv for {slot.path!r}, received that of a "
                f"layer for {inner.spec.name}, where it is the norm of another matrix",
                instead=f"load it into {inner.spec.name} itself, as a finished kernel",
                raised_by="load_weights",
            )
        own = {part: group.arrays.pop(part) for part in parts}
        weight = own.pop("weight_orig" if kind == "SpectralNormalization" else "weight_v")
        sources = tuple(source for entry in own.values() for source in entry.sources)
        vector = next(iter(own.values())).array.ravel()
        group.groups["layer"] = Group({"weight": weight, **group.arrays})
        if kind == "SpectralNormalization":
            group.arrays = {"vector_u": Entry(sources, vector[None])}
        else:
            group.arrays = {"g/kernel": Entry(sources, vector)}


def _joined(groups: Sequence[Group]) -> Group | None:
    """A depthwise convolution and one over single positions of PyTorch as the parts of one layer."""
    if len(groups) != 2 or not all("weight" in group.arrays for group in groups):
        return None
    shapes = [group.arrays["weight"].array.shape for group in groups]
    if min(map(len, shapes)) < 3 or shapes[0][1] != 1 or set(shapes[1][2:]) != {1}:
        return None
    parts = zip(("depthwise", "pointwise"), groups, strict=True)
    return Group({f"{part}_{name}": entry for part, group in parts for name, entry in group.arrays.items()})


def _named(path: str, root: Group, index: Index, bare: bool = False) -> Group | None:
    """The group of this path, or the only one whose path ends so; `bare`, even if it has no arrays itself."""
    names = path.split("/") if path else []
    if group := _descend(root, names, bare):
        return group
    for start, name in enumerate(names):
        ends = [
            found
            for where, group in index.get(name, [])
            if _agree(where.split("/"), names[: start + 1])
            and (found := _descend(group, names[start + 1 :], bare))
        ]
        if len(ends) == 1:
            return ends[0]
    return None


def _agree(one: list[str], other: list[str]) -> bool:
    """True if one of two paths ends in the other: they differ only in the layers around."""
    n = min(len(one), len(other))
    return one[-n:] == other[-n:]


def _descend(group: Group, names: Sequence[str], bare: bool = False) -> Group | None:
    """The group with arrays at the end of the path; a cell, or what a wrapper wraps, may have any name."""
    for name in names:
        only = next(iter(group.groups.values())) if len(group.groups) == 1 else None
        inner = group.groups.get(name) or (only if name in ("layer", "cell") else None)
        if inner is None and name == "layer" and group.groups:  # a wrapper that the source does not have
            inner = group
        if inner is None:
            return None
        group = inner
    while not group.arrays and len(group.groups) == 1 and not (bare and next(iter(group.groups)).isdigit()):
        group = next(iter(group.groups.values()))
    return group if group.arrays or bare else None


def _unused(root: Group, used: set[str]) -> list[str]:
    """The names in the source of the arrays that no layer took."""
    entries = [item for _, group in root.walk() for item in group.arrays.items()]
    names = [source for name, entry in entries if name not in _IGNORED for source in entry.sources]
    return [name for name in dict.fromkeys(names) if name not in used]


class _Queue:
    """The arrays of a source in order, a portion for each layer: a group, or as many arrays as it wants."""

    def __init__(self, entries: Mapping[str, Entry], root: Group):
        self.grouped = bool(root.groups)
        groups = [g for _, g in root.walk() if any(name not in _IGNORED for name in g.arrays)]
        self.left: list[Any] = (
            groups if self.grouped else [e for n, e in entries.items() if n not in _IGNORED]
        )

    def _next(self, slot: Slot) -> tuple[int, Mapping[str, Entry]]:
        """The arrays of the rest that are for this layer, and their names."""
        if not self.grouped:
            mine = dict(zip(slot.wanted, self.left, strict=False))
            return len(mine), mine
        pair = _joined(self.left[:2])
        if pair and any(kind.startswith("SeparableConv") for kind in slot.kinds):
            return 2, pair.arrays
        return 1, self.left[0].arrays if self.left else {}

    def fits(self, slot: Slot) -> bool:
        """True if what is next has the shapes that a layer wants."""
        made = _for(slot, self._next(slot)[1])
        return all(name in made and made[name][0].shape == spec.shape for name, spec in slot.wanted.items())

    def pop(self, slot: Slot) -> Mapping[str, Entry]:
        """What is next; nothing at the end."""
        count, portion = self._next(slot)
        del self.left[:count]
        return portion


def by_order(slots: Sequence[Slot], entries: Mapping[str, Entry], root: Group) -> Matched:
    """The layers take the groups one after the other; without groups, the arrays one after the other.

    For a layer inside a `Repeat` the source has one group with the arrays of all runs, as we save them, or
    what each run has, run by run.
    """
    matched, used, queue = Matched(), set[str](), _Queue(entries, root)
    for _, members in itertools.groupby(slots, key=lambda slot: slot.repeat):
        inside = list(members)
        times = 1 if inside[0].repeat is None or queue.fits(inside[0]) else inside[0].times
        if times == 1:
            runs = [[queue.pop(slot) for slot in inside]]
        else:
            runs = [[queue.pop(slot.once) for slot in inside] for _ in range(times)]
        for slot, portions in zip(inside, zip(*runs, strict=True), strict=True):
            if not all(portions):
                matched.lack(slot)
            elif times == 1:
                used |= matched.take(slot, portions[0])
            else:
                used |= matched.take_runs(slot, portions)
    matched.extra = _unused(root, used)
    return matched
