"""Weights that Keras has saved: `.weights.h5`, the older `.h5` of weights or whole models, and `.keras`."""

from __future__ import annotations

import io
import itertools
import os
import pathlib
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np

from jlayers.core.errors import details_of
from jlayers.interop.limits import Budget, check_packed, member_of, open_zip, refused_file

__all__ = ["need_h5py", "open_hdf5", "read_keras"]

_WEIGHTS = "model.weights.h5"
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # those that HDF5 and h5py bring along
_MOST_DEPTH, _MOST_OBJECTS = 40, 200_000
_NO_WEIGHTS = ("optimizer", "compile_metrics", "loss_tracker", "seed_generator", "random_generator")


def read_keras(path: str | os.PathLike[str], *, needed: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file that Keras has written, by the names of layers and variables, without Keras.

    Read are `.weights.h5` and `.keras` of Keras 3, and HDF5 files of weights or whole models of any version.
    A `.weights.h5` numbers the variables of a layer: `conv1/0`; the others name them: `conv1/kernel`. The
    state of an optimizer and of random generators is left out.

    Args:
        path: path of the file.
        needed: the bytes of the arrays that are wanted, if known: a packed file may become a few times
            as much; otherwise a limited multiple of its own size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or of another kind, links to other files, uses filters that are not
            HDF5's own, or declares more than it holds.
        ImportError: h5py is not installed: `pip install 'jlayers[interop]'`.

    Source: the layouts follow `keras.src.saving`.

    >>> import h5py, pathlib, tempfile, jlayers as jl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "old.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file.attrs["layer_names"] = ["conv1"]
    ...     file.create_group("conv1").attrs["weight_names"] = ["conv1/kernel:0"]
    ...     file["conv1/conv1/kernel:0"] = np.zeros((3, 3, 1, 8))
    >>> {name: array.shape for name, array in jl.interop.read_keras(path).items()}
    {'conv1/kernel': (3, 3, 1, 8)}
    """
    path = pathlib.Path(path)
    if not zipfile.is_zipfile(path):
        return _read(path, path, needed)
    with open_zip(path, needed) as archive:
        if _WEIGHTS not in archive.namelist():
            raise refused_file(path, f"a zip file without {_WEIGHTS}, expected one that Keras has saved")
        content = member_of(path, archive, _WEIGHTS)
    return _read(path, io.BytesIO(content), needed)


def need_h5py() -> Any:
    """The module h5py.

    Raises:
        ImportError: it is not installed; the text says what to install.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError("Keras's files are read by h5py: pip install 'jlayers[interop]'") from None
    return h5py


def open_hdf5(path: Any, file: Any) -> Any:
    """An HDF5 file for reading.

    Raises:
        ValueError: a damaged file, or none of this kind.
    """
    h5py = need_h5py()
    try:
        return h5py.File(file, "r")
    except FileNotFoundError:
        raise
    except Exception as error:  # of h5py, by what is damaged
        raise refused_file(path, f"expected an HDF5 file ({error})") from None


def _read(path: pathlib.Path, file: Any, needed: int | None) -> dict[str, np.ndarray]:
    with open_hdf5(path, file) as root:
        reader = _Reader(path, Budget(path, path.stat().st_size, needed))
        try:
            inner = reader.member(root, "model_weights") if _has(root, "model_weights") else root
            named = "layer_names" in inner.attrs or "layer_names0" in inner.attrs
            return reader.named(inner) if named else reader.numbered(root)
        except ImportError:
            raise
        except Exception as error:  # of h5py, by what is damaged
            if details_of(error).file is not None:  # told already
                raise
            raise refused_file(path, f"a damaged HDF5 file ({error})") from None


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")  # as h5py reads them


def _has(group: Any, name: str) -> bool:
    """True for a link of this name. `name in group` would follow it, into other files, too."""
    return name not in (".", "..") and group.id.links.exists(_bytes(name))


class _Reader:
    """Follows an HDF5 file by its hard links only, and looks at what is declared before it is read."""

    def __init__(self, path: pathlib.Path, budget: Budget):
        self.path, self.budget, self.objects = path, budget, 0

    def member(self, group: Any, name: str) -> Any:
        """The object of this name directly inside a group."""
        h5py = need_h5py()
        self.objects += 1
        if self.objects > _MOST_OBJECTS:
            raise refused_file(self.path, f"more than {_MOST_OBJECTS:,} objects")
        kind = group.id.links.get_info(_bytes(name)).type if _has(group, name) else None
        if kind != h5py.h5l.TYPE_HARD:
            links = {None: "nothing", h5py.h5l.TYPE_SOFT: "a soft link"}
            kind = links.get(kind, "a link to another file")
            raise refused_file(self.path, f"expected data at {group.name}/{name}, received {kind}")
        return group[name]

    def inside(self, group: Any, where: str) -> Any:
        """The object at a path inside a group."""
        h5py = need_h5py()
        for part in filter(None, where.split("/")):
            if not isinstance(group, h5py.Group) or not _has(group, part):
                raise refused_file(self.path, f"{where!r} is listed as an array and missing")
            group = self.member(group, part)
        return group

    def array(self, data: Any, name: str) -> np.ndarray:
        """The values of a dataset."""
        h5py = need_h5py()
        if not isinstance(data, h5py.Dataset) or data.shape is None:
            raise refused_file(self.path, f"expected an array at {name!r}")
        if data.is_virtual or data.external:
            raise refused_file(self.path, f"{name!r} lies in another file")
        dtype, plan = data.dtype, data.id.get_create_plist()
        half = "bfloat16" in self.texts(data, "dtype")
        if dtype.kind not in "biufV" or (dtype.kind == "V" and not (half and dtype.itemsize == 2)):
            raise refused_file(self.path, f"{name!r} holds {dtype}, expected numbers")
        filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
        if unknown := [number for number in filters if number not in _FILTERS]:
            raise refused_file(self.path, f"{name!r} uses the filter {unknown[0]}, expected gzip or none")
        size = self.budget.spend(name, data.shape, dtype.itemsize)
        if data.chunks:  # each is unpacked whole
            self.budget.spend(name, data.chunks, dtype.itemsize)
        there = data.id.get_storage_size()
        if not filters and there < size:
            raise refused_file(self.path, f"{name!r} declares {size:,} bytes and holds {there:,}")
        check_packed(self.path, name, size, there)
        values = np.asarray(data[()])
        return values.view(jnp.bfloat16) if half and dtype.kind == "V" else values

    def named(self, root: Any) -> dict[str, np.ndarray]:
        """The older layout: lists of names beside the data."""
        found: dict[str, np.ndarray] = {}
        for layer in self.texts(root, "layer_names"):
            group = self.inside(root, layer)
            for weight in self.texts(group, "weight_names"):
                plain = weight.removesuffix(":0")
                name = plain if plain.startswith(f"{layer}/") else f"{layer}/{plain}"
                if name.split("/")[-2].startswith(_NO_WEIGHTS):
                    continue
                if name in found:
                    raise refused_file(self.path, f"two arrays of the name {name!r}")
                found[name] = self.array(self.inside(group, weight), name)
        return found

    def numbered(self, root: Any) -> dict[str, np.ndarray]:
        """Keras 3's layout: groups by class, with the layers' names beside the data."""
        h5py = need_h5py()
        found: dict[str, np.ndarray] = {}
        seen: set[Any] = set()

        def visit(group: Any, path: str, depth: int) -> None:
            place = h5py.h5o.get_info(group.id).addr
            if place in seen or depth > _MOST_DEPTH:
                raise refused_file(self.path, f"groups without end, at {path[:80]!r}")
            seen.add(place)
            for raw in sorted(group, key=_natural):
                if raw == "vars":
                    continue
                inner = self.member(group, raw)
                if not isinstance(inner, h5py.Group):
                    raise refused_file(self.path, f"expected Keras's groups, received data at {inner.name!r}")
                if raw.startswith(_NO_WEIGHTS) or (depth == 0 and raw.startswith("_")):
                    continue
                name = self.name_of(inner, raw)
                visit(inner, f"{path}/{name}".strip("/"), depth + 1)
            if _has(group, "vars"):
                values = self.member(group, "vars")
                if not isinstance(values, h5py.Group):
                    raise refused_file(self.path, f"expected a group at {values.name!r}")
                for number in sorted(values, key=_natural):
                    name = f"{path}/{number}".strip("/")
                    if name in found:
                        raise refused_file(self.path, f"two arrays of the name {name!r}")
                    found[name] = self.array(self.member(values, number), name)

        visit(root, "", 0)
        return found

    def name_of(self, group: Any, raw: str) -> str:
        """A layer's own name; '' for the container of a model's layers."""
        if not _has(group, "vars"):
            return "" if raw == "layers" else raw
        return next(iter(self.texts(self.member(group, "vars"), "name")), raw)

    def texts(self, place: Any, name: str) -> list[str]:
        """The texts in an attribute, which Keras cuts into numbered ones where there are many."""
        attributes = place.attrs
        numbered = itertools.takewhile(attributes.__contains__, (f"{name}{n}" for n in itertools.count()))
        parts: list[Any] = []
        for each in [name] if name in attributes else numbered:
            form = attributes.get_id(each)
            self.budget.spend(f"the list {each}", form.shape or (), form.dtype.itemsize)
            parts += np.atleast_1d(attributes[each]).tolist()
        return [part.decode() if isinstance(part, bytes) else str(part) for part in parts]


def _natural(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :][:18] or -1)
